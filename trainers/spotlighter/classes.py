"""The classes asked for, as a prediction needs them.

B images      C classes      d joint width      K prototypes a class
"""

from typing import NamedTuple

import torch
from torch import Tensor

BELIEVED = 8  # classes that the semantic-wise activation looks at: an image's belief is all but zero beyond them


class Classes(NamedTuple):
    """What prediction needs of the classes asked for; computed once per evaluation."""

    text: Tensor  # T (C, d)
    prototypes: Tensor  # P (C, K, d)
    length: Tensor | float = 1.0  # (C,), of the host's texts
    own: Tensor | None = None  # (B, C, d), each image's T times length, where the host's prompts depend on the image

    def split(self, size: int, images: int) -> "list[Classes]":
        """As they are for so many of the images at a time."""
        if self.own is None:
            return [self] * -(-images // size)
        return [self._replace(own=own) for own in self.own.split(size)]


def cosines(x: Tensor, classes: Classes) -> Tensor:
    """Unit rows (B, ..., d) against the texts of all classes, as long as the host's -> (B, ..., C)."""
    if classes.own is None:
        return x @ classes.text.t() * classes.length
    return torch.einsum("b...d,bcd->b...c", x, classes.own)


def lengths(t: Tensor) -> Tensor:
    """How long a host's texts (..., C, d) are: (..., C). Unit rows are 1 long, whatever their last bits."""
    length = t.norm(dim=-1)
    return torch.where((length - 1).abs() < 1e-6, 1.0, length)
