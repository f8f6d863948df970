"""Food-101 (Bossard et al., 2014): 101 dishes. Its official lists, in `meta/`, are not the field's."""

from dassl.data.datasets import DATASET_REGISTRY

from .base import Benchmark
from .splits import divide, read_folders


@DATASET_REGISTRY.register()
class Food101(Benchmark):
    dataset_dir = "food-101"
    image_dir = "images"
    split_file = "split_zhou_Food101.json"
    images = 101_000
    template = "a photo of {}, a type of food."

    def read_original(self):
        return divide(self.check_whole(read_folders(self.image_dir)))
