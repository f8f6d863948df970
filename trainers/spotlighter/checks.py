"""What Spotlighter's config keys may be: each rule refuses in one sentence."""

import torch.nn as nn

from clip import InputError
from clip.vit import VisionTransformer

from .drop import SCORES, number_kept


def check_keys(own) -> None:
    """Refuse settings that no encoder could serve; `own` are Spotlighter's config keys."""
    rules = [
        ("HEAD", own.HEAD in ("lite", "full"), "'lite' (21 scalars) or 'full' (the paper's mapping modules)"),
        ("R", own.R >= 1, "the number of tokens kept by the head, at least 1"),
        ("K", own.K >= 1, "the number of prototypes a class, at least 1"),
        ("LEVELS", own.LEVELS in (1, 2), "1 or 2"),
        ("KEEP", 0 < own.KEEP <= 1, "the share of tokens kept, above 0 and at most 1"),
        ("SCORE", own.SCORE in SCORES, f"one of {', '.join(SCORES)}"),
        ("GRID", 0 <= own.GRID <= 1, "the share of kept places on a regular grid, from 0 to 1"),
        ("ZOOM", own.ZOOM in (0, 1, 3), "0 (off), 1 or 3 regions"),
        ("DROP_AFTER", are_blocks(own.DROP_AFTER), "different blocks, at least one, as in (1,)"),
    ]
    for name, holds, allowed in rules:
        if not holds:
            raise InputError(f"TRAINER.SPOTLIGHTER.{name} is {own[name]!r}: it must be {allowed}.")


def are_blocks(blocks: tuple) -> bool:
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
