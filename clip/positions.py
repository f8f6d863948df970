"""Positions in a state dict: Long-CLIP's two tables as one, and those of images of another size.

L places of a text      D width      n patches along a side, N = n² in all
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from . import facts
from .errors import InputError

TEXT, IMAGE = "positional_embedding", "visual.positional_embedding"
BEHIND = "positional_embedding_res"
KEPT = 20  # places of a text that keep CLIP's own positions in Long-CLIP


def in_one_table(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Zhang et al., "Long-CLIP: Unlocking the Long-Text Capability of CLIP", ECCV 2024, keep the first positions of CLIP
    and learn those behind them in a table of its own.
    """
    if BEHIND not in state or TEXT not in state:
        return state
    rest = {name: value for name, value in state.items() if name != BEHIND}
    return rest | {TEXT: torch.cat([state[TEXT][:KEPT], state[BEHIND][KEPT:]])}  # (L, D)


def resized(state: dict[str, Tensor], size: int) -> dict[str, Tensor]:
    """For images of `size` pixels: the class token's position stays, the patches' are interpolated (bicubic, smoothed where
    they become fewer), as ViTs are moved to another resolution since Dosovitskiy et al., section 3.2.
    """
    if IMAGE not in state or "visual.conv1.weight" not in state:
        raise InputError("Positions of a residual network are not resized: set MODEL.BACKBONE.RESIZE_POSITIONS False.")
    table, patches = state[IMAGE], state["visual.conv1.weight"]  # (1 + N, D), (D, 3, patch, patch)
    former = round((len(table) - 1) ** 0.5) if table.dim() == 2 and len(table) else 0
    if former < 1 or former**2 != len(table) - 1 or patches.dim() != 4:
        raise InputError(
            f"Positions of shape {tuple(table.shape)} are none of a square image's patches, so that they cannot be resized: "
            "set MODEL.BACKBONE.RESIZE_POSITIONS False, or choose another backbone."
        )
    patch = patches.shape[-1]
    side = size // patch
    if side < 1:
        raise InputError(f"INPUT.SIZE {size} is smaller than one patch of {patch} pixels: choose a larger one.")
    return state | {IMAGE: interpolated(table, side)} | facts.written({facts.RESOLUTION: size})


def interpolated(table: Tensor, side: int) -> Tensor:
    """Positions (1 + n², D) of n x n patches for side x side: (1 + side², D)."""
    former = round((len(table) - 1) ** 0.5)
    if side == former:
        return table
    grid = table[1:].float().t().reshape(1, -1, former, former)  # (1, D, n, n)
    grid = F.interpolate(grid, size=(side, side), mode="bicubic", antialias=True)
    return torch.cat([table[:1], grid.flatten(2)[0].t().to(table.dtype)])
