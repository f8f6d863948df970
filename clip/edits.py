"""The one way to reach into CLIP's encoders: an `Edit` works on the tokens before, between and behind the blocks.

B images or texts      L tokens      D width      N patches      m tokens of a prompt
"""

from collections.abc import Sequence

import torch
from torch import Tensor


class Edit:
    """What a method does to a token sequence between blocks; x is (B, L, D), the class token first in an image.

    Override what is needed, and return the sequence, of any length. An edit may also be an nn.Module.
    """

    draws: bool = False
    """Whether chance takes part in what it does, as in dropout."""

    size: int = 0
    """Pixels along a side of the images that it is for; 0: those that the encoder takes."""

    added: int = 0
    """Places that it puts before the end of a text."""

    def positions(self, table: Tensor) -> Tensor:
        """The image encoder's positions (1 + N, D), of images of that size."""
        return table

    def see(self, images: Tensor) -> None:
        """Once, before all else, in the image encoder: the images (B, 3, H, W) that it gets."""

    def embed(self, x: Tensor) -> Tensor:
        """Once, before the first block; in the image encoder after the positions, before `ln_pre`."""
        return x

    def before_block(self, x: Tensor, i: int) -> Tensor:
        return x

    def project(self, x: Tensor, i: int) -> Tensor:
        """What is added to block i's queries, keys and values (B, L, 3 D), of its attention's input x (B, L, D)."""
        raise NotImplementedError

    def needs_class_attention(self, i: int) -> bool:
        """Whether `after_block` wants block i's attention; it costs one row, not the whole matrix."""
        return False

    def after_block(self, x: Tensor, i: int, class_attention: Tensor | None) -> Tensor:
        """`class_attention` (B, L): how much the first token attends to each, averaged over heads; None unless needed."""
        return x

    def reads_all(self, i: int) -> bool:
        """Whether `after_block` needs all tokens of block i's result, also where the caller wants the first few alone."""
        return type(self).after_block is not Edit.after_block

    def of_rows(self, rows: slice) -> "Edit":
        """The edit for those of the text encoder's prompts, which may go through it in parts."""
        return self

    def ends_before(self, i: int) -> bool:
        """Whether the encoder ends before block i, whose result nobody needs."""
        return False

    def patches_left(self, count: int) -> int:
        """How many of `count` patch tokens this edit leaves; they stand right behind the class token."""
        return count


Edits = Sequence[Edit]


class VisualPrompts(Edit):
    """Learned tokens at the end of an image's sequence (VPT, Jia et al., ECCV 2022): prompts[i] (m, D) is for block i.

    The first enter before `ln_pre`; those of a later block take the place of what the former ones have become.
    """

    def __init__(self, prompts: Sequence[Tensor]):
        self.prompts = prompts

    def embed(self, x: Tensor) -> Tensor:
        return torch.cat([x, batch_of(self.prompts[0], x)], dim=1)  # (B, 1 + N + m, D)

    def before_block(self, x: Tensor, i: int) -> Tensor:
        if not 0 < i < len(self.prompts):
            return x
        return torch.cat([x[:, : -len(self.prompts[i])], batch_of(self.prompts[i], x)], dim=1)


class TextPrompts(Edit):
    """Learned tokens behind a text's first `after`, its start token and what else stays: prompts[i] (m, D) replaces its
    positions after..after + m - 1 before block i + 1.

    The first block's context stands in the prompt itself, so there is none for it here.
    """

    def __init__(self, prompts: Sequence[Tensor], after: int = 1):
        self.prompts, self.after = prompts, after

    def before_block(self, x: Tensor, i: int) -> Tensor:
        if not 0 < i <= len(self.prompts):
            return x
        prompt, after = self.prompts[i - 1], self.after
        return torch.cat([x[:, :after], batch_of(prompt, x), x[:, after + len(prompt) :]], dim=1)


def batch_of(prompt: Tensor, x: Tensor) -> Tensor:
    """A prompt (m, D) for every sequence of x (B, L, D), in its precision: (B, m, D)."""
    return prompt.to(x.dtype).expand(x.shape[0], -1, -1)  # len would fix the number, where a graph is exported
