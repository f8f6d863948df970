"""What makes two runs the same: their config, less what has no part in the result, and the weights that are tested."""

import hashlib
import os
from collections.abc import Iterable

from dassl.data.datasets import DATASET_REGISTRY

# Where a run reads, writes and prints does not change what it computes.
NO_PART_IN_RESULT = {
    "OUTPUT_DIR", "RESUME", "VERBOSE", "DATASET.ROOT", "DATASET.ALLOW_SHARED_IMAGES", "DATALOADER.NUM_WORKERS", "DATALOADER.KEEP_MB",
    "DATALOADER.TEST.CACHE_DIR", "TRAIN.PRINT_FREQ",
}  # fmt: skip


def differences(record: dict, former: dict) -> dict[str, tuple]:
    """What of a former record's config, and of the weights it tested, is not as in this one: key -> (here, there)."""
    no_part = NO_PART_IN_RESULT - ({"DATASET.ROOT"} if is_its_root(record["dataset"]) else set())
    ours, theirs = (
        {f"config.{key}": value for key, value in flatten(each["config"]).items() if key not in no_part}
        | {f"weights.{key}": value for key, value in (each.get("weights") or {}).items() if key != "model_dir"}
        for each in (record, former)
    )
    keys = sorted(key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key))
    return {key: (ours.get(key), theirs.get(key)) for key in keys}


def is_its_root(dataset: str) -> bool:
    """Whether the data root is the data set itself, and no folder for many."""
    return dataset in DATASET_REGISTRY.registered_names() and not DATASET_REGISTRY.get(dataset).dataset_dir


def flatten(config: dict, prefix: str = "") -> dict:
    """{"A": {"B": 1}} -> {"A.B": 1}"""
    flat = {}
    for key, value in config.items():
        flat.update(flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value})
    return flat


def sha256_of_images(items: Iterable, root: str) -> str:
    """Hash of the sampled images: one line `path<TAB>label` each, paths relative to the data root, in order."""
    root = os.path.abspath(os.path.expanduser(root))
    lines = [f"{os.path.relpath(item.impath, root).replace(os.sep, '/')}\t{item.label}" for item in items]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def sha256_of_file(path: str | os.PathLike) -> str:
    with open(path, "rb") as file:
        return (
            hashlib.file_digest(file, "sha256").hexdigest()
            if hasattr(hashlib, "file_digest")
            else hashlib.sha256(file.read()).hexdigest()
        )
