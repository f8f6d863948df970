"""FGVC Aircraft (Maji et al., 2013): 100 variants, divided by its authors."""

from dassl.data.datasets import DATASET_REGISTRY

from .base import Benchmark
from .splits import PARTS, Item


@DATASET_REGISTRY.register()
class FGVCAircraft(Benchmark):
    dataset_dir = "fgvc_aircraft"  # the archive's folder `data`
    image_dir = "images"
    images = 10_000
    template = "a photo of a {}, a type of aircraft."

    def read_original(self):
        labels = {name: label for label, name in enumerate(self.read_rows("variants.txt", str))}

        def aircraft(line: str) -> Item:
            """Image and variant: `0787226 A340-300`."""
            image, name = line.split(" ", 1)
            return Item(f"{image}.jpg", labels[name], name)

        split = {part: self.read_list(f"images_variant_{part}.txt", aircraft) for part in PARTS}
        self.check_whole([item for items in split.values() for item in items])
        return split
