"""Caltech101 (Fei-Fei et al., 2004): 100 classes, without the background and the easy faces."""

from dassl.data.datasets import DATASET_REGISTRY

from .base import Benchmark
from .splits import divide, read_folders

IGNORED = ("BACKGROUND_Google", "Faces_easy")
RENAMED = {"airplanes": "airplane", "Faces": "face", "Leopards": "leopard", "Motorbikes": "motorbike"}


@DATASET_REGISTRY.register()
class Caltech101(Benchmark):
    dataset_dir = "caltech-101"
    image_dir = "101_ObjectCategories"
    split_file = "split_zhou_Caltech101.json"
    images = 8242

    def read_original(self):
        folders = read_folders(self.image_dir, lambda name: RENAMED.get(name, name), IGNORED)
        return divide(self.check_whole(folders))
