"""Oxford-IIIT Pets (Parkhi et al., 2012): 37 breeds of cats and dogs."""

from dassl.data.datasets import DATASET_REGISTRY

from .base import Benchmark
from .splits import Item


@DATASET_REGISTRY.register()
class OxfordPets(Benchmark):
    dataset_dir = "oxford_pets"
    image_dir = "images"
    split_file = "split_zhou_OxfordPets.json"
    images = 7349
    template = "a photo of a {}, a type of pet."

    def read_original(self):
        return self.held_out(
            trainval=self.read_list("annotations/trainval.txt", pet),
            test=self.read_list("annotations/test.txt", pet),
        )


def pet(line: str) -> Item:
    """Image, class (from 1), species and breed within it: `great_pyrenees_12 16 2 10`."""
    image, label, _, _ = line.split()
    return Item(f"{image}.jpg", int(label) - 1, image.rpartition("_")[0].lower())
