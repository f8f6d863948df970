"""Where checkpoints stand: RUN/<model>/model.pth.tar-N, perhaps model-best.pth.tar, and a pointer to the last one.

No PyTorch here: who plans runs asks too.
"""

import os
import re
from collections.abc import Iterable

POINTER = "checkpoint"  # a file with the name of the checkpoint that was written last
BEST = "model-best.pth.tar"
LONGEST_NAME = 1000  # bytes of a pointer that are looked at


def file_of(epoch: int | None) -> str:
    """Of an epoch, counted from 1; None: of the best one on validation images."""
    return BEST if epoch is None else f"model.pth.tar-{epoch}"


def epoch_of(file: str) -> int | None:
    match = re.search(r"-([0-9]{1,9})$", file)
    return int(match[1]) if match else None


def last_checkpoint(folder: str) -> str | None:
    """The file name that a model's folder has as its last; None where there is no pointer, or one that names no file."""
    try:
        with open(os.path.join(folder, POINTER), "rb") as file:
            name = file.readline(LONGEST_NAME).decode("utf-8", "replace").strip()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    return name if name.isprintable() and name == os.path.basename(name) and name.strip(".") else None


def models_in(run: str) -> list[str]:
    """The folders of a run's models that have been saved at least once."""
    if not os.path.isdir(run):
        return []
    folders = [name for name in os.listdir(run) if os.path.isdir(os.path.join(run, name))]
    return sorted(
        name for name in folders if POINTER in (there := os.listdir(os.path.join(run, name))) or epochs(there)
    )


def epochs(files: Iterable[str]) -> set[int]:
    """Of the checkpoints among files."""
    return {epoch for file in files if (epoch := epoch_of(file)) is not None and file == file_of(epoch)}


def to_go_on_from(run: str, models: Iterable[str]) -> list[str]:
    """File names of checkpoints that all models of a run have, in the order in which to try them.

    The one that was written last is the first, then those before it; an epoch beyond it is another run's.
    """
    folders = [os.path.join(run, model) for model in models]
    pointers = [last_checkpoint(folder) for folder in folders]
    there = [set(os.listdir(folder)) if os.path.isdir(folder) else set() for folder in folders]
    shared = set.intersection(*there) if there else set()
    last = min((epoch for file in pointers if (epoch := epoch_of(file or "")) is not None), default=None)
    former = [file_of(epoch) for epoch in sorted(epochs(shared), reverse=True) if last is None or epoch <= last]
    named = {file for file in pointers if len(set(pointers)) == 1 and file in shared}
    return [*named, *(file for file in former if file not in named)]


def last_epoch(run: str) -> int | None:
    """The epoch that a run saved last; None where nothing was saved, as in a zero-shot run."""
    epochs = (epoch_of(last_checkpoint(os.path.join(run, name)) or "") for name in models_in(run))
    return next((epoch for epoch in epochs if epoch is not None), None)
