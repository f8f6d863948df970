"""EuroSAT (Helber et al., 2019): ten kinds of land in Sentinel-2 pictures, with CoOp's names."""

from dassl.data.datasets import DATASET_REGISTRY

from .base import Benchmark
from .splits import divide, read_folders

NAMES = {
    "AnnualCrop": "Annual Crop Land",
    "Forest": "Forest",
    "HerbaceousVegetation": "Herbaceous Vegetation Land",
    "Highway": "Highway or Road",
    "Industrial": "Industrial Buildings",
    "Pasture": "Pasture Land",
    "PermanentCrop": "Permanent Crop Land",
    "Residential": "Residential Buildings",
    "River": "River",
    "SeaLake": "Sea or Lake",
}


@DATASET_REGISTRY.register()
class EuroSAT(Benchmark):
    dataset_dir = "eurosat"
    image_dir = "2750"
    split_file = "split_zhou_EuroSAT.json"
    images = 27_000
    template = "a centered satellite photo of {}."

    def read_original(self):
        return divide(self.check_whole(read_folders(self.image_dir, NAMES)))
