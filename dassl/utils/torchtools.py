"""Checkpoints (where they stand: `dassl/checkpoints.py`) and parameters."""

import os
from collections import OrderedDict
from collections.abc import Iterable

import torch
import torch.nn as nn

import inert

from ..checkpoints import BEST, POINTER, epoch_of, file_of, last_checkpoint
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
    state, epoch = checkpoint.get("state_dict"), checkpoint.get("epoch")
    if not isinstance(state, dict) or not is_count(epoch):
        raise InputError(f"{path} has no state_dict and epoch to go on from: start with it as MODEL.INIT_WEIGHTS.")
    if epoch_of(file) not in (None, epoch):
        raise InputError(f"{path} says that it is of epoch {epoch}: resume with the file as it was saved.")
    load_weights(model, state, path)
    by_config = hasattr(scheduler, "go_to")
    if optimizer is not None and checkpoint.get("optimizer") is not None:
        load_optimizer(optimizer, checkpoint, path, by_config)
    if by_config or (scheduler is not None and checkpoint.get("scheduler") is not None):
        load_schedule(scheduler, checkpoint.get("scheduler"), epoch, path)
    if scaler is not None and checkpoint.get("scaler") is not None:
        load_scaler(scaler, checkpoint["scaler"], path)
    if checkpoint.get("random_states") is not None:
        set_random_states(checkpoint["random_states"], path)
    print(f"Previous epoch: {epoch}")
    return epoch


def is_count(value) -> bool:
    return type(value) is int and 0 <= value < 2**31


def load_weights(model: nn.Module, state: dict, path: str) -> None:
    """A state dict whose names and shapes are all the model's."""
    try:
        model.load_state_dict(inert.in_own_names(state, model.state_dict()))
    except (RuntimeError, AttributeError, TypeError) as error:  # of what is no tensor, or no name
        reasons = " ".join(line.strip() for line in str(error).splitlines()[1:] or [str(error)])
        raise InputError(
            f"{path} does not fit the run that is to go on ({reasons}): resume with the same method and config."
        ) from error


def load_optimizer(optimizer, checkpoint: dict, path: str, by_config: bool) -> None:
    """Its state; what it is set to (rates, momentum, decay) is the checkpoint's too, or this run's config's."""
    state = checkpoint["optimizer"]
    check_whole(state, f"The optimiser in {path}")
    check_layout(state, path)
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
    check_steps(optimizer, path)


NO_OPTIMISER = "The optimiser in {} is none, or no whole one: start with it as MODEL.INIT_WEIGHTS."


def check_layout(state, path: str) -> None:
    """Refuse what no optimiser has saved: {"state": {number: {...}}, "param_groups": [{..., "params": numbers}, ...]}."""
    groups, kept = (state.get(key) for key in ("param_groups", "state")) if isinstance(state, dict) else (None, None)
    fits = isinstance(groups, list) and groups and all(isinstance(group, dict) for group in groups)
    lists = [group.get("params") for group in groups] if fits else []
    fits = fits and all(isinstance(numbers, list) and all(map(is_count, numbers)) for numbers in lists)
    numbers = [number for numbers in lists for number in numbers] if fits else []
    fits = fits and len({*numbers}) == len(numbers) and isinstance(kept, dict) and {*kept} <= {*numbers}
    if not fits or not all(isinstance(each, dict) for each in kept.values()):
        raise InputError(NO_OPTIMISER.format(path))


def check_steps(optimizer, path: str) -> None:
    """Refuse what an optimiser cannot go on with: of each parameter it has tensors of its shape, and counts its steps."""
    for param, kept in optimizer.state.items():
        for name, value in kept.items():
            if torch.is_tensor(value):
                fits = value.shape == param.shape or (name == "step" and value.numel() == 1)
            else:
                fits = value is None or (name == "step" and type(value) in (int, float))
            if not fits:
                raise InputError(NO_OPTIMISER.format(path))


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


def load_schedule(scheduler, state: dict | None, epoch: int, path: str) -> None:
    """Its state; with a schedule of `dassl.optim` this run's rates, from as many steps on as have been taken."""
    state = {} if state is None else state
    other = inert.not_loaded(state)
    steps = state.get("last_epoch") if isinstance(state, dict) and "settings" in state else epoch
    if not isinstance(state, dict) or not is_count(steps):
        raise InputError(f"The schedule in {path} is none: start with it as MODEL.INIT_WEIGHTS.")
    if not hasattr(scheduler, "go_to"):
        check_whole(state, f"The schedule in {path}")
        scheduler.load_state_dict(state)
        return
    if other:  # an object of other code, as after upstream's warm-up
        print(f"The schedule in {path} holds {other[0]}, which is not loaded: the rates go on by this run's config")
    scheduler.go_to(steps)  # upstream's stands still in its warm-up


def load_scaler(scaler, state, path: str) -> None:
    own = scaler.state_dict()
    if isinstance(state, dict) and not state:  # a disabled one's
        return
    if not isinstance(state, dict) or any(
        not is_positive(state.get(name)) for name in own if name != "_growth_tracker"
    ):
        raise InputError(f"The gradient scaler in {path} is none: start with it as MODEL.INIT_WEIGHTS.")
    scaler.load_state_dict(state)


def is_positive(value) -> bool:
    return type(value) in (int, float) and 0 < value < 2.0**128


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


def set_random_states(states: dict, path: str) -> None:
    """As `random_states` gave them; `path` is the file they stand in."""
    import random

    import numpy as np

    try:
        random.setstate((3, tuple(states["python"]), None))
        kind, words, position, has_gauss, gauss = states["numpy"]
        np.random.set_state((kind, np.array(words, dtype=np.uint32), position, has_gauss, gauss))
        torch.set_rng_state(states["torch"])
        if torch.cuda.is_available() and states["cuda"]:
            torch.cuda.set_rng_state_all(states["cuda"])
    except (
        KeyError,
        IndexError,
        TypeError,
        ValueError,
        OverflowError,
        RuntimeError,
    ) as error:  # as each setter says it
        raise InputError(
            f"The state of the random numbers in {path} is none ({error}): start with it as MODEL.INIT_WEIGHTS."
        ) from error


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
