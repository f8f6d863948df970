"""Patch tokens of many images: kept once, in half precision where they are many, and read a few images at a time.

A B images      N patch tokens      d joint width      n directions
"""

import copy
from collections.abc import Iterator
from functools import cached_property

import torch
from torch import Tensor

from .drop import take

HALF_ABOVE = 2**30  # bytes: tokens that take more in fp32 are kept in fp16
# Bytes of tokens in fp32, on a CPU and on a GPU: measured on the one, not yet on the other.
READ_AT_ONCE = 2**20, 2**28  # what a CPU's core has in its own cache is multiplied at twice the speed
ASKED_AT_ONCE = 2**26, 2**28  # of images whose activations are computed together


class Tokens:
    """Tokens (B, N, d) of some of the images in a table (A, N, d), which all that index it share."""

    def __init__(self, table: Tensor):
        self.table, self.whole = table, self
        self.rows: Tensor | None = None  # (B,) images of the table; None: all

    @classmethod
    def room_for(cls, images: int, like: Tensor) -> "Tokens":
        """A table for so many images' tokens like these (..., N, d), still to be filled."""
        size = (images, *like.shape[-2:])
        half = 4 * torch.Size(size).numel() > HALF_ABOVE
        return cls(torch.empty(size, dtype=torch.float16 if half else like.dtype, device=like.device))

    def __len__(self) -> int:
        return len(self.table if self.rows is None else self.rows)

    @property
    def in_one(self) -> bool:
        """Whether they are to be read together: where a gradient is wanted for them, or a graph is exported."""
        return self.table.requires_grad or torch.compiler.is_exporting()

    def __getitem__(self, rows: Tensor) -> "Tokens":
        """Those of some of its images, by a mask or indices; nothing is read."""
        chosen = copy.copy(self)
        every = torch.arange(len(self), device=self.table.device) if self.rows is None else self.rows
        chosen.rows = every[rows]
        return chosen

    def images_in(self, limits: tuple[int, int]) -> int:
        """How many images have so many bytes of tokens, by the limits for a CPU and for a GPU."""
        return max(1, limits[self.table.device.type != "cpu"] // (4 * self.table.shape[1:].numel()))

    def split(self) -> list["Tokens"]:
        """Those of a few images at a time."""
        size = self.images_in(ASKED_AT_ONCE)
        if self.rows is None and self.table.dtype == torch.float32:  # nothing is to be copied
            return [Tokens(table) for table in self.table.split(size)]
        return [self[rows] for rows in torch.arange(len(self), device=self.table.device).split(size)]

    def read(self) -> Tensor:
        """(B, N, d), in fp32."""
        return (self.table if self.rows is None else self.table.index_select(0, self.rows)).float()

    def in_turn(self) -> Iterator[tuple[slice, Tensor]]:
        """Which images, and their tokens (b, N, d) in fp32; these are overwritten by the next."""
        if self.in_one or (self.rows is None and self.table.dtype == torch.float32):
            yield slice(None), self.read()
            return
        rows = torch.arange(len(self), device=self.table.device) if self.rows is None else self.rows
        size = self.images_in(READ_AT_ONCE)
        desk = torch.empty(min(size, len(self)), *self.table.shape[1:], device=self.table.device)
        for start in range(0, len(self), size):
            some = rows[start : start + size]
            v = desk[: len(some)]
            if self.table.dtype == torch.float32:
                torch.index_select(self.table, 0, some, out=v)
            elif v.device.type != "cpu":
                v.copy_(self.table.index_select(0, some))
            else:  # a copy before would cost as much again
                for place, row in zip(v, some.tolist(), strict=True):
                    place.copy_(self.table[row])
            yield slice(start, start + len(some)), v

    def products(self, directions: Tensor) -> Tensor:
        """Products (B, n, N) with directions (B, n, d) of each image, without a gradient."""
        found = self.table.new_empty(*directions.shape[:2], self.table.shape[1], dtype=torch.float32)
        for images, v in self.in_turn():
            torch.bmm(directions[images].float(), v.mT, out=found[images])
        return found

    def sums(self, weights: Tensor) -> Tensor:
        """Each image's tokens, summed by weights (B, n, N): (B, n, d), without a gradient."""
        found = self.table.new_empty(*weights.shape[:2], self.table.shape[2], dtype=torch.float32)
        for images, v in self.in_turn():
            torch.bmm(weights[images].float(), v, out=found[images])
        return found

    def take(self, index: Tensor) -> Tensor:
        """(B, R, d) of them in fp32, by an index (B, R)."""
        return (take(self.table, index) if self.rows is None else self.table[self.rows[:, None], index]).float()

    @cached_property
    def means(self) -> Tensor:
        """(A, d), of the whole table, read once however often parts are asked for."""
        return torch.cat([v.mean(dim=1) for _, v in self.in_turn()])

    @cached_property
    def lengths(self) -> Tensor:
        """(A, N), the same."""
        return torch.cat([v.norm(dim=-1) for _, v in self.in_turn()])

    def mean(self) -> Tensor:
        """(d,) over all tokens of its images."""
        return (self.whole.means if self.rows is None else self.whole.means[self.rows]).mean(dim=0)

    def squares(self) -> Tensor:
        """(B, N), their squared lengths."""
        if self.in_one:
            return self.read().norm(dim=-1).square()
        return (self.whole.lengths if self.rows is None else self.whole.lengths[self.rows]).square()
