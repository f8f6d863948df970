"""Going on with a run: which of its checkpoints is whole, and what it gives model, optimiser and schedule."""

import itertools
import os
import random
from collections.abc import Iterable
from types import NoneType
from typing import NamedTuple

import numpy as np
import torch
import torch.nn as nn

import inert

from ..checkpoints import epoch_of, last_checkpoint, to_go_on_from
from ..errors import InputError

__all__ = ["Latest", "latest", "load_checkpoint", "random_states", "restore", "resume_from_checkpoint"]


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


class Latest(NamedTuple):
    """The checkpoints to go on from, by model, and what is to be said of those that are passed over."""

    epoch: int
    file: str
    checkpoints: dict[str, dict]
    said: list[str]


def latest(run: str, models: Iterable[str]) -> Latest | None:
    """The last epoch of which the checkpoints of all models are whole; None where there are none.

    A damaged one is named, and the one before it is taken. Where there is none before it, it is an InputError.
    """
    models, said = list(models), []
    for name in dict.fromkeys(last_checkpoint(os.path.join(run, model)) for model in models):
        if name is not None and not all(os.path.isfile(os.path.join(run, model, name)) for model in models):
            said.append(f"The last checkpoint of {run}, {name}, is missing")
    for file in to_go_on_from(run, models):
        try:
            found = {model: whole_checkpoint(os.path.join(run, model, file)) for model in models}
        except InputError as error:
            said.append(str(error))
            continue
        epoch = next(iter(found.values()))["epoch"]
        return Latest(epoch, file, found, [*said, f"It goes on from epoch {epoch}, the last whole one"] if said else [])
    damaged = [sentence for sentence in said if not sentence.endswith("is missing")]
    if damaged:
        raise InputError(f"{damaged[0]} There is no whole one before it: remove {run} to begin anew.")
    return None


def whole_checkpoint(path: str) -> dict:
    """A checkpoint that a run can go on from; InputError for any other."""
    checkpoint = load_checkpoint(path)
    epoch, optimizer, states = (checkpoint.get(key) for key in ("epoch", "optimizer", "random_states"))
    if not isinstance(checkpoint.get("state_dict"), dict) or not is_count(epoch):
        raise InputError(f"{path} has no state_dict and epoch to go on from: start with it as MODEL.INIT_WEIGHTS.")
    if epoch < 1 or epoch_of(path) not in (None, epoch):
        raise InputError(f"{path} says that it is of epoch {epoch}: resume with the file as it was saved.")
    if optimizer is not None and not inert.not_loaded(optimizer):  # else it is said when it is loaded
        check_layout(optimizer, path)
    if states is not None and not are_random_states(states):
        raise InputError(f"The state of the random numbers in {path} is none: start with it as MODEL.INIT_WEIGHTS.")
    return checkpoint


def resume_from_checkpoint(fdir: str, model: nn.Module, optimizer=None, scheduler=None, scaler=None) -> int:
    """Load the latest whole checkpoint of a folder into model, optimiser, schedule and GradScaler; the next epoch is
    returned. `restore` says what is loaded.
    """
    found = latest(fdir, [""])
    if found is None:
        raise InputError(f"{fdir} holds no checkpoint to go on from: train first.")
    for sentence in found.said:
        print(sentence)
    restore(found.checkpoints[""], os.path.join(fdir, found.file), model, optimizer, scheduler, scaler)
    return found.epoch


def restore(checkpoint: dict, path: str, model: nn.Module, optimizer=None, scheduler=None, scaler=None) -> None:
    """Put a checkpoint, that in `path`, into what it was made of.

    With a schedule of `dassl.optim` the rates and the optimiser's other settings stay this run's. The state of the random
    number generators, if it was saved, is restored too.
    """
    print(f'Loading checkpoint from "{path}"')
    load_weights(model, checkpoint["state_dict"], path)
    by_config = hasattr(scheduler, "go_to")
    if optimizer is not None and checkpoint.get("optimizer") is not None:
        load_optimizer(optimizer, checkpoint, path, by_config)
    if by_config or (scheduler is not None and checkpoint.get("scheduler") is not None):
        load_schedule(scheduler, checkpoint.get("scheduler"), checkpoint["epoch"], path)
    if scaler is not None and checkpoint.get("scaler") is not None:
        load_scaler(scaler, checkpoint["scaler"], path)
    if checkpoint.get("random_states") is not None:
        set_random_states(checkpoint["random_states"], device_of(model))
    print(f"Previous epoch: {checkpoint['epoch']}")


def is_count(value) -> bool:
    return type(value) is int and 0 <= value < 2**31


def load_weights(model: nn.Module, state: dict, path: str) -> None:
    """A state dict whose names and shapes are all the model's; what a module derives (`derived_tensors`) it derives anew."""
    derived = {name for part in model.modules() for name in getattr(part, "derived_tensors", ())}
    try:
        state = inert.in_own_names(state, model.state_dict())
        model.load_state_dict({name: value for name, value in state.items() if name not in derived})
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
    fits = fits and all(isinstance(each, dict) for each in kept.values())
    values = [value for each in kept.values() for value in each.values()] if fits else []
    if not fits or not all(torch.is_tensor(value) or type(value) in (int, float, NoneType) for value in values):
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


def device_of(model: nn.Module) -> torch.device:
    """Where a model is; the CPU, if nothing in it is anywhere."""
    first = next(itertools.chain(model.parameters(), model.buffers()), None)
    return torch.device("cpu") if first is None else first.device


def random_states(device: torch.device | None = None) -> dict:
    """The state of the generators that a run on `device` (None: the CPU) draws from, in plain values and tensors."""
    kind, words, position, has_gauss, gauss = np.random.get_state()
    return {
        "python": list(random.getstate()[1]),
        "numpy": [kind, words.tolist(), position, has_gauss, gauss],
        "torch": torch.get_rng_state(),
        "cuda": [torch.cuda.get_rng_state(device)] if on_gpu(device) else [],
    }


def are_random_states(states) -> bool:
    """Whether generators take them; those at hand stay as they are."""
    try:
        random.Random().setstate(of_python(states))
        np.random.RandomState().set_state(of_numpy(states))
        torch.Generator().set_state(states["torch"])
        return isinstance(states["cuda"], list) and all(map(is_state, states["cuda"]))
    except (LookupError, TypeError, ValueError, OverflowError, RuntimeError):  # as each setter says it
        return False


def is_state(value) -> bool:
    return torch.is_tensor(value) and value.dtype == torch.uint8 and value.dim() == 1


def on_gpu(device: torch.device | None) -> bool:
    return device is not None and device.type != "cpu"


def set_random_states(states: dict, device: torch.device | None = None) -> None:
    """For a run that goes on on `device`, whichever and however many GPUs it began on, or none.

    Checkpoints of former versions hold a state for each GPU that was visible; the run drew from the first.
    """
    random.setstate(of_python(states))
    np.random.set_state(of_numpy(states))
    torch.set_rng_state(states["torch"])
    if on_gpu(device) and states["cuda"]:
        torch.cuda.set_rng_state(states["cuda"][0], device)


def of_python(states: dict) -> tuple:
    return 3, tuple(states["python"]), None


def of_numpy(states: dict) -> tuple:
    kind, words, position, has_gauss, gauss = states["numpy"]
    return kind, np.array(words, dtype=np.uint32), position, has_gauss, gauss
