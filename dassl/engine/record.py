"""What one run leaves behind for people and programs: `results.json` beside `log.txt`.

The record says `running` while a run goes on, then `finished` or `failed`. It is replaced as a whole, so a
kill at any moment leaves the former or the new one. Only `finished` counts: a run that broke off goes on.
"""

import functools
import glob
import hashlib
import os
import platform
import subprocess
import sys
import time
from collections import Counter
from importlib import metadata

import torch

try:
    import resource
except ImportError:  # Windows
    resource = None

from dassl.data.datasets import DATASET_REGISTRY
from dassl.utils import InputError, count_num_param, read_json, write_json

FILE = "results.json"
# Where a run reads, writes and prints does not change what it computes.
NO_PART_IN_RESULT = {
    "OUTPUT_DIR", "RESUME", "VERBOSE", "DATASET.ROOT", "DATALOADER.NUM_WORKERS", "DATALOADER.KEEP_MB",
    "DATALOADER.TEST.CACHE_DIR", "TRAIN.PRINT_FREQ",
}  # fmt: skip


def read_record(directory: str) -> dict | None:
    """The record in a run's folder, or None where there is none (or only half of one, from another program)."""
    path = os.path.join(directory, FILE)
    try:
        return read_json(path) if os.path.isfile(path) else None
    except ValueError:
        return None


def flatten(config: dict, prefix: str = "") -> dict:
    """{"A": {"B": 1}} -> {"A.B": 1}"""
    flat = {}
    for key, value in config.items():
        flat.update(flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value})
    return flat


def plain(value):
    """A config node or tuple as JSON knows it."""
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, (list, tuple)) else value


def sha256_of_images(items, root: str) -> str:
    """Hash of the sampled images: one line `path<TAB>label` each, paths relative to the data root, in order."""
    root = os.path.abspath(os.path.expanduser(root))
    lines = [f"{os.path.relpath(item.impath, root).replace(os.sep, '/')}\t{item.label}" for item in items]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def sha256_of_file(path: str) -> str:
    with open(path, "rb") as file:
        return (
            hashlib.file_digest(file, "sha256").hexdigest()
            if hasattr(hashlib, "file_digest")
            else hashlib.sha256(file.read()).hexdigest()
        )


class RunRecord:
    """Writes the record of one run; use it as a context manager around the work.

    `weights` says what an evaluation loaded, {"model_dir", "epoch", "sha256"}; None for a training run.
    """

    def __init__(self, cfg, weights: dict | None = None):
        self.directory = cfg.OUTPUT_DIR
        self.started = time.time()
        self.content = {
            "state": "running",
            "method": cfg.TRAINER.NAME,
            "dataset": cfg.DATASET.NAME,
            "backbone": cfg.MODEL.BACKBONE.NAME,
            "seed": cfg.SEED,
            "shots": cfg.DATASET.NUM_SHOTS,
            "subsample": cfg.DATASET.SUBSAMPLE_CLASSES,
            "split": cfg.TEST.SPLIT,
            "epoch": None,
            "accuracy": None,
            "macro_f1": None,
            "classwise": None,
            "trainable_parameters": None,
            "extra_trainable_parameters": None,
            "seconds": None,
            "train_seconds": None,  # of the epochs
            "test_images_per_second": None,  # of the last test, decoding left out
            "peak_memory_mib": None,  # of the process, and on the GPU; in a process of many runs, of the runs so far
            "peak_gpu_memory_mib": None,
            "device": None,
            "images_sha256": None,
            "transductive": False,  # whether training saw unlabelled images of classes that are new at test
            "unlabelled_images": None,  # how many it saw, of whatever class
            "unlabelled_sha256": None,
            "weights": weights,
            "commit": commit(),
            "versions": versions(),
            "config": plain(cfg),
        }

    def already_finished(self) -> dict | None:
        """The record of this very run if it finished before; another finished run in its folder is an error."""
        former = read_record(self.directory)
        if former is None or former.get("state") != "finished":
            return None
        different = self.differences(former)
        if different:
            key, (ours, theirs) = next(iter(different.items()))
            more = f" ({len(different) - 1} more keys differ)" if len(different) > 1 else ""
            raise InputError(
                f"{self.directory} holds a finished run in which {key} is {theirs!r}, and here it is "
                f"{ours!r}{more}: choose another --output-dir, or remove that folder."
            )
        return former

    def broke_off(self) -> bool:
        """Whether the folder holds a training of this very config that did not come to its end, with a checkpoint."""
        former = read_record(self.directory)
        if former is None or former.get("state") == "finished" or former.get("weights") or self.content["weights"]:
            return False
        has_checkpoint = bool(glob.glob(os.path.join(glob.escape(self.directory), "*", "checkpoint")))
        return has_checkpoint and not self.differences(former)

    def differences(self, former: dict) -> dict[str, tuple]:
        """What of another record's config, and of the weights that are tested, is not as here: key -> (here, there)."""
        no_part = NO_PART_IN_RESULT - ({"DATASET.ROOT"} if is_its_root(self.content["dataset"]) else set())
        ours, theirs = (
            {"config." + key: value for key, value in flatten(record["config"]).items() if key not in no_part}
            | {"weights." + key: value for key, value in (record.get("weights") or {}).items() if key != "model_dir"}
            for record in (self.content, former)
        )
        keys = sorted(key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key))
        return {key: (ours.get(key), theirs.get(key)) for key in keys}

    def __enter__(self):
        self.write()
        return self

    def write(self) -> None:
        self.content["seconds"] = time.time() - self.started
        self.content["peak_memory_mib"], self.content["peak_gpu_memory_mib"] = peak_memory()
        write_json(self.content, os.path.join(self.directory, FILE))

    def describe(self, trainer) -> None:
        """What is known once the trainer is built."""
        device = trainer.device
        self.content.update(
            device=torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu ({platform.machine()})",
            trainable_parameters=sum(count_trainable(trainer._models[name]) for name in trainer.get_model_names()),
            extra_trainable_parameters=getattr(trainer, "extra_trainable_parameters", 0),
            images_sha256=sha256_of_images(trainer.dm.dataset.train_x, trainer.cfg.DATASET.ROOT),
            transductive=getattr(trainer, "transductive", False),
        )
        if self.content["transductive"] and self.content["weights"] is None:  # a training run
            items = trainer.unlabelled.train_x
            self.content.update(
                unlabelled_images=len(items),
                unlabelled_sha256=sha256_of_images(items, trainer.cfg.DATASET.ROOT),
            )
        self.write()

    def finish(self, trainer, epoch: int) -> None:
        """The results of the evaluation that came last, unrounded, in percent."""
        evaluator = trainer.evaluator
        results = getattr(evaluator, "results", None) or {}
        self.content.update(
            state="finished",
            epoch=epoch,
            accuracy=results.get("accuracy"),
            macro_f1=results.get("macro_f1"),
            train_seconds=getattr(trainer, "train_seconds", None),
            test_images_per_second=getattr(trainer, "test_images_per_second", None),
            classwise=by_name(getattr(evaluator, "classwise", None) or {}),
        )
        self.write()

    def stop(self, why: str) -> None:
        """The run ends without a result."""
        self.content.update(state="failed", why=why)
        self.write()

    def __exit__(self, kind, error, trace):
        if error is not None:
            self.stop(f"{kind.__name__}: {error}")


def is_its_root(dataset: str) -> bool:
    """Whether the data root is the data set itself, and no folder for many."""
    return dataset in DATASET_REGISTRY.registered_names() and not DATASET_REGISTRY.get(dataset).dataset_dir


def by_name(classwise: dict[int, dict]) -> dict[str, dict]:
    """The results of each class under its name; where classes share one (ImageNet has two such), with the label."""
    times = Counter(entry["name"] for entry in classwise.values())
    return {
        entry["name"] if times[entry["name"]] == 1 else f"{entry['name']} [{label}]": {
            key: entry[key] for key in ("total", "correct", "accuracy")
        }
        for label, entry in classwise.items()
    }


def peak_memory() -> tuple[float | None, float | None]:
    """MiB: of this process, and of its tensors on the GPU, where there is one."""
    gpu = torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else None
    if resource is None:
        return None, gpu
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10), gpu


@functools.cache  # a process keeps the code that it began with; a sweep asks for every run that it plans
def commit() -> str | None:
    """The commit of this code, with + if something in it has been changed since; None outside a git checkout."""
    git = ["git", "-C", os.path.dirname(os.path.abspath(__file__))]
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True, timeout=10)
        changed = subprocess.run([*git, "diff", "--quiet", "HEAD"], capture_output=True, timeout=10).returncode
    except (OSError, subprocess.SubprocessError):
        return None
    return head.stdout.strip() + ("+" if changed else "")


def count_trainable(module) -> int:
    return count_num_param(params=[p for p in module.parameters() if p.requires_grad])


def versions() -> dict[str, str]:
    """Python and the libraries that can change a number."""
    found = {"python": platform.python_version()}
    for package in ("torch", "torchvision", "numpy", "pillow", "open_clip_torch"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found
