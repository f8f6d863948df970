"""Numbers that a state dict holds beside its weights, as OpenAI's archives do: what no tensor's shape says.

Where there are none, a model is as OpenAI's are: QuickGELU, a head for each 64 of the width, layer norms with 1e-5.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from .errors import InputError

QUICK_GELU = "quick_gelu"  # 1: QuickGELU, 0: GELU; NaN: it is another's file, which does not say
VISION_HEADS, TEXT_HEADS, EPS = "vision_heads", "transformer_heads", "layer_norm_eps"
RESOLUTION = "input_resolution"
OURS = (QUICK_GELU, VISION_HEADS, TEXT_HEADS, EPS)
NUMBERS = {*OURS, RESOLUTION, "context_length", "vocab_size"}  # the latter three are OpenAI's
UNKNOWN = math.nan


def written(numbers: Mapping[str, float]) -> dict[str, Tensor]:
    """The numbers as they stand in a state dict."""
    return {name: torch.tensor(value, dtype=torch.float64) for name, value in numbers.items()}


def read(state: Mapping[str, Tensor], name: str, default: float) -> float:
    return float(state[name]) if name in state else default


def is_openais(state: Mapping[str, Tensor]) -> bool:
    """Whether nothing is said that makes it another's: its weights are fp16, in files of fp32 too."""
    return QUICK_GELU not in state


def activation_of(state: Mapping[str, Tensor]) -> str:
    """ "quick_gelu" or "gelu"; refused where a file of another library does not say which."""
    quick = read(state, QUICK_GELU, 1)
    if math.isnan(quick):
        raise InputError(
            "These weights are open_clip's and do not say whether they were trained with GELU or QuickGELU: set "
            "MODEL.BACKBONE.ACT to gelu (most of LAION's and DataComp's) or quick_gelu (OpenAI's, MetaCLIP's, DFN's), or "
            "put their open_clip_config.json beside them."
        )
    return "quick_gelu" if quick else "gelu"


def heads_of(state: Mapping[str, Tensor], name: str, width: int, usual: int) -> int:
    """How many heads an encoder of that width has."""
    heads = int(read(state, name, usual))
    if heads < 1 or width % heads:
        raise InputError(f"An encoder of width {width} cannot have {heads} heads ({name}): correct the model's config.")
    return heads
