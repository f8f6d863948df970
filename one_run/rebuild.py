"""A finished run -> its trainer, ready to predict."""

from pathlib import Path

import torch

from dassl.engine import build_trainer
from dassl.errors import InputError

from .config import build_config
from .differences import refuse_other_training
from .folder import FILE, whole_record
from .identity import flatten, identity_of
from .work import check_precision, weights_to_test


def record_of_training(run: Path) -> dict:
    """The record of a training run; everything else is refused."""
    if not run.is_dir():
        raise InputError(f"The run {run} does not exist: pass the --output-dir of a finished training run.")
    record = whole_record(run)
    if record is None or not isinstance(record.get("config"), dict) or not isinstance(record.get("method"), str):
        raise InputError(
            f"{run} holds no {FILE} with a method and its config, so it is not a run: pass a training run's --output-dir."
        )
    return record


def refuse_test(run: Path, record: dict) -> None:
    """A test has no model of its own."""
    weights = record.get("weights")
    if weights:
        raise InputError(
            f"{run} is a test of the model in {weights.get('model_dir')}: pass that folder, and --classes."
        )


def rebuild(run: Path, classes: str = "", root: str = "", epoch: int | None = None, options: tuple = ()):
    """The trainer of a finished training run, built from the config in its record, with its weights.

    classes: predict among base, new or all (default: those it was trained on). root: the data root, where it is
    another now. epoch: which checkpoint (default: the last). options: further KEY, VALUE, ...
    """
    record = record_of_training(run)
    refuse_test(run, record)
    changes = {
        "USE_CUDA": torch.cuda.is_available(),
        "RESUME": "",
        "MODEL.INIT_WEIGHTS": "",  # the run's own weights come instead
        "DATALOADER.NUM_WORKERS": 0,
        "DATALOADER.TEST.CACHE_DIR": "",
        "VERBOSE": False,
        **({"DATASET.ROOT": root} if root else {}),
        **({"DATASET.SUBSAMPLE_CLASSES": classes} if classes else {}),
    }
    then = [part for pair in (flatten(record["config"]) | changes).items() for part in pair]
    cfg = build_config(record["method"], options=[*then, *options])
    check_precision(cfg)
    weights = weights_to_test(cfg, str(run), epoch)
    trainer = build_trainer(cfg)
    here = identity_of(cfg, trainer.dm.dataset, look=False)
    refuse_other_training(here | {"seed": None}, record.get("identity"), str(run))  # whose images may be elsewhere
    trainer.load_model(str(run), epoch=weights["epoch"] if weights else None)
    trainer.set_model_mode("eval")
    if hasattr(trainer, "encode_classes"):
        with torch.no_grad(), trainer.autocast():
            trainer.class_state = trainer.encode_classes()  # once, not once an image
    return trainer
