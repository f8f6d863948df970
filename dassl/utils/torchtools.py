"""Checkpoints (where they stand: `dassl/checkpoints.py`) and parameters."""

import os
import pickle
from collections import OrderedDict
from collections.abc import Iterable

import torch
import torch.nn as nn

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
    """A checkpoint on the CPU; only tensors and plain values are read, never code."""
    if not fpath:
        raise InputError("No path of a checkpoint was given.")
    if not os.path.isfile(fpath):
        raise InputError(f"The checkpoint {fpath} does not exist: correct the path, or train first.")
    try:
        return torch.load(fpath, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(
            f"The checkpoint {fpath} holds more than tensors and plain values, or is cut short: it is not loaded."
        ) from error
    except (RuntimeError, EOFError, ValueError, OSError) as error:
        raise InputError(
            f"The checkpoint {fpath} cannot be read, it may be cut short: take an earlier one, or train again."
        ) from error


def resume_from_checkpoint(fdir: str, model: nn.Module, optimizer=None, scheduler=None) -> int:
    """Load the latest checkpoint of a folder into model, optimiser and schedule; the next epoch is returned.

    The state of the random number generators, if it was saved, is restored too.
    """
    file = last_checkpoint(fdir)
    if file is None:
        raise InputError(f"{fdir} has no file {POINTER!r} that names its last checkpoint: train first.")
    path = os.path.join(fdir, file)
    print(f'Loading checkpoint from "{path}"')
    checkpoint = load_checkpoint(path)
    try:
        model.load_state_dict(checkpoint["state_dict"])
    except RuntimeError as error:
        reasons = " ".join(line.strip() for line in str(error).splitlines()[1:])
        raise InputError(
            f"{path} does not fit the run that is to go on ({reasons}): resume with the same method and config."
        ) from error
    for part, key in ((optimizer, "optimizer"), (scheduler, "scheduler")):
        if part is not None and checkpoint.get(key) is not None:
            part.load_state_dict(checkpoint[key])
    if checkpoint.get("random_states"):
        set_random_states(checkpoint["random_states"])
    print(f"Previous epoch: {checkpoint['epoch']}")
    return checkpoint["epoch"]


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
    checkpoint = load_checkpoint(weight_path)
    given = checkpoint.get("state_dict", checkpoint)
    own = model.state_dict()
    given = {name.removeprefix("module."): value for name, value in given.items()}
    fitting = {name: value for name, value in given.items() if name in own and own[name].shape == value.shape}
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
