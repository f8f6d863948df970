"""Oxford-IIIT Pets (Parkhi et al., 2012): breeds of cats and dogs."""

from dassl.data.datasets import DATASET_REGISTRY

from .base import Benchmark
from .sources import Archive, File, Mirror, Way
from .splits import Item


@DATASET_REGISTRY.register()
class OxfordPets(Benchmark):
    display_name = "Oxford-IIIT Pets"
    classes = 37
    rows = (2944, 736, 3669)
    dataset_dir = "oxford_pets"
    image_dir = "images"
    split_file = "split_zhou_OxfordPets.json"
    template = "a photo of a {}, a type of pet."
    sources = (
        File(
            split_file,
            (Way("drive:1501r8Ber4nNKvmlFVQZ8SeUHTcdTTEqs"),),
            entries=rows,
            sha256="d7f3ffe65b3919f95132e51422894ae18686b83c331fd8c0adcdc3dc2de6301e",
        ),
        Archive(
            "annotations.tar.gz",
            (
                Way(
                    "https://www.robots.ox.ac.uk/~vgg/data/pets/data/annotations.tar.gz",
                    19_173_078,
                    "md5:95a8c909bbe2e81eed6a22bccdf3f68f",
                ),
            ),
            spare=True,
            members={"annotations": "annotations"},
        ),
        Archive(
            "images.tar.gz",
            (
                Way(
                    "https://www.robots.ox.ac.uk/~vgg/data/pets/data/images.tar.gz",
                    791_918_971,
                    "md5:5c4f3ee8e5d25df40f4fd59a7f44e54c",
                ),
            ),
            members={image_dir: "images"},
            images={image_dir: sum(rows)},
        ),
    )
    mirror = Mirror("oxford_pets.zip")

    def read_original(self):
        return self.held_out(
            trainval=self.read_list("annotations/trainval.txt", pet),
            test=self.read_list("annotations/test.txt", pet),
        )


def pet(line: str) -> Item:
    """Image, class (from 1), species and breed within it: `great_pyrenees_12 16 2 10`."""
    image, label, _, _ = line.split()
    return Item(f"{image}.jpg", int(label) - 1, image.rpartition("_")[0].lower())
