"""Caltech101 (Fei-Fei et al., 2004): 100 classes, without the background and the easy faces."""

from dassl.data.datasets import DATASET_REGISTRY

from .base import Benchmark


@DATASET_REGISTRY.register()
class Caltech101(Benchmark):
    dataset_dir = "caltech-101"
    image_dir = "101_ObjectCategories"
    split_file = "split_zhou_Caltech101.json"
    template = "a photo of a {}."
