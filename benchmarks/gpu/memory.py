"""What a training step of CoOp takes at its peak, ours and the field's, as classes grow. No room is an answer too."""

from collections.abc import Iterator

import torch

from benchmarks.steps import steps
from dassl.engine.tensors import wait_for

from .cells import Settings, cell

CLASSES, BATCH = (100, 1000), 32
FORMS = {"ours": (), "ours in parts": ("TRAINER.MEMORY_MB", 1024), "theirs": ()}  # options
STEPS = 3  # the optimiser's own memory is there after the first
MIB = 2**20


def cells(settings: Settings) -> Iterator[dict]:
    for classes in (5,) if settings.quick else CLASSES:
        for who in FORMS:
            work = lambda classes=classes, who=who: peak(settings, classes, who)  # noqa: E731
            yield cell(settings, f"{classes} classes, {who}", work)


def peak(settings: Settings, classes: int, who: str) -> dict:
    """MiB of a GPU's memory: at the peak of some steps, and what is held between them. A CPU does not tell."""
    batch = 2 if settings.quick else BATCH
    both = steps("CoOp", settings.weights, classes, batch, FORMS[who], use_cuda=settings.use_cuda)
    step, trainer = both.theirs if who == "theirs" else both.ours, both.trainer
    record = {"classes": classes, "batch": batch, "who": who, "precision": trainer.precision}
    step()
    wait_for(trainer.device)
    if settings.use_cuda:
        torch.cuda.reset_peak_memory_stats()
        record["held_mib"] = torch.cuda.memory_allocated() / MIB
    for _ in range(STEPS):
        step()
    wait_for(trainer.device)
    return record | ({"peak_mib": torch.cuda.max_memory_allocated() / MIB} if settings.use_cuda else {})
