"""MMA: Yang et al., "MMA: Multi-Modal Adapter for Vision-Language Models", CVPR 2024.

Beside each of the later blocks of both encoders stands a small adapter, whose middle layer the two encoders share.

    B images or texts      L tokens      D width of an encoder      q width of an adapter
"""

from collections import OrderedDict

import torch
import torch.nn as nn

import clip
from dassl.engine import TRAINER_REGISTRY

from .shared.clip_trainer import ClipTrainer
from .shared.deep_prompts import check_depth
from .shared.prompts import Learner, embedded_prompts


class ScaledGradient(torch.autograd.Function):
    """The same tensor, whose gradient is `factor` times as large."""

    @staticmethod
    def forward(ctx, x, factor):
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient):
        return gradient * ctx.factor, None


def with_gradient(x: torch.Tensor, factor: float) -> torch.Tensor:
    return ScaledGradient.apply(x, factor) if torch.is_grad_enabled() else x


class BesideBlocks(clip.Edit):
    """Adds to what block i gives what its adapter makes of the block's normed input, times `scale`. The adapter learns as if there
    were no scale, which its input's gradient has.
    """

    def __init__(self, encoder, own: nn.ModuleList, shared: nn.ModuleList, scale: float):
        self.blocks, self.own, self.shared, self.scale = encoder.resblocks, own, shared, scale

    def before_block(self, x, i):
        if (own := self.own[i + 1]) is not None:
            normed = self.blocks[i].ln_1(with_gradient(x, self.scale)).float()  # (B, L, D)
            y = own.up(self.shared[i + 1](own.down(normed))) * self.scale  # (B, L, q) twice, then (B, L, D)
            self.beside = with_gradient(y, 1 / self.scale).to(x.dtype)
        return x

    def after_block(self, x, i, class_attention):
        return x if self.own[i + 1] is None else x + self.beside[:, : x.shape[1]]

    def reads_all(self, i):
        return False


class AdapterLearner(Learner):
    """`text_adapter` and `visual_adapter`, D -> q and back, and `shared_adapter` between them; by blocks, counted from 1.

    The names are those of the published checkpoints, and the numbers are drawn in the published order.
    """

    frozen_images = False

    def __init__(self, clip_model, classnames, keys):
        super().__init__()
        for encoder in (clip_model.visual, clip_model):
            check_depth("ADAPTER_END", keys.ADAPTER_END, 1, encoder)
        if keys.ADAPTER_START > keys.ADAPTER_END:
            raise clip.InputError(
                f"TRAINER.MMA.ADAPTER_START is {keys.ADAPTER_START}, behind TRAINER.MMA.ADAPTER_END, {keys.ADAPTER_END}: choose an earlier block."
            )
        self.encoders, self.scale = (clip_model.transformer, clip_model.visual.transformer), keys.ADAPTER_SCALE
        prompts, end = embedded_prompts(clip_model, classnames, f"{keys.TEXT_CTX_INIT} {{}}.".lstrip())
        self.register_buffer("prompts", prompts, persistent=False)  # (C, L, D)
        self.register_buffer("end", end, persistent=False)  # (C,)
        blocks, q = range(1 + max(encoder.layers for encoder in self.encoders)), keys.ADAPTER_DIM
        taken = [keys.ADAPTER_START <= block <= keys.ADAPTER_END for block in blocks]
        text, image = (encoder.width for encoder in self.encoders)
        self.text_adapter = drawn([through(text, q) if takes else None for takes in taken])
        self.visual_adapter = drawn([through(image, q) if takes else None for takes in taken])
        self.shared_adapter = drawn([layer(q, q) if takes else None for takes in taken])

    def forward(self):
        return self.prompts, self.end

    def text_edits(self):
        return [BesideBlocks(self.encoders[0], self.text_adapter, self.shared_adapter, self.scale)]

    def image_edits(self):
        return [BesideBlocks(self.encoders[1], self.visual_adapter, self.shared_adapter, self.scale)]


def layer(width: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, out), nn.ReLU())


def through(width: int, q: int) -> nn.Sequential:
    return nn.Sequential(OrderedDict([("down", layer(width, q)), ("up", nn.Linear(q, width))]))


def drawn(adapters: list[nn.Module | None]) -> nn.ModuleList:
    """First values, of one list after another."""
    modules = nn.ModuleList(adapters)
    for module in modules.modules():
        if isinstance(module, nn.Linear):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(module.bias)
    return modules


@TRAINER_REGISTRY.register()
class MMA(ClipTrainer):
    config_node = "MMA"
    config_keys = {
        "TEXT_CTX_INIT": "a photo of a",  # the words before a class name, in all data sets
        "ADAPTER_START": 5,  # the first block of either encoder with an adapter, counted from 1
        "ADAPTER_END": 12,  # the last one
        "ADAPTER_DIM": 32,  # width of the adapters
        "ADAPTER_SCALE": 0.001,  # times what an adapter adds
    }
    config_ranges = {
        "ADAPTER_START": "at least 1",
        "ADAPTER_END": "at least 1",
        "ADAPTER_DIM": "at least 1",
        "ADAPTER_SCALE": "above 0",
    }
    learner_name = "adapter_learner"
    unused_tensors = frozenset({"token_embedding", "tokenized_prompts"})

    def build_learner(self, clip_model, classnames):
        return AdapterLearner(clip_model, classnames, self.keys)
