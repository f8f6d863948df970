"""What a run's folder has that an uninterrupted run's has not, and what is not the same in both."""

import os
import re
from pathlib import Path

import torch

from dassl.utils import load_checkpoint
from one_run.folder import read_record, take_lock

# Of a record: times, memory, places, that it was resumed; and the hash of a checkpoint's file, whose contents are compared:
# pickle writes equal objects otherwise than the same one twice.
NOT_COMPARED = "|".join(
    (
        r"(train_)?seconds|test_images_per_second|peak_(gpu_)?memory_mib",
        r"config\.OUTPUT_DIR|config\.RESUME|resumed\b.*",
        r"weights\.model_dir|weights\.sha256\b.*|checkpoints\b.*",
    )
)
OF_EACH_START = r"log\.txt-.*|tensorboard/events\..*|console\.txt"  # every start writes its own


def flatten(value, name: str = "") -> dict:
    """{"a": {"b": [1]}} -> {"a.b.0": 1}"""
    if isinstance(value, dict | list | tuple):
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        return {k: v for key, inner in pairs for k, v in flatten(inner, f"{name}.{key}" if name else str(key)).items()}
    return {name: value}


def same(one, other) -> bool:
    """The same type and the same bits."""
    if torch.is_tensor(one):
        return torch.is_tensor(other) and one.dtype == other.dtype and torch.equal(one, other)
    return type(one) is type(other) and one == other


def differing(one, other) -> list[str]:
    ours, theirs = flatten(one), flatten(other)
    return sorted(
        k for k in ours.keys() | theirs.keys() if k not in ours or k not in theirs or not same(ours[k], theirs[k])
    )


def files_in(folder: Path) -> set[str]:
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return {name for name in names if not re.fullmatch(OF_EACH_START, name)}


def differences(folder: Path, reference: Path) -> list[str]:
    """What of the record and the checkpoints is not as the reference's, as "file: key"; files that are missing."""
    there = files_in(reference)
    said = [f"{name} is missing" for name in sorted(there - files_in(folder))]
    record, expected = read_record(folder) or {}, read_record(reference) or {}
    said += [f"results.json: {key}" for key in differing(record, expected) if not re.fullmatch(NOT_COMPARED, key)]
    for name in sorted(name for name in there & files_in(folder) if ".pth.tar" in name):
        said += [
            f"{name}: {key}" for key in differing(*(load_checkpoint(str(each / name)) for each in (folder, reference)))
        ]
    return said


def leftovers(folder: Path, reference: Path) -> list[str]:
    """Files that an uninterrupted run does not leave, and a lock that is still held; digits of chance left out."""
    left = [re.sub(r"\.[0-9a-f]{8}\.part$", ".*.part", name) for name in sorted(files_in(folder) - files_in(reference))]
    lock = take_lock(folder)
    if lock is None:
        return [*left, "a lock that is held"]
    os.close(lock)
    return left
