"""Where checkpoints stand: RUN/<model>/model.pth.tar-N, perhaps model-best.pth.tar, and a pointer to the last one.

No PyTorch here: who plans runs asks too.
"""

import os
import re

POINTER = "checkpoint"  # a file with the name of the checkpoint that was written last
LONGEST = 255  # letters of a file name
BEST = "model-best.pth.tar"


def file_of(epoch: int | None) -> str:
    """Of an epoch, counted from 1; None: of the best one on validation images."""
    return BEST if epoch is None else f"model.pth.tar-{epoch}"


def epoch_of(file: str) -> int | None:
    match = re.search(r"-([0-9]{1,9})$", file)
    return int(match[1]) if match else None


def last_checkpoint(folder: str) -> str | None:
    """The file name that a model's folder has as its last; None where there is no pointer."""
    try:
        with open(os.path.join(folder, POINTER), encoding="utf-8", errors="replace") as file:
            return file.readline(LONGEST).strip()
    except (FileNotFoundError, NotADirectoryError):
        return None


def models_in(run: str) -> list[str]:
    """The folders of a run's models that have been saved at least once."""
    if not os.path.isdir(run):
        return []
    return sorted(name for name in os.listdir(run) if os.path.isfile(os.path.join(run, name, POINTER)))


def last_epoch(run: str) -> int | None:
    """The epoch that a run saved last; None where nothing was saved, as in a zero-shot run."""
    epochs = (epoch_of(last_checkpoint(os.path.join(run, name)) or "") for name in models_in(run))
    return next((epoch for epoch in epochs if epoch is not None), None)
