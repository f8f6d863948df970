"""EuroSAT (Helber et al., 2019): kinds of land in Sentinel-2 pictures, with CoOp's names."""

from dassl.data.datasets import DATASET_REGISTRY

from .base import Benchmark
from .sources import Archive, File, Mirror, Way
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
    display_name = "EuroSAT"
    classes = 10
    rows = (13_500, 5400, 8100)
    dataset_dir = "eurosat"
    image_dir = "2750"
    split_file = "split_zhou_EuroSAT.json"
    template = "a centered satellite photo of {}."
    sources = (
        File(
            split_file,
            (Way("drive:1Ip7yaCWFi0eaOFUGga0lUdVi_DDQth1o"),),
            entries=rows,
            sha256="541503a77d0b26b735d85ec7a3e672804fe0aa466c2e5f07da772cc6c0af8ad2",
        ),
        Archive(
            "EuroSAT.zip",
            tuple(
                Way(url, 94_280_567, "md5:c8fa014336c82ac7804f0398fcb19387")
                for url in (
                    "https://huggingface.co/datasets/torchgeo/eurosat/resolve/c877bcd43f099cd0196738f714544e355477f3fd/EuroSAT.zip",
                    "https://madm.dfki.de/files/sentinel/EuroSAT.zip",
                )
            ),
            members={image_dir: "2750"},
            images={image_dir: sum(rows)},
        ),
    )
    mirror = Mirror("eurosat.zip")

    def read_original(self):
        return divide(self.check_whole(read_folders(self.image_dir, NAMES)))
