"""Two trainings from one seed are equal to the bit, on the same card: losses, what is learned, and logits.

Whole trainings on drawn pictures, through loaders, schedule, fit and test; and steps at ViT-B/16's size, where a GPU
chooses other kernels.
"""

from collections.abc import Iterator
from pathlib import Path

import torch

from benchmarks.steps import build, made_up_batch
from one_run.work import set_seed

from . import agreement
from .cells import Settings, cell

METHODS = ("CoOp", "MaPLe", "Spotlighter")
STEPS, BATCH = 10, 8
EPOCHS = 3


def cells(settings: Settings) -> Iterator[dict]:
    for method in METHODS[:1] if settings.quick else METHODS:
        for precision in ("fp32", "fp16" if settings.use_cuda else "bf16")[: 1 if settings.quick else 2]:
            both = (method, precision)
            yield cell(
                settings, f"{method}, {precision}, trainings", lambda both=both: twice(a_training, settings, *both)
            )
            if not settings.quick:
                yield cell(
                    settings, f"{method}, {precision}, steps", lambda both=both: twice(some_steps, settings, *both)
                )


def twice(training, settings: Settings, method: str, precision: str) -> dict:
    """How many tensors were compared; "failed" with those that differ."""
    first, second = (training(settings, method, precision) for _ in range(2))
    different = list(differing(first, second))
    return {"tensors": len(first)} | ({"failed": f"not the same: {'; '.join(different)}"} if different else {})


def differing(first: dict, second: dict) -> Iterator[str]:
    """Names, with how far apart at most."""
    for name, value in first.items():
        other = second.get(name)
        if other is None or other.shape != value.shape:
            yield f"{name} (another shape)"
        elif not torch.equal(value, other):
            yield f"{name} (by {(value.double() - other.double()).abs().max():.1e})"


def a_training(settings: Settings, method: str, precision: str) -> dict[str, torch.Tensor]:
    """Name -> value of a whole training: its losses, all that was learned, the logits of test images."""
    options = ("OPTIM.MAX_EPOCH", EPOCHS, "TEST.NO_TEST", True, "OUTPUT_DIR", str(Path(settings.folder) / "equality"))
    form = agreement.methods()[method]
    trainer = agreement.build(settings, form, use_cuda=settings.use_cuda, precision=precision, options=options)
    set_seed(trainer.cfg)
    losses = agreement.noted_losses(trainer)
    trainer.train()
    return state_of(trainer, losses) | {"logits": agreement.test_logits(trainer)}


def some_steps(settings: Settings, method: str, precision: str) -> dict[str, torch.Tensor]:
    """The same of some steps, each on other random images."""
    trainer = build(method, settings.weights, settings.classes, use_cuda=settings.use_cuda, precision=precision)
    for group in trainer.optim.param_groups:
        group["lr"] = trainer.cfg.OPTIM.LR  # not the first epoch's, which is small
    losses = agreement.noted_losses(trainer)
    for step in range(STEPS):
        trainer.forward_backward(made_up_batch(trainer, BATCH, seed=step))
    return state_of(trainer, losses)


def state_of(trainer, losses: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    learned = {
        f"{name}.{key}": value.detach().cpu()
        for name, model in trainer._models.items()
        for key, value in model.state_dict().items()
        if torch.is_tensor(value)
    }
    return {"losses": torch.stack(losses).cpu(), **learned}
