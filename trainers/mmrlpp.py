"""MMRL++: Guo & Gu, "MMRL++: Parameter-Efficient and Interaction-Aware Representation Learning for Vision-Language Models",
IJCV 2026.

MMRL whose maps into the blocks of an encoder are one, each block with a bias and a difference of low rank of its own; whose
last map is the class token's with such a difference; and whose tokens keep a part of what those of the block before became.

    m, r representation tokens, their width      d joint width      D, D_v widths of the encoders      q a rank
"""

import math

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from dassl.engine import TRAINER_REGISTRY

from .mmrl import MMRL, RepresentationLearner


def low_rank(rows: int, columns: int, rank: int) -> tuple[nn.Parameter, nn.Parameter]:
    """A (rows, q) and B (q, columns), whose product is zero at first."""
    first = nn.init.kaiming_uniform_(torch.empty(rows, rank), a=math.sqrt(5))
    return nn.Parameter(first), nn.Parameter(torch.zeros(rank, columns))


class Difference(nn.Module):
    """A block's own part of a map r -> D."""

    def __init__(self, linear: nn.Linear, rank: int):
        super().__init__()
        self.A, self.B = low_rank(*linear.weight.shape, rank)
        self.bias = nn.Parameter(linear.bias.detach().clone())


class SharedMap(nn.Module):
    """One map `weight` (D, r) for all blocks, and of each its difference."""

    def __init__(self, linear: nn.Linear, blocks: int, rank: int):
        super().__init__()
        self.weight = nn.Parameter(linear.weight.detach().clone())
        self.srra = nn.ModuleList([Difference(linear, rank) for _ in range(blocks)])

    def forward(self, x: Tensor, i: int) -> Tensor:
        """(m, r) -> (m, D), of the i-th of the blocks."""
        own = self.srra[i]
        return F.linear(x, self.weight + own.A @ own.B, own.bias)


class SharedRepresentationLearner(RepresentationLearner):
    beside = ("A", "B")

    def draw_maps(self, proj, width, keys):
        self.beta = keys.BETA
        to_image, to_text = nn.Linear(keys.REP_DIM, len(proj)), nn.Linear(keys.REP_DIM, width)
        self.srra_r2vproj = SharedMap(to_image, len(self.blocks), keys.RES_LORA_DIM)
        self.srra_r2tproj = SharedMap(to_text, len(self.blocks), keys.RES_LORA_DIM)
        self.A, self.B = low_rank(*proj.shape, keys.PROJ_LORA_DIM)
        self.register_buffer("proj", proj, persistent=False)  # (D_v, d)

    def of_image(self, i):
        return self.srra_r2vproj(self.compound_rep_tokens, i)

    def of_text(self, i):
        return self.srra_r2tproj(self.compound_rep_tokens, i)

    def project(self, x):
        return x @ (self.proj + self.A @ self.B)


@TRAINER_REGISTRY.register()
class MMRLpp(MMRL):
    config_node = "MMRLPP"
    config_keys = {
        **MMRL.config_keys,
        "BETA": 0.9,  # a block's own share in its tokens; the rest is what those of the block before became
        "RES_LORA_DIM": 4,  # rank of a block's difference
        "PROJ_LORA_DIM": 64,  # rank of the last map's difference
    }
    config_ranges = {
        **MMRL.config_ranges,
        "BETA": "at least 0 and at most 1",
        "RES_LORA_DIM": "at least 1",
        "PROJ_LORA_DIM": "at least 1",
    }
    learner_kind = SharedRepresentationLearner
