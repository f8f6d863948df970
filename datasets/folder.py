"""Your own pictures: one folder a class, optionally under `train/`, `val/` and `test/`, or a CSV file that lists them.

    pictures/cat/1.jpg  pictures/dog/2.jpg ...                 about half trains, a fifth validates, the rest tests
    pictures/train/cat/1.jpg ...  pictures/test/cat/7.jpg ...  as the folders say; val/ may be missing
    pictures.csv: path,class[,split]                           paths from DATASET.ROOT on

A class is named as its folder, with spaces for underscores, or as DATASET.FOLDER.NAMES says.
"""

import os

from yacs.config import CfgNode

from dassl.data.datasets import DATASET_REGISTRY
from dassl.utils import InputError
from one_run.folder import state_of

from .base import Benchmark
from .listing import csv_rows, loose_pictures, nfc, part_of, read_class_folders, read_csv, what_was_passed_over
from .paths import is_under
from .splits import PARTS, Item, Split, check_shared, divide_by_path


def has_one_place(template: str) -> bool:
    """a text with one {} where the class name goes, and no other braces"""
    before, _, after = template.partition("{}")
    return template.count("{}") == 1 and not {"{", "}"} & {*before, *after}


@DATASET_REGISTRY.register()
class ImageFolder(Benchmark):
    dataset_dir = ""  # DATASET.ROOT itself
    image_dir = ""
    introduce = True  # before training its prompts and the zero-shot accuracy are printed, so that a wrong name shows
    ranges = {"DATASET.FOLDER.TEMPLATE": has_one_place}  # what the values may be
    remedy = "set DATASET.ROOT, or --root, to the folder that holds your class folders"

    @staticmethod
    def extend_cfg(cfg):
        cfg.DATASET.FOLDER = CfgNode()
        cfg.DATASET.FOLDER.TEMPLATE = "a photo of a {}."  # the hand-written prompt
        cfg.DATASET.FOLDER.NAMES = ""  # a CSV file of folder,name, for classes that are not named as their folders
        cfg.DATASET.FOLDER.CSV = ""  # a CSV file of path,class[,split] in place of class folders

    @classmethod
    def template_of(cls, cfg) -> str:
        return cfg.DATASET.FOLDER.TEMPLATE

    def __init__(self, cfg):
        self.keys = cfg.DATASET.FOLDER
        self.template = self.template_of(cfg)
        self.outputs = [path for path in (cfg.OUTPUT_DIR, cfg.DATALOADER.TEST.CACHE_DIR) if path]
        self.check_cfg(cfg)
        super().__init__(cfg)

    @staticmethod
    def check_cfg(cfg):
        """Refuse an output folder that holds the pictures, before anything is written there."""
        root = os.path.expanduser(cfg.DATASET.ROOT)
        if cfg.OUTPUT_DIR and is_of_pictures(cfg.OUTPUT_DIR, root):
            raise InputError(
                f"--output-dir {cfg.OUTPUT_DIR} is a folder of the pictures themselves: choose one of its own, such as "
                f"{os.path.join(root, 'output')}."
            )

    def read_original(self) -> Split:
        """The classes are called by their folders here, until they get their names."""
        listed = from_root(self.root, self.keys.CSV) if self.keys.CSV else ""
        if listed:
            own = read_csv(self.root, listed, allow_outside=self.allow_outside)
        else:
            own = read_class_folders(self.root, self.outputs)
        split = own.split if own.divided else divide_by_path(own.split["train"], self.root)
        check_shared(split, self.root, listed or self.root, self.allow_shared)
        if not split["test"]:
            raise InputError(
                f"{self.root} has training images and none to test on: add a test/ folder, or rows with split test."
            )
        print(f"{self.root}: {', '.join(f'{len(split[part]):,} {part}' for part in PARTS)} images")
        if passed_over := what_was_passed_over(own):
            print(f"{self.root}: {passed_over}")
        return named(split, read_names(self.root, self.keys.NAMES, {item.classname for item in split["train"]}))


def is_of_pictures(folder: str, root: str) -> bool:
    """Whether a folder is the root, a part of it, or one with pictures in it, and is no run's."""
    root, folder = os.path.realpath(root), os.path.realpath(folder)
    above, name = os.path.split(folder)
    if folder == root or (above == root and part_of(name) and os.path.isdir(folder)):
        return True
    is_there = is_under(folder, root) and os.path.isdir(folder)
    return is_there and state_of(folder) is None and bool(loose_pictures(folder))


def from_root(root: str, path: str) -> str:
    """A path that is absolute, or from the data root on."""
    return os.path.join(root, os.path.expanduser(path))


def read_names(root: str, path: str, folders: set[str]) -> dict[str, str]:
    """Class names by folder, of those that a names file names; none where there is no such file."""
    if not path:
        return {}
    path = from_root(root, path)
    names = {nfc(row["folder"]): row["name"] for _, row in csv_rows(path, ("folder", "name"))}
    unknown = sorted(names.keys() - folders)
    if unknown:
        raise InputError(
            f"{path} names {unknown[0]!r}, which is no class here: there are {', '.join(sorted(folders)[:10])}"
            f"{' ...' if len(folders) > 10 else ''}."
        )
    return names


def named(split: Split, names: dict[str, str]) -> Split:
    return {
        part: [Item(path, label, names.get(name, name).strip()) for path, label, name in items]
        for part, items in split.items()
    }
