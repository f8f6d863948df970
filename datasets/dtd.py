"""Describable Textures (Cimpoi et al., 2014): 47 adjectives. Its ten official divisions are not the field's."""

from dassl.data.datasets import DATASET_REGISTRY

from .base import Benchmark
from .splits import divide, read_folders


@DATASET_REGISTRY.register()
class DescribableTextures(Benchmark):
    dataset_dir = "dtd"
    image_dir = "images"
    split_file = "split_zhou_DescribableTextures.json"
    images = 5640
    template = "{} texture."

    def read_original(self):
        return divide(self.check_whole(read_folders(self.image_dir)))
