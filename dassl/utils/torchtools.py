"""Checkpoints (where they stand: `dassl/checkpoints.py`) and parameters."""

import os
from collections import OrderedDict
from collections.abc import Iterable

import torch
import torch.nn as nn

import inert

from ..checkpoints import BEST, POINTER, file_of
from ..errors import InputError
from .files import mkdir_if_missing, replace_file
from .resume import load_checkpoint as load_checkpoint
from .resume import resume_from_checkpoint as resume_from_checkpoint
from .tools import tolist_if_not

__all__ = [
    "count_num_param",
    "device_of_run",
    "load_checkpoint",
    "load_pretrained_weights",
    "open_all_layers",
    "open_specified_layers",
    "resume_from_checkpoint",
    "save_checkpoint",
]

GPU = "cuda"  # the type of the device that a run computes on, where there is one


def device_of_run(use_cuda: bool = True) -> torch.device:
    """The GPU, if there is one and it is wanted; else the CPU."""
    return torch.device(GPU if use_cuda and torch.cuda.is_available() else "cpu")


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
