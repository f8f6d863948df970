"""Checkpoints (where they stand: `dassl/checkpoints.py`) and parameters."""

import os
from collections import OrderedDict
from collections.abc import Iterable

import torch
import torch.nn as nn

import inert

from ..checkpoints import BEST, POINTER, file_of, last_checkpoint
from ..errors import InputError
from .files import mkdir_if_missing, replace_file
from .tools import tolist_if_not

__all__ = [
    "count_num_param",
    "load_checkpoint",
    "load_pretrained_weights",
    "open_all_layers",
    "open_specified_layers",
    "resume_from_checkpoint",
    "save_checkpoint",
]


def save_checkpoint(
    state: dict, save_dir: str, is_best: bool = False, remove_module_from_keys: bool = True, model_name: str = ""
) -> None:
    """Write `state` as `model.pth.tar-<epoch>` (or `model_name`); with `is_best` as `model-best.pth.tar` too."""
    mkdir_if_missing(save_dir)
    if remove_module_from_keys:  # what nn.DataParallel puts in front of every name
        state["state_dict"] = OrderedDict(
            (key.removeprefix("module."), value) for key, value in state["state_dict"].items()
        )
    path = os.path.join(save_dir, model_name or file_of(state["epoch"]))
    replace_file(path, lambda file: torch.save(state, file))
    print(f"Checkpoint saved to {path}")
    replace_file(os.path.join(save_dir, POINTER), lambda file: file.write(f"{os.path.basename(path)}\n".encode()))
    if is_best:
        best = os.path.join(save_dir, BEST)
        replace_file(best, lambda file: torch.save(state, file))
        print(f'Best checkpoint saved to "{best}"')


def load_checkpoint(fpath: str) -> dict:
    """A checkpoint on the CPU, of ours or of upstream Dassl.

    Tensors and plain values are read, and no code: other objects come out as `inert.Inert`.
    """
    if not fpath:
        raise InputError("No path of a checkpoint was given.")
    if not os.path.isfile(fpath):
        raise InputError(f"The checkpoint {fpath} does not exist: correct the path, or train first.")
    try:
        checkpoint = inert.load(fpath)
    except inert.Unreadable as error:
        raise InputError(
            f"The checkpoint {fpath} {error.reason}: {error.remedy}, or take another checkpoint."
        ) from error
    if not isinstance(checkpoint, dict):
        kind = checkpoint.name if isinstance(checkpoint, inert.Inert) else type(checkpoint).__name__
        raise InputError(f"The checkpoint {fpath} holds a {kind} and no state dict: save the model's state_dict().")
    return checkpoint


def resume_from_checkpoint(fdir: str, model: nn.Module, optimizer=None, scheduler=None, scaler=None) -> int:
    """Load the latest checkpoint of a folder into model, optimiser, schedule and GradScaler; the next epoch is returned.

    With a schedule of `dassl.optim` the rates and the optimiser's other settings stay this run's. The state of the random
    number generators, if it was saved, is restored too.
    """
    file = last_checkpoint(fdir)
    if file is None:
        raise InputError(f"{fdir} has no file {POINTER!r} that names its last checkpoint: train first.")
    path = os.path.join(fdir, file)
    print(f'Loading checkpoint from "{path}"')
    checkpoint = load_checkpoint(path)
    if not isinstance(checkpoint.get("state_dict"), dict) or not isinstance(checkpoint.get("epoch"), int):
        raise InputError(f"{path} has no state_dict and epoch to go on from: start with it as MODEL.INIT_WEIGHTS.")
    try:
        model.load_state_dict(inert.in_own_names(checkpoint["state_dict"], model.state_dict()))
    except RuntimeError as error:
        reasons = " ".join(line.strip() for line in str(error).splitlines()[1:])
        raise InputError(
            f"{path} does not fit the run that is to go on ({reasons}): resume with the same method and config."
        ) from error
    by_config = hasattr(scheduler, "go_to")
    if optimizer is not None and checkpoint.get("optimizer") is not None:
        load_optimizer(optimizer, checkpoint, path, by_config)
    if by_config or (scheduler is not None and checkpoint.get("scheduler") is not None):
        load_schedule(scheduler, checkpoint.get("scheduler") or {}, checkpoint["epoch"], path)
    if scaler is not None and checkpoint.get("scaler"):  # a disabled one's state is empty
        scaler.load_state_dict(checkpoint["scaler"])
    if checkpoint.get("random_states"):
        set_random_states(checkpoint["random_states"])
    print(f"Previous epoch: {checkpoint['epoch']}")
    return checkpoint["epoch"]


def load_optimizer(optimizer, checkpoint: dict, path: str, by_config: bool) -> None:
    """Its state; what it is set to (rates, momentum, decay) is the checkpoint's too, or this run's config's."""
    state = checkpoint["optimizer"]
    check_whole(state, f"The optimiser in {path}")
    check_kind(optimizer, state, checkpoint.get("optimizer_class"), path)
    try:
        if by_config:
            pairs = zip(optimizer.state_dict()["param_groups"], state["param_groups"], strict=True)
            state = {**state, "param_groups": [{**ours, "params": theirs["params"]} for ours, theirs in pairs]}
        optimizer.load_state_dict(state)
    except ValueError as error:
        raise InputError(
            f"The optimiser in {path} has other groups of parameters than this run's ({error}): resume with the same "
            "method, OPTIM.STAGED_LR and OPTIM.NEW_LAYERS."
        ) from error


def check_kind(optimizer, state: dict, name: str | None, path: str) -> None:
    """Refuse the state of an optimiser of another kind; without the name of its class, as far as its settings tell."""
    ours, theirs = optimizer.param_groups[0], state["param_groups"][0]
    own = type(optimizer).__name__
    alike = ours.get("amsgrad", False) == theirs.get("amsgrad", False) and all(
        (setting in ours) == (setting in theirs) for setting in ("betas", "alpha", "nesterov", "amsgrad")
    )
    if name not in (None, own) or not alike:
        raise InputError(
            f"{path} was trained with another optimiser than this run's, {own}: resume with the OPTIM.NAME that "
            "it had, or start with it as MODEL.INIT_WEIGHTS."
        )
    lacks_momentum = not any("momentum_buffer" in each for each in state["state"].values())
    if own == "RMSprop" and ours["momentum"] > 0 and state["state"] and lacks_momentum:
        raise InputError(f"{path} was trained with RMSprop without momentum: resume with OPTIM.MOMENTUM 0.")


def load_schedule(scheduler, state: dict, epoch: int, path: str) -> None:
    """Its state; with a schedule of `dassl.optim` this run's rates, from as many steps on as have been taken."""
    other = inert.not_loaded(state)
    if not hasattr(scheduler, "go_to"):
        check_whole(state, f"The schedule in {path}")
        scheduler.load_state_dict(state)
        return
    if other:  # an object of other code, as after upstream's warm-up
        print(f"The schedule in {path} holds {other[0]}, which is not loaded: the rates go on by this run's config")
    scheduler.go_to(state["last_epoch"] if "settings" in state else epoch)  # upstream's stands still in its warm-up


def check_whole(state: dict, what: str) -> None:
    """Refuse to go on with a part of it: the run would become another."""
    other = inert.not_loaded(state)
    if other:
        raise InputError(f"{what} holds {other[0]}, which is not loaded: start with it as MODEL.INIT_WEIGHTS.")


def random_states() -> dict:
    """The state of every generator, in plain values and tensors."""
    import random

    import numpy as np

    kind, words, position, has_gauss, gauss = np.random.get_state()
    return {
        "python": list(random.getstate()[1]),
        "numpy": [kind, words.tolist(), position, has_gauss, gauss],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_random_states(states: dict) -> None:
    import random

    import numpy as np

    random.setstate((3, tuple(states["python"]), None))
    kind, words, position, has_gauss, gauss = states["numpy"]
    np.random.set_state((kind, np.array(words, dtype=np.uint32), position, has_gauss, gauss))
    torch.set_rng_state(states["torch"])
    if torch.cuda.is_available() and states["cuda"]:
        torch.cuda.set_rng_state_all(states["cuda"])


def load_pretrained_weights(model: nn.Module, weight_path: str) -> None:
    """Load what fits by name and shape; the rest is named, and nothing fitting is an error."""
    own = model.state_dict()
    given = inert.weights_of(load_checkpoint(weight_path), own)
    given = {name: value for name, value in given.items() if torch.is_tensor(value)}  # no module's extra state
    fitting = {name: value for name, value in given.items() if getattr(own.get(name), "shape", None) == value.shape}
    if not fitting:
        raise InputError(
            f"Nothing in {weight_path} fits the model by name and shape: it is the checkpoint of another model."
        )
    model.load_state_dict({**own, **fitting})
    print(f"Successfully loaded pretrained weights from {weight_path}")
    left_out = sorted(given.keys() - fitting.keys())
    if left_out:
        print(f"Left out, since their name or shape is not the model's: {left_out}")


def open_all_layers(model: nn.Module) -> None:
    """Everything is trained."""
    model.train()
    model.requires_grad_(True)


def open_specified_layers(model: nn.Module, open_layers: str | list[str]) -> None:
    """Only the children with these names are trained; the others are frozen, in evaluation mode."""
    open_layers = tolist_if_not(open_layers)
    children = dict(model.named_children())
    for name in open_layers:
        if name not in children:
            raise InputError(f"{name!r} is no child of the model: choose among {', '.join(children)}.")
    for name, child in children.items():
        child.train(name in open_layers)
        child.requires_grad_(name in open_layers)


def count_num_param(model: nn.Module | None = None, params: Iterable[nn.Parameter] | None = None) -> int:
    """Numbers in a model's parameters, or in those given."""
    return sum(p.numel() for p in (model.parameters() if model is not None else params))
