"""Oxford Flowers (Nilsback and Zisserman, 2008): 102 species. Its official lists, small to train, are not the field's."""

from itertools import count

from dassl.data.datasets import DATASET_REGISTRY

from .base import Benchmark
from .splits import Item, divide, read_names


@DATASET_REGISTRY.register()
class OxfordFlowers(Benchmark):
    dataset_dir = "oxford_flowers"
    image_dir = "jpg"
    split_file = "split_zhou_OxfordFlowers.json"
    images = 8189
    template = "a photo of a {}, a type of flower."

    def read_original(self):
        names = read_names(self.annotation_file("cat_to_name.json"))
        numbers = count(1)

        def flower(label) -> Item:
            """The labels (from 1) are those of image_00001.jpg, image_00002.jpg and so on."""
            return Item(f"image_{next(numbers):05d}.jpg", int(label) - 1, names[str(int(label))])

        return divide(self.check_whole(self.read_list("imagelabels.mat", flower, key="labels")))
