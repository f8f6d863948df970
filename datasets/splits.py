"""Lists of pictures: CoOp's split files, folders of one class each, and CoOp's ways to divide them into three parts.

A split is {"train": items, "val": items, "test": items}; what is read from disk is checked here, in one place.
"""

import hashlib
import json
import os
import posixpath
import random
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

from dassl.utils import InputError, is_picture, read_json, real_paths

from .paths import Item, Split, inside, on_disk

PARTS = ("train", "val", "test")
SEED = 0  # of the divisions made here: every machine makes the same
AT_ONCE = 10_000  # items of a list that are written as JSON


# --- split files ------------------------------------------------------------------------------------------------


def read_split(path: str, image_dir: str, allow_outside: bool = False) -> Split:
    """A split file of CoOp's, {"train" | "val" | "test": [[path, label, class name], ...]}, in the file's order."""
    try:
        split = items_in(read_json(path), PARTS)
    except ValueError as error:
        raise InputError(
            f"{path} is not a split file (lists train, val, test of [path, label, class name]): {error}. "
            "Fetch or write it again."
        ) from error
    return on_disk(split if allow_outside else inside(split, image_dir, path), image_dir, named_by=path)


def items_in(content, parts: Iterable[str]) -> Split:
    """Those of a JSON file's lists of [path, label, class name]; ValueError where it has anything else there."""
    split = {}
    for part in parts:
        rows = content.get(part) if isinstance(content, dict) else None
        if not isinstance(rows, list):
            raise ValueError(f"there is no list {part}")
        wrong = [row for row in rows if not is_row(row)]
        if wrong:
            raise ValueError(f"{part} has {wrong[0]!r}")
        split[part] = [Item(*row) for row in rows]
    return split


def is_row(row) -> bool:
    """[path, label, class name], with a path that a file can have."""
    if not isinstance(row, list) or [*map(type, row)] != [str, int, str]:
        return False
    try:
        os.fsencode(row[0])
    except UnicodeEncodeError:
        return False
    return True


def check_shared(split: Split, image_dir: str, named_by: str, allowed: bool = False) -> None:
    """Refuse a split that has a picture in two parts, or under two classes."""
    if not allowed and (twice := shared_images(split, image_dir)):
        path, (one, other) = next(iter(twice.items()))
        where = f"in {one[0]} and in {other[0]}" if one[0] != other[0] else f"as {one[1]!r} and as {other[1]!r}"
        raise InputError(
            f"{named_by} has {len(twice)} image(s) twice, {path} first, {where}: take one of the two out, or set "
            "DATASET.ALLOW_SHARED_IMAGES True."
        )


def shared_images(split: Split, image_dir: str) -> dict[str, tuple[tuple[str, str], tuple[str, str]]]:
    """path -> (part, class) and (part, class), of the images that are in two parts or under two classes.

    An image is where its file lies, however its path is written and whatever links lead there.
    """
    seen, twice = {}, {}
    for part, items in split.items():
        files = real_paths(os.path.join(image_dir, item.path) for item in items)
        for item, file in zip(items, files, strict=True):
            place = (part, item.classname)
            if seen.setdefault(file, place) != place:
                twice.setdefault(posixpath.normpath(item.path), (seen[file], place))
    return twice


def is_text(name: str) -> bool:
    """Whether it can be written; the bytes of a name that is no UTF-8 cannot."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def as_json(split: Split) -> dict[str, list[list]]:
    return {part: [list(item) for item in items] for part, items in split.items()}


# --- folders ----------------------------------------------------------------------------------------------------


def class_folders(directory: str) -> list[str]:
    """The folders in a folder, sorted; files such as a README.txt, and hidden ones, are passed over."""
    try:
        with os.scandir(directory) as entries:
            return sorted(entry.name for entry in entries if is_folder(entry) and not entry.name.startswith("."))
    except OSError as error:
        raise InputError(f"The folder {directory} cannot be listed ({error.strerror}): unpack it again.") from error


def is_folder(entry: os.DirEntry) -> bool:
    """Or a link to one; a link to itself is none."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def images_in(directory: str) -> list[str]:
    """The names of the pictures in a folder, sorted."""
    return sorted(filter(is_picture, os.listdir(directory)))


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
        above = f"{under}/{folder}/" if under else f"{folder}/"
        items += [Item(above + image, label, name) for image in images]
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


TO_DIVIDE = 4  # images of a class, at least
BOUNDS = {"train": (0.0, 0.5), "val": (0.5, 0.7), "test": (0.7, 1.0)}  # of what is drawn from a path


def path_in(root: str, path: str) -> str:
    """One spelling of a path, which a list may write from the root, with `./` before it, or absolute."""
    if not any(piece in f"/{path}/" for piece in ("//", "/./", "/../")):  # all paths but a few
        return path
    return os.path.relpath(os.path.join(root, path), root or os.curdir).replace(os.sep, "/")


def divide_by_path(items: Sequence[Item], root: str = "") -> Split:
    """About half, a fifth and the rest of each class; which part a picture comes into, its path in `root` alone decides.

    So all others stay where they are when one comes or goes (as in Warden, "Speech Commands", 2018). Only a part that
    would get none of a class takes the nearest one from a part that has several.
    """
    split: Split = {part: [] for part in PARTS}
    for group in by_class(items).values():
        if len(group) < TO_DIVIDE:
            raise InputError(
                f"The class {group[0].classname!r} has {len(group)} images, too few to divide into training, validation "
                f"and test, which takes {TO_DIVIDE}: add some, take the class out, or divide the images yourself (train/, test/)."
            )
        drawn = {item: drawn_from(path_in(root, item.path)) for item in group}
        part_of = {item: next(part for part in PARTS if drawn[item] < BOUNDS[part][1]) for item in group}
        for part in PARTS:
            if part not in part_of.values():
                counts = [*part_of.values()]
                spare = [item for item in group if counts.count(part_of[item]) > 1]
                low, high = BOUNDS[part]
                part_of[min(spare, key=lambda item: max(low - drawn[item], drawn[item] - high))] = part
        for item in group:
            split[part_of[item]].append(item)
    return split


def drawn_from(path: str) -> float:
    """A number in [0, 1) that looks drawn at random, and is the same on every machine."""
    spelt = unicodedata.normalize("NFC", path).encode(errors="surrogateescape")  # a name may be no UTF-8
    return int.from_bytes(hashlib.sha256(spelt).digest()[:6], "big") / 2**48


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
    """A hash of what a split says, whatever its file looks like: of its JSON, which is written a piece at a time."""
    digest, between = hashlib.sha256(), "{"
    for part in sorted(split):
        digest.update(f'{between}"{part}": ['.encode())
        for start in range(0, len(split[part]), AT_ONCE):
            rows = json.dumps(split[part][start : start + AT_ONCE])
            digest.update(f"{', ' if start else ''}{rows[1:-1]}".encode())
        digest.update(b"]")
        between = ", "
    digest.update(b"}")
    return digest.hexdigest()
