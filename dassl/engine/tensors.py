"""What the engine asks of many tensors at once, so that a GPU is waited for once and not for each of them."""

import functools
import math
from collections.abc import Mapping

import torch
import torch.nn as nn

from dassl.utils import Readings

REMEDY = "train again with a lower OPTIM.LR, or compute in fp32"


def wait_for(device: torch.device) -> None:
    """Until a GPU has done all that it was given."""
    if device.type != "cpu":
        torch.cuda.synchronize()


def on_cpu(state: Mapping, device: torch.device) -> dict:
    """A copy of a state that stays as it is, and takes nothing of the memory of a GPU, `device`."""
    copy = copied(state)
    wait_for(device)
    return copy


def copied(value):
    """The same, on its way: nobody may read it yet. Objects of other code are not copied: a schedule may hold its
    optimiser, and with it the model.
    """
    if torch.is_tensor(value):
        return value.detach().to("cpu", copy=True, non_blocking=True)
    if isinstance(value, dict):
        return {key: copied(inner) for key, inner in value.items()}
    return type(value)(map(copied, value)) if type(value) in (list, tuple) else value


def check_finite(modules: Mapping[str, nn.Module], readings: Readings) -> None:
    """Refuse modules, by name, with a parameter or a buffer that is infinite or NaN; -inf is a mask, which is no fault."""
    for name, module in modules.items():
        for tensor, value in (*module.named_parameters(), *module.named_buffers()):
            readings.add((value < math.inf).all(), functools.partial(refuse_infinite, f"{tensor} of {name}"))
    readings.fetch()


def refuse_infinite(what: str, is_finite: float) -> None:
    if not is_finite:
        raise FloatingPointError(f"{what} is infinite or NaN: {REMEDY}.")
