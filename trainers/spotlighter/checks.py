"""What Spotlighter asks of the image encoder, and of the blocks after which it drops tokens."""

import torch.nn as nn

from clip import InputError
from clip.vit import VisionTransformer

from .drop import number_kept


def are_blocks(blocks: tuple) -> bool:
    """different blocks, at least one, as in (1,)"""
    return len(set(blocks)) == len(blocks) > 0 and all(type(block) is int for block in blocks)


def check_encoder(visual: nn.Module, own, backbone: str) -> None:
    """Refuse what this image encoder cannot do."""
    if not isinstance(visual, VisionTransformer):
        raise InputError(
            f"Spotlighter selects visual tokens, and MODEL.BACKBONE.NAME {backbone} is a residual network, which has "
            "none: choose a ViT, such as ViT-B/16."
        )
    layers, left = visual.transformer.layers, visual.positional_embedding.shape[0] - 1
    outside = [block for block in own.DROP_AFTER if not 1 <= block < layers]
    if outside:
        raise InputError(
            f"TRAINER.SPOTLIGHTER.DROP_AFTER names block {outside[0]}: {backbone} has {layers} blocks, and tokens can "
            f"be dropped after blocks 1 to {layers - 1}."
        )
    for _ in own.DROP_AFTER if own.KEEP < 1 else ():
        left = number_kept(left, own.KEEP)
    if left < own.R:
        raise InputError(
            f"TRAINER.SPOTLIGHTER.R is {own.R}: the encoder leaves {left} tokens (KEEP {own.KEEP:g}), so R must be "
            f"from 1 to {left}."
        )


def check_budget(own) -> None:
    """Refuse, beside a budget, what spends tokens by itself and what needs them all."""
    rules = [
        (
            own.KEEP == 1 and own.ZOOM == 0,
            "chooses how many tokens are kept and what is looked at again: set KEEP 1 and ZOOM 0",
        ),
        (not own.JOINT, "is spent after training: set JOINT False"),
        (own.HEAD == "lite", "goes with HEAD lite, whose answers need no patch tokens"),
    ]
    for holds, why in rules:
        if own.BUDGET and not holds:
            raise InputError(f"TRAINER.SPOTLIGHTER.BUDGET {own.BUDGET:g} {why}.")
