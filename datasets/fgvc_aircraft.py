"""FGVC Aircraft (Maji et al., 2013): variants of aircraft, divided by its authors."""

from dassl.data.datasets import DATASET_REGISTRY

from .base import Benchmark
from .sources import Archive, Mirror, Way
from .splits import PARTS, Item


@DATASET_REGISTRY.register()
class FGVCAircraft(Benchmark):
    display_name = "FGVC Aircraft"
    classes = 100
    rows = (3334, 3333, 3333)
    dataset_dir = "fgvc_aircraft"  # the archive's folder `data`
    image_dir = "images"
    template = "a photo of a {}, a type of aircraft."
    sources = (
        Archive(
            "fgvc-aircraft-2013b.tar.gz",
            (
                Way(
                    "https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/archives/fgvc-aircraft-2013b.tar.gz",
                    digest="md5:d4acdd33327262359767eeaa97a4f732",
                ),
            ),
            gigabytes=2.8,
            members={
                name: f"fgvc-aircraft-2013b/data/{name}"
                for name in (
                    "variants.txt",
                    "images_variant_train.txt",
                    "images_variant_val.txt",
                    "images_variant_test.txt",
                    "images",
                )
            },
            images={image_dir: sum(rows)},
        ),
    )
    mirror = Mirror("fgvc_aircraft.zip")

    def read_original(self):
        labels = {name: label for label, name in enumerate(self.read_rows("variants.txt", str))}

        def aircraft(line: str) -> Item:
            """Image and variant: `0787226 A340-300`."""
            image, name = line.split(" ", 1)
            return Item(f"{image}.jpg", labels[name], name)

        split = {part: self.read_list(f"images_variant_{part}.txt", aircraft) for part in PARTS}
        self.check_whole([item for items in split.values() for item in items])
        return split
