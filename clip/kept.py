"""Weights that this process has read for those that will be forked from it: they find them in its memory, and read no file.

Each is kept by its file's version, so a file that has changed is read anew. Only `checkpoint.keep` puts something here.
"""

import os

from torch import Tensor

states: dict[tuple, dict[str, Tensor]] = {}
sums: dict[tuple, str] = {}  # SHA-256s
read: set[str] = set()  # paths of the weights that this process has read from files itself


def version_of(path: str | os.PathLike) -> tuple:
    """What differs once a file is another, or has been written to."""
    stat = os.stat(path)
    return os.path.realpath(path), stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


def state_of(path: str | os.PathLike) -> dict[str, Tensor] | None:
    """A copy, as whoever has read a file may do with it what he likes; None where it is not kept."""
    kept = states.get(version_of(path)) if states else None
    return None if kept is None else {name: value.clone() for name, value in kept.items()}


def sha256_of(path: str | os.PathLike) -> str | None:
    return sums.get(version_of(path)) if sums else None


def forget(path: str | os.PathLike) -> None:
    """All versions of a file."""
    place = os.path.realpath(path)
    for kept in (states, sums):
        for version in [version for version in kept if version[0] == place]:
            del kept[version]


def size() -> int:
    """Bytes of all that is kept."""
    return sum(value.numel() * value.element_size() for state in states.values() for value in state.values())
