"""Lists of pictures: CoOp's split files, folders of one class each, and CoOp's ways to divide them into three parts.

A split is {"train": items, "val": items, "test": items}; what is read from disk is checked here, in one place.
"""

import hashlib
import json
import os
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from dassl.utils import InputError, read_json

PARTS = ("train", "val", "test")
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm")  # in any case
SEED = 0  # of the divisions made here: every machine makes the same


class Item(NamedTuple):
    """A picture: its path under the benchmark's image folder (with /), its label and the name of its class."""

    path: str
    label: int
    classname: str


Split = dict[str, list[Item]]


# --- split files ------------------------------------------------------------------------------------------------


def read_split(path: str, image_dir: str) -> Split:
    """A split file of CoOp's, {"train" | "val" | "test": [[path, label, class name], ...]}, in the file's order."""
    try:
        content = read_json(path)
        split = {part: [Item(image, int(label), name) for image, label, name in content[part]] for part in PARTS}
    except (KeyError, ValueError, TypeError) as error:
        raise InputError(
            f"{path} is not a split file (lists train, val, test of [path, label, class name]): {error!r}. "
            "Fetch or write it again."
        ) from error
    check_images(split, image_dir, named_by=path)
    return split


def check_images(split: Split, image_dir: str, named_by: str) -> None:
    """Refuse a list that names images which are not there. Folders are listed once, which is quick on any disk."""
    there: dict[str, set[str]] = {}
    missing = []
    for item in (item for items in split.values() for item in items):
        folder, name = os.path.split(item.path)
        if folder not in there:
            try:
                there[folder] = set(os.listdir(os.path.join(image_dir, folder)))
            except OSError:
                there[folder] = set()
        if name not in there[folder]:
            missing.append(item.path)
    if missing:
        raise InputError(
            f"{named_by} names {len(missing)} images that are not in {image_dir}, {missing[0]} first: "
            "unpack the images again, or take the split file that belongs to them."
        )


def as_json(split: Split) -> dict[str, list[list]]:
    return {part: [list(item) for item in items] for part, items in split.items()}


# --- folders ----------------------------------------------------------------------------------------------------


def class_folders(directory: str) -> list[str]:
    """The folders in a folder, sorted; files such as a README.txt, and hidden ones, are passed over."""
    try:
        with os.scandir(directory) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    except OSError as error:
        raise InputError(f"The folder {directory} cannot be listed ({error.strerror}): unpack it again.") from error


def images_in(directory: str) -> list[str]:
    """The names of the pictures in a folder, sorted."""
    return sorted(
        name for name in os.listdir(directory) if name.lower().endswith(SUFFIXES) and not name.startswith(".")
    )


def read_folders(
    directory: str,
    classnames: Callable[[str], str] | dict[str, str] = str,
    ignore: Iterable[str] = (),
    under: str = "",
) -> list[Item]:
    """One folder a class, in sorted order; `classnames` turns a folder's name into the class's.

    Paths start with `under`, where `directory` is a folder within the image folder. A class without images is refused.
    """
    name_of = classnames.__getitem__ if isinstance(classnames, dict) else classnames
    items, ignore = [], set(ignore)
    folders = [name for name in class_folders(directory) if name not in ignore]
    for label, folder in enumerate(folders):
        images = images_in(os.path.join(directory, folder))
        if not images:
            raise InputError(
                f"The class folder {os.path.join(directory, folder)} holds no images: unpack it again, or remove it."
            )
        try:
            name = name_of(folder)
        except KeyError as error:
            raise InputError(
                f"The folder {os.path.join(directory, folder)} is no class of this benchmark: move it away."
            ) from error
        items += [Item("/".join(filter(None, (under, folder, image))), label, name) for image in images]
    if not items:
        raise InputError(f"{directory} holds no class folders with images: put the images there, one folder a class.")
    return items


# --- divisions --------------------------------------------------------------------------------------------------


def by_class(items: Sequence[Item]) -> dict[int, list[Item]]:
    groups = defaultdict(list)
    for item in items:
        groups[item.label].append(item)
    return groups


def divide(items: Sequence[Item], train: float = 0.5, val: float = 0.2) -> Split:
    """CoOp's division of a benchmark that has none: of each class, in chance order, half, a fifth and the rest."""
    chance, split = random.Random(SEED), {part: [] for part in PARTS}
    for group in by_class(items).values():
        first = round(len(group) * train)
        second = first + round(len(group) * val)
        if not 0 < first < second < len(group):
            raise InputError(
                f"The class {group[0].classname!r} has {len(group)} images, too few to divide into training, validation "
                "and test, which takes 4: add some, or unpack the images again."
            )
        chance.shuffle(group)
        split["train"] += group[:first]
        split["val"] += group[first:second]
        split["test"] += group[second:]
    return split


def hold_out(items: Sequence[Item], share: float = 0.2) -> tuple[list[Item], list[Item]]:
    """CoOp's division of official training images: (train, val), with a fifth of each class for validation."""
    chance, train, val = random.Random(SEED), [], []
    for group in by_class(items).values():
        count = round(len(group) * share)
        if not 0 < count < len(group):
            raise InputError(
                f"The class {group[0].classname!r} has {len(group)} training images, too few to hold some out for "
                "validation, which takes 3: add some, or fetch the annotations again."
            )
        chance.shuffle(group)
        val += group[:count]
        train += group[count:]
    return train, val


# --- annotation files ---------------------------------------------------------------------------------------------


def read_lines(path: str) -> list[str]:
    """The lines of a text file, without surrounding space; empty ones at the end are no lines."""
    with open(path, encoding="utf-8") as file:
        try:
            return [line.strip() for line in file.read().rstrip().split("\n")]
        except UnicodeDecodeError as error:
            raise InputError(f"The annotation file {path} is damaged ({error}): fetch it again.") from error


def read_names(path: str) -> dict[str, str]:
    """A JSON file of class names by label."""
    try:
        return {str(label): str(name) for label, name in read_json(path).items()}
    except (ValueError, AttributeError) as error:
        raise InputError(f"The annotation file {path} is damaged ({error}): fetch it again.") from error


def read_mat(path: str, key: str):
    """The row vector `key` of a MATLAB file: numbers, structures or cells."""
    from scipy.io import loadmat  # takes a while, and CoOp's split files do without

    try:
        return loadmat(path)[key][0]
    except Exception as error:  # a damaged file fails in many ways
        raise InputError(f"The annotation file {path} is damaged ({error!r}): fetch it again.") from error


def parse_rows(path: str, rows: Iterable, parse: Callable) -> list:
    """What `parse` makes of each row of an annotation file; one it cannot read is named by its number, from 1."""
    parsed = []
    for number, row in enumerate(rows, start=1):
        try:
            parsed.append(parse(row))
        except (KeyError, ValueError, TypeError, IndexError) as error:
            what = f"line {number}, {row!r}," if isinstance(row, str) else f"entry {number}"
            why = f"there is no class {error}" if isinstance(error, KeyError) else error
            raise InputError(
                f"The annotation file {path} is damaged: {what} does not read ({why}); fetch it again."
            ) from error
    return parsed


def sha256_of_split(split: Split) -> str:
    """A hash of what a split says, whatever its file looks like."""
    return hashlib.sha256(json.dumps(as_json(split), ensure_ascii=True, sort_keys=True).encode()).hexdigest()
