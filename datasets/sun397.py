"""SUN397 (Xiao et al., 2010): 397 scenes, by the first of its ten official divisions."""

from dassl.data.datasets import DATASET_REGISTRY

from .base import Benchmark
from .splits import Item


@DATASET_REGISTRY.register()
class SUN397(Benchmark):
    dataset_dir = "sun397"
    image_dir = "SUN397"
    split_file = "split_zhou_SUN397.json"
    images = 39_700

    def read_original(self):
        labels = {folder: label for label, folder in enumerate(self.read_rows("ClassName.txt", str))}

        def scene(line: str) -> Item:
            """`/a/apartment_building/outdoor/sun_ab.jpg` is an "outdoor apartment_building"."""
            folder = line.rpartition("/")[0]
            _, _letter, *words = folder.split("/")
            return Item(line.removeprefix("/"), labels[folder], " ".join(reversed(words)))

        return self.held_out(
            trainval=self.read_list("Training_01.txt", scene), test=self.read_list("Testing_01.txt", scene)
        )
