"""Training steps to be timed: a trainer's own, and the field's usual ones, on the same made-up batch.

The trainer is the real one, built from its config; only its images, labels and class names are made up, so nothing is
read from a disk but CLIP's weights, which may be random ones (`random_weights`).
"""

import contextlib
import io
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks.field_steps import FIELD, FieldStep
from benchmarks.fps.predictors import VIT_B_16, class_names
from benchmarks.made_up import made_up
from clip.model import CLIP, convert_weights
from dassl.engine import TRAINER_REGISTRY
from dassl.utils import MetricMeter, set_random_seed
from one_run.config import build_config, options_of
from one_run.layout import CONFIGS
from trainers.shared.clip_trainer import ClipTrainer
from trainers.spotlighter import over

EMBEDDED = "ViT-Embedded/8"
LOGIT_SCALE = 100.0  # CLIP's
# With chance in it, so that each step encodes its images anew, as in CoOp's own runs.
TRANSFORMS = ("random_resized_crop", "random_flip", "normalize")


def random_weights(folder: str | os.PathLike, sizes: dict = VIT_B_16) -> str:
    """A file with random weights of a CLIP of that size, in half precision as OpenAI's are; its path."""
    path = Path(folder) / "random_clip.pt"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = CLIP(**sizes)
    with torch.no_grad():
        model.logit_scale.fill_(LOGIT_SCALE).log_()
    convert_weights(model)
    torch.save(model.state_dict(), path)
    return str(path)


def build(method: str, weights: str, classes: int, *, use_cuda: bool, precision: str = "auto", options=()) -> ClipTrainer:  # fmt: skip
    """The trainer of a method as its authors set it on ViT-B/16, or as the embedded world has it, in the midst of an epoch.

    method: a registered name; "Spotlighter" is over CoOp.
    weights: a name of `clip.available_models()`, or a file's path.
    options: KEY, VALUE, ... of the config.
    """
    host = TRAINER_REGISTRY.get("CoOp" if method == "Spotlighter" else method)
    file = CONFIGS / "trainers" / method / f"{'embedded' if weights == EMBEDDED else 'vit_b16'}.yaml"
    given = {
        "MODEL.BACKBONE.NAME": weights,
        "USE_CUDA": use_cuda,
        "VERBOSE": False,
        "INPUT.TRANSFORMS": TRANSFORMS,
        "FEATURES.DIR": "",
        f"TRAINER.{host.config_node}.PREC": precision,
    }
    cfg = build_config(method, [file], [*options_of(given), *options], seed=1)
    set_random_seed(cfg.SEED)
    with contextlib.redirect_stdout(io.StringIO()):
        kind = over(host) if method == "Spotlighter" else host
        trainer = made_up(kind, tuple(class_names()[:classes]))(cfg)
        with tempfile.TemporaryDirectory() as trainer.output_dir:
            trainer.before_train()
    trainer.batch_idx, trainer.num_batches = 0, sys.maxsize
    trainer.set_model_mode("train")
    return trainer


def made_up_batch(trainer: ClipTrainer, size: int, seed: int = 0) -> dict[str, Tensor]:
    """What a loader hands over, of normalised images: on the CPU, in memory from which a GPU copies by itself."""
    chance, side = torch.Generator().manual_seed(seed), trainer.model.clip.visual.input_resolution
    batch = {
        "img": torch.randn(size, 3, side, side, generator=chance),
        "label": torch.randint(trainer.num_classes, (size,), generator=chance),
        "index": torch.arange(size),
        "domain": torch.zeros(size, dtype=torch.long),
    }
    return batch if trainer.device.type == "cpu" else {name: value.pin_memory() for name, value in batch.items()}


class OurStep:
    """A step of the engine's loop: the trainer's own `forward_backward`, whose numbers are read when a line of progress is due."""

    def __init__(self, trainer: ClipTrainer):
        self.trainer, self.done = trainer, 0
        self.meter = MetricMeter(readings=trainer.readings)

    def __call__(self, batch: dict) -> dict:
        shown = self.trainer.forward_backward(batch)
        self.meter.update(shown)
        self.done += 1
        if self.done % self.trainer.cfg.TRAIN.PRINT_FREQ == 0:
            self.trainer.readings.fetch()
        return shown


class Steps(NamedTuple):
    """Both take one step on the same batch, each with learned tensors of its own, and return what they show."""

    trainer: ClipTrainer
    ours: Callable[[], dict]
    theirs: Callable[[], dict] | None  # None: of this method there is no re-creation


def steps(method: str, weights: str, classes: int, batch: int | None = None, options=(), **how) -> Steps:
    """The two steps of a method (Spotlighter's are its host's); `batch` None: as many images as its config says.

    `options` and `how` are for `build`.
    """
    own = [] if batch is None else ["DATALOADER.TRAIN_X.BATCH_SIZE", batch]
    trainer = build(method, weights, classes, options=[*own, *options], **how)
    images = made_up_batch(trainer, trainer.cfg.DATALOADER.TRAIN_X.BATCH_SIZE)
    ours, theirs = OurStep(trainer), FieldStep(trainer) if trainer.config_node in FIELD else None
    return Steps(trainer, lambda: ours(images), None if theirs is None else lambda: theirs(images))
