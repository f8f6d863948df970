"""A list of pictures, and where its paths lead: whether into the image folder, and what a file there is called."""

import functools
import os
import unicodedata
from collections.abc import Callable
from typing import NamedTuple

from dassl.utils import InputError, real_paths


class Item(NamedTuple):
    """A picture: its path under the benchmark's image folder (with /), its label and the name of its class."""

    path: str
    label: int
    classname: str


Split = dict[str, list[Item]]


UNPACK_AGAIN = "unpack the images again, or take the split file that belongs to them"


Told = Callable[[str], None]  # what is done with a sentence that says what is wrong


def refuse(problem: str) -> None:
    raise InputError(problem)


def on_disk(split: Split, image_dir: str, named_by: str, remedy: str = UNPACK_AGAIN, wrong: Told = refuse) -> Split:
    """The same with each path as its file is called; a list that names images which are not there is wrong.

    A list may have been written on Windows, with backslashes, and folders on a Mac, which spells an accent as a sign of
    its own.
    """
    folders, missing = Folders(image_dir), []

    def found(item: Item) -> Item:
        path = folders.find(item.path) if os.path.basename(item.path) else None
        if path is None:
            missing.append(item.path)
        return item._replace(path=path)

    split = {part: [found(item) for item in items] for part, items in split.items()}
    if missing:
        wrong(f"{named_by} names {len(missing)} images that are not in {image_dir}, {missing[0]} first: {remedy}.")
    return {part: [item for item in items if item.path is not None] for part, items in split.items()}


def inside(split: Split, image_dir: str, named_by: str, wrong: Told = refuse) -> Split:
    """The same; a list that names images outside the image folder is wrong."""
    real = functools.cache(os.path.realpath)  # many paths lie in few folders
    within = os.path.join(real(image_dir), "")
    outside: dict[str, None] = {}
    for items in split.values():
        places = real_paths(os.path.join(image_dir, item.path.replace("\\", "/")) for item in items)
        for item, place in zip(items, places, strict=True):
            if not place.startswith(within) or leads_outside(item.path, image_dir, real):
                outside[item.path] = None
    if not outside:
        return split
    wrong(
        f"{named_by} names {len(outside)} images outside {image_dir}, {next(iter(outside))} first: correct the list, or set "
        "DATASET.ALLOW_OUTSIDE True if they, or the links that lead there, are meant."
    )
    return {part: [item for item in items if item.path not in outside] for part, items in split.items()}


def leads_outside(path: str, folder: str, real: Callable[[str], str] = os.path.realpath) -> bool:
    """Whether a list's path, which may be absolute, leaves a folder by what it says; `real` resolves links."""
    path = path.replace("\\", "/")
    if ".." not in path and not os.path.isabs(path):  # all paths but a few; nothing is asked of the disk
        return False
    pieces = path.split("/")
    if ".." not in pieces and is_under(os.path.normpath(os.path.join(folder, path)), os.path.abspath(folder)):
        return False
    beyond = len(pieces) - pieces[::-1].index("..") if ".." in pieces else 1  # the last `..`, or the root
    places = (real(os.path.join(folder, "/".join(pieces[:end]) or "/")) for end in range(beyond, len(pieces)))
    return not any(is_under(place, real(folder)) for place in places)


def is_under(path: str, folder: str) -> bool:
    return os.path.join(path, "").startswith(os.path.join(folder, ""))


DEEPEST = 100  # folders in folders


class Folders:
    """The folders under one, each listed once, which is quick on any disk."""

    def __init__(self, root: str):
        self.root = root
        self.listed: dict[str, dict[str, str]] = {}  # folder -> a name, as it is and in NFC -> as it is

    def names_in(self, folder: str) -> dict[str, str]:
        if folder not in self.listed:
            try:
                names = os.listdir(os.path.join(self.root, folder))
            except (OSError, ValueError):  # no such folder, or no path at all
                names = []
            self.listed[folder] = {unicodedata.normalize("NFC", name): name for name in names} | {n: n for n in names}
        return self.listed[folder]

    def find(self, path: str) -> str | None:
        """The path of that file or folder, as it is called; None if it is not there."""
        if path.count("/") > DEEPEST:
            return None
        folder, name = os.path.split(path)
        called = self.names_in(folder).get(name) if name else name
        if called is not None:
            return path if called == name else os.path.join(folder, called)
        if "\\" in path:
            return self.find(path.replace("\\", "/"))
        there = self.find(folder) if folder else ""
        name = None if there is None else self.names_in(there).get(unicodedata.normalize("NFC", name))
        return None if name is None else os.path.join(there, name)
