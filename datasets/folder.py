"""Your own pictures: one folder a class, optionally under `train/`, `val/` and `test/`, or a CSV file that lists them.

    pictures/cat/1.jpg  pictures/dog/2.jpg ...                 half trains, a fifth validates, the rest tests
    pictures/train/cat/1.jpg ...  pictures/test/cat/7.jpg ...  as the folders say; val/ may be missing
    pictures.csv: path,class[,split]                           paths from DATASET.ROOT on

A class is named as its folder, with spaces for underscores, or as DATASET.FOLDER.NAMES says.
"""

import csv
import os

from yacs.config import CfgNode

from dassl.data.datasets import DATASET_REGISTRY
from dassl.utils import InputError

from .base import Benchmark
from .splits import PARTS, Item, Split, check_images, class_folders, divide, read_folders

NO_CLASSES = ("split_fewshot",)  # the base keeps its draws there


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

    def __init__(self, cfg):
        self.keys = cfg.DATASET.FOLDER
        self.template = self.keys.TEMPLATE
        super().__init__(cfg)

    def read_original(self) -> Split:
        """The classes are called by their folders here, until they get their names."""
        split = self.read_csv() if self.keys.CSV else self.read_class_folders()
        if not split["test"]:
            raise InputError(
                f"{self.root} has training images and none to test on: add a test/ folder, or rows with split test."
            )
        print(f"{self.root}: {', '.join(f'{len(split[part]):,} {part}' for part in PARTS)} images")
        names = self.names({item.classname for item in split["train"]})
        return {
            part: [item._replace(classname=names.get(item.classname, item.classname).strip()) for item in items]
            for part, items in split.items()
        }

    def read_class_folders(self) -> Split:
        folders = class_folders(self.root)
        if "train" not in folders:
            return divide(read_folders(self.root, ignore=NO_CLASSES))
        others = sorted(set(folders) - {*PARTS, *NO_CLASSES})
        if others:
            raise InputError(
                f"{self.root} holds train/ and beside it {others[0]}/, which is none of {', '.join(PARTS)}: move it away, or "
                "into train/."
            )
        split: Split = {part: [] for part in PARTS}
        for part in PARTS:
            if part in folders:
                split[part] = read_folders(os.path.join(self.root, part), under=part)
        return relabelled(split, self.root)

    def read_csv(self) -> Split:
        path = from_root(self.root, self.keys.CSV)
        split: Split = {part: [] for part in PARTS}
        rows = csv_rows(path, ("path", "class"))
        for number, row in enumerate(rows, start=2):
            part = row.get("split") or "train"
            if part not in PARTS:
                raise InputError(f"{path}, line {number}: the split {part!r} is none of {', '.join(PARTS)}.")
            split[part].append(Item(row["path"].replace(os.sep, "/"), 0, row["class"]))
        check_images(split, self.root, named_by=path)
        split = relabelled(split, path)
        return split if "split" in rows[0] else divide(split["train"])

    def names(self, folders: set[str]) -> dict[str, str]:
        """Class names by folder, of those that the names file names."""
        if not self.keys.NAMES:
            return {}
        path = from_root(self.root, self.keys.NAMES)
        names = {row["folder"]: row["name"] for row in csv_rows(path, ("folder", "name"))}
        unknown = sorted(names.keys() - folders)
        if unknown:
            raise InputError(
                f"{path} names {unknown[0]!r}, which is no class here: there are {', '.join(sorted(folders)[:10])}"
                f"{' ...' if len(folders) > 10 else ''}."
            )
        return names


def from_root(root: str, path: str) -> str:
    """A path that is absolute, or from the data root on."""
    return os.path.join(root, os.path.expanduser(path))


def csv_rows(path: str, columns: tuple[str, ...]) -> list[dict[str, str]]:
    """The rows of a CSV file with a header line; each has a value in every one of `columns`."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = [{key: (value or "").strip() for key, value in row.items() if key} for row in csv.DictReader(file)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"The CSV file {path} cannot be read ({error}): correct the path or the file.") from error
    if not rows:
        raise InputError(f"The CSV file {path} has no rows below its header: write {','.join(columns)} and the rows.")
    for number, row in enumerate(rows, start=2):
        for column in columns:
            if not row.get(column):
                raise InputError(f"{path}, line {number}: there is no {column} (the header is {','.join(rows[0])}).")
    return rows


def relabelled(split: Split, source: str) -> Split:
    """The same with labels in the order of class names; every class has training images."""
    labels = {name: label for label, name in enumerate(sorted({item.classname for item in split["train"]}))}
    for part, items in split.items():
        for item in items:
            if item.classname not in labels:
                raise InputError(
                    f"{source}: the class {item.classname!r} has {part} images and no training image: add some."
                )
    return {part: [item._replace(label=labels[item.classname]) for item in items] for part, items in split.items()}
