"""A finished run -> its trainer, ready to predict: on its data set, or without it."""

import math
import os
from collections.abc import Sequence
from pathlib import Path

import torch
from yacs.config import CfgNode

from dassl.data.datasets import DATASET_REGISTRY
from dassl.data.datasets.build import given
from dassl.engine import build_trainer
from dassl.errors import InputError

from .classes import HALVES
from .config import build_config, options_of
from .differences import refuse_other_training
from .folder import FILE, is_identity, whole_record
from .identity import flatten, identity_of, sha256_of_weights
from .work import check_precision, weights_to_test


def record_of_training(run: Path) -> dict:
    """The record of a training run; everything else is refused."""
    if not os.path.isdir(run):  # of a name that is too long too
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


def config_of_record(record: dict, changes: dict, options: Sequence = ()) -> CfgNode:
    """The config of a run, to be used once more: with `changes`, then further KEY, VALUE, ..."""
    changes = {
        "RESUME": "",
        "MODEL.INIT_WEIGHTS": "",  # the run's own weights come instead
        "DATALOADER.NUM_WORKERS": 0,
        "DATALOADER.TEST.CACHE_DIR": "",
        "VERBOSE": False,
        **changes,
    }
    return build_config(record["method"], options=[*options_of(flatten(record["config"]) | changes), *options])


def rebuild(run: Path, classes: str = "", root: str = "", epoch: int | None = None, options: tuple = ()):
    """The trainer of a finished training run, built from the config in its record, with its weights.

    classes: predict among base, new or all (default: those it was trained on). root: the data root, where it is
    another now. epoch: which checkpoint (default: the last). options: further KEY, VALUE, ...
    """
    record = record_of_training(run)
    refuse_test(run, record)
    changes = {
        "USE_CUDA": torch.cuda.is_available(),
        **({"DATASET.ROOT": root} if root else {}),
        **({"DATASET.SUBSAMPLE_CLASSES": classes} if classes else {}),
    }
    cfg = config_of_record(record, changes, options)
    check_precision(cfg)
    weights = weights_to_test(cfg, str(run), epoch)
    trainer = build_trainer(cfg)
    here = identity_of(cfg, trainer.dm.dataset, look=False)
    refuse_other_training(here | {"seed": None}, record.get("identity"), str(run))  # whose images may be elsewhere
    return loaded(trainer, run, weights)


def loaded(trainer, run: Path, weights: dict | None):
    """With the run's weights, for tests alone."""
    trainer.load_trained(str(run), epoch=weights["epoch"] if weights else None)
    trainer.set_model_mode("eval")
    if hasattr(trainer, "encode_classes"):
        with torch.no_grad(), trainer.autocast():
            trainer.class_state = trainer.encode_classes()  # once, not once an image
    return trainer


@torch.no_grad()
def logits_of(trainer, images: torch.Tensor, paths: Sequence[str]) -> torch.Tensor:
    """Of images (B, 3, H, W) on the trainer's device: (B, C) fp32 on the CPU. A picture whose logits name no class is named."""
    logits = trainer.model_inference(images)
    trainer.check_output(logits, {"impath": paths})
    trainer.readings.fetch()
    return logits.float().cpu()


# --- without its data set ------------------------------------------------------------------------------------------


class OnlyClasses:
    """In place of a data set: its classes, and no image."""

    train_x = train_u = val = test = ()

    def __init__(self, names: Sequence[str]):
        self.classnames, self.lab2cname, self.num_classes = list(names), dict(enumerate(names)), len(names)


def without_images(cfg: CfgNode, names: Sequence[str]) -> OnlyClasses:
    """Named classes in place of the config's data set, with its prompt: methods ask for its name, and for that."""
    name, facts = cfg.DATASET.NAME, {}
    if name in DATASET_REGISTRY.registered_names():
        kind = DATASET_REGISTRY.get(name)
        if hasattr(kind, "template_of"):
            facts["template"] = kind.template_of(cfg)
        elif hasattr(kind, "template"):
            facts["template"] = kind.template
    return type(name, (OnlyClasses,), facts)(names)


def rebuild_to_predict(
    run: Path, classes: Sequence[str] | str = "", use_cuda: bool = False, epoch: int | None = None, options: tuple = ()
):
    """The trainer of a finished training run, with its weights, and without its data set, which need not be here.

    classes: names to predict among, of any classes; or base, new or all of its data set (default: those it was trained
    on). It computes in the run's precision, or in fp32 where a CPU cannot; `precision` is said by the trainer.
    """
    record = record_of_training(run)
    refuse_test(run, record)
    cfg = config_of_record(record, {"USE_CUDA": use_cuda, **precision_of(record, use_cuda)}, options)
    check_precision(cfg)
    weights = weights_to_test(cfg, str(run), epoch)
    then = record.get("identity") if is_identity(record.get("identity")) else None
    if then is not None:  # of what stands around the run's own weights
        refuse_other_training({"dataset": None, "files": sha256_of_weights(cfg)}, then, str(run))
    names = classes_asked_for(classes, then, run) if isinstance(classes, str) else list(classes)
    with given(without_images(cfg, names)):
        trainer = build_trainer(cfg)
    return loaded(trainer, run, weights)


def precision_of(record: dict, use_cuda: bool) -> dict[str, str]:
    """The method's PREC keys, for the precision that a run was computed in."""
    then = record.get("precision")
    if then is None:  # a trainer file that says none
        return {}
    now = "fp32" if then in ("fp16", "amp") and not use_cuda else then
    return dict.fromkeys(precision_keys(record), now)


def precision_keys(record: dict) -> list[str]:
    """The methods' PREC keys in a record's config."""
    return [key for key in flatten(record["config"]) if key.startswith("TRAINER.") and key.endswith(".PREC")]


def classes_asked_for(which: str, identity: dict | None, run: Path) -> list[str]:
    """Names, by base, new, all, or "" for those that the run was trained on."""
    if which and which not in HALVES:
        raise InputError(f"{which!r} are no classes: name some, or choose one of {', '.join(HALVES)}.")
    known = (identity or {}).get("all_classes" if which else "classes") or []
    half = math.ceil(len(known) / 2)  # as in datasets/base.py
    found = {"": known, "all": known, "base": known[:half], "new": known[half:]}[which]
    if not found:
        raise InputError(f"The record of {run} does not say which classes there are: name them.")
    return found
