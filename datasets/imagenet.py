"""ImageNet (Deng et al., 2009), with CLIP's names of its classes; and what its shifted test sets share."""

import os

from dassl.data.datasets import DATASET_REGISTRY

from .base import Benchmark
from .sources import Archive, File, Way
from .splits import Item, Split, read_folders

CLASSNAMES = File(
    "classnames.txt", (Way("drive:1-61f_ol79pViBFDG_IDlUQSwoLcn2XXF"),), entries=1000, copy="imagenet/classnames.txt"
)


class SynsetBenchmark(Benchmark):
    """Folders are WordNet's synsets; `classnames.txt` says their names, in the order of labels."""

    twins = ("missile", "sunglasses")  # CLIP's names of four classes

    def names(self) -> dict[str, str]:
        return dict(self.read_rows("classnames.txt", synset_and_name))


@DATASET_REGISTRY.register()
class ImageNet(SynsetBenchmark):
    """Its validation set tests, so it is used for validation too, all of it: nothing may be chosen on that."""

    display_name = "ImageNet"
    classes = CLASSNAMES.entries
    rows = (1_281_167, 50_000, 50_000)
    dataset_dir = "imagenet"
    image_dir = "images"
    sources = (
        CLASSNAMES,
        Archive(
            "ILSVRC2012_img_train.tar",
            with_names=("ILSVRC2012_img_val.tar", "ILSVRC2012_devkit_t12.tar.gz"),
            members={"images/val": "val", "images/train": "train"},
            images={"images/val": rows[1], "images/train": rows[0]},
            gigabytes=145,
        ),
    )
    by_hand = (
        "ImageNet needs a login: register at https://image-net.org/download-images, fetch "
        "ILSVRC2012_img_train.tar (138 GB), ILSVRC2012_img_val.tar (6.3 GB) and ILSVRC2012_devkit_t12.tar.gz, put all "
        "three into {folder} and run this again; or link an unpacked copy: {folder}/images/train and "
        "{folder}/images/val, each with 1000 folders n01440764, n01443537 and so on."
    )

    @classmethod
    def number_of_images(cls):
        return sum(cls.rows[:2])

    def read_original(self):
        names = self.names()
        train, val = (read_folders(os.path.join(self.image_dir, part), names, under=part) for part in ("train", "val"))
        self.check_whole(train + val)
        return {"train": train, "val": val, "test": val}

    def few_shots(self, split: Split, shots: int, seed: int) -> Split:
        """Of the training images alone, as in CoOp."""
        return {**super().few_shots({**split, "val": []}, shots, seed), "val": split["val"]}


class ShiftedImageNet(SynsetBenchmark):
    """A test set only: what a trainer asks of training images (names, number of classes) it learns from these."""

    def read_original(self):
        items = self.check_whole(self.read_test())
        return {"train": items, "val": [], "test": items}

    def read_test(self) -> list[Item]:
        """A folder for each class that occurs, labels in their order."""
        return read_folders(self.image_dir, self.names())

    def few_shots(self, split: Split, shots: int, seed: int) -> Split:
        return split


def synset_and_name(line: str) -> tuple[str, str]:
    """`n01440764 tench`"""
    synset, name = line.split(" ", 1)
    return synset, name
