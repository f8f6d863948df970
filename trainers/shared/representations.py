"""Representation tokens in both encoders, and the second feature of an image that they make; shared by MMRL and MMRL++.

B images      C classes      m representation tokens      d joint width      D, D_v widths of the encoders
"""

import torch
import torch.nn.functional as F
from torch import Tensor

import clip
from clip.edits import batch_of

from .prompted_clip import PromptedCLIP


def are_ascending(blocks) -> bool:
    """blocks from 1 on, at least one, in ascending order"""
    return (
        bool(blocks)
        and all(type(block) is int for block in blocks)
        and list(blocks) == sorted({*blocks})
        and min(blocks) > 0
    )


class RepresentationTokens(clip.Edit):
    """Tokens [(m, D)] for blocks `blocks`, from 0: behind a text's start token (`text`), or behind all of an image.

    Before the first of the blocks they enter; before a later one they take the place of what the former ones have become, or
    with `beta` below 1 that share of it. `kept` (B, m, D) is what an image's are behind the last block.
    """

    def __init__(self, blocks: list[int], tokens: list[Tensor], beta: float, text: bool = False):
        self.of_block, self.first = dict(zip(blocks, tokens, strict=True)), blocks[0]
        self.beta, self.text, self.count = beta, text, len(tokens[0])
        self.added = self.count if text else 0

    def before_block(self, x, i):
        if i not in self.of_block:
            return x
        tokens = batch_of(self.of_block[i], x)  # (B, m, D)
        there = 0 if i == self.first else self.count
        start = 1 if self.text else x.shape[1] - there
        if there and self.beta < 1:
            tokens = self.beta * tokens + (1 - self.beta) * x[:, start : start + there]
        return torch.cat([x[:, :start], tokens, x[:, start + there :]], dim=1)

    def after_block(self, x, i, class_attention):
        self.kept = x[:, -self.count :]
        return x


class RepresentedCLIP(PromptedCLIP):
    """With two features of an image, of which `alpha` is the class token's share where classes were learned. `scale` is the
    factor on cosines; 0: CLIP's own.
    """

    def __init__(self, clip_model, learner, alpha: float, scale: float):
        super().__init__(clip_model, learner)
        self.alpha, self.scale = alpha, scale

    def features(self, images: Tensor, tokens: bool = False) -> tuple[Tensor, ...]:
        """(B, 3, H, W) -> the class token's and the representation tokens' feature, both (B, d), and with `tokens` those of
        the patches (B, N, d); unit rows.
        """
        edits = self.learner_edits()
        encoded = self.clip.encode_image(images, [*edits, *self.image_edits], tokens=tokens)
        f, *v = encoded if tokens else (encoded,)
        mean = self.clip.visual.ln_post(edits[0].kept).float().mean(dim=1)  # (B, m, D_v) -> (B, D_v)
        return tuple(F.normalize(x.float(), dim=-1) for x in (f, self.prompt_learner.project(mean), *v))

    def logit_scale(self):
        return torch.tensor(self.scale, device=self.clip.logit_scale.device) if self.scale else super().logit_scale()

    def joined(self, f: Tensor, g: Tensor) -> Tensor:
        """(B, d): what gives the sum of both features' logits, each by its share; no unit rows."""
        return self.alpha * f + (1 - self.alpha) * g if self.prompt_learner.knows_classes() else f

    def image_features(self, images, tokens=False):
        f, g, *v = self.features(images, tokens)
        f = F.normalize(self.joined(f, g), dim=-1)
        return (f, *v) if tokens else f

    def forward(self, images, text=None):
        return self.logits(self.joined(*self.features(images)), self.text_features() if text is None else text)
