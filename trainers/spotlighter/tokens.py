"""Patch tokens of many images: kept once, in half precision where they are many, and read a few images at a time.

A B images      N patch tokens      d joint width      n directions
"""

import copy
from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor

from .drop import take
from .trained import unit

HALF_ABOVE = 2**30  # bytes: tokens that take more in fp32 are kept in fp16
READ_AT_ONCE = 2**24, 2**28  # bytes in fp32, on a CPU and on a GPU: measured on the one, not yet on the other


class Tokens:
    """Tokens (B, N, d) of some of the images in a table (A, N, d), which all that index it share."""

    def __init__(self, table: Tensor):
        self.table, self.whole = table, self
        self.rows: Tensor | None = None  # (B,) images of the table; None: all
        self.desks: dict[torch.dtype, Tensor] = {}

    @classmethod
    def room_for(cls, images: int, like: Tensor) -> "Tokens":
        """A table for so many images' tokens like these (..., N, d), still to be filled."""
        size = (images, *like.shape[-2:])
        half = 4 * torch.Size(size).numel() > HALF_ABOVE
        return cls(torch.empty(size, dtype=torch.float16 if half else like.dtype, device=like.device))

    def __len__(self) -> int:
        return len(self.table if self.rows is None else self.rows)

    def __getitem__(self, rows: Tensor) -> "Tokens":
        """Those of some of its images, by a mask or indices; nothing is read."""
        chosen = copy.copy(self)
        every = torch.arange(len(self), device=self.table.device) if self.rows is None else self.rows
        chosen.rows = every[rows]
        return chosen

    def read(self) -> Tensor:
        """(B, N, d), in fp32."""
        return (self.table if self.rows is None else self.table.index_select(0, self.rows)).float()

    def read_briefly(self) -> Tensor:
        """The same, in memory that the next such reading of the table overwrites: fresh memory costs more than copying.

        A checkpoint's backward pass goes from one part to the next as its forward pass does, so it may read so too.
        """
        if self.rows is None or self.table.requires_grad:
            return self.read()
        found = torch.index_select(self.table, 0, self.rows, out=self.desk(self.table.dtype))
        return found if found.dtype == torch.float32 else self.desk(torch.float32).copy_(found)

    def desk(self, dtype: torch.dtype) -> Tensor:
        """(B, N, d) of the memory that all parts of a table share."""
        desks, like = self.whole.desks, self.table
        if dtype not in desks or len(desks[dtype]) < len(self):
            desks[dtype] = torch.empty(len(self), *like.shape[1:], dtype=dtype, device=like.device)
        return desks[dtype][: len(self)]

    def split(self) -> tuple[list[Tensor], list["Tokens"]]:
        """Indices of images, and their tokens, a few at a time."""
        size = max(1, READ_AT_ONCE[self.table.device.type != "cpu"] // (4 * self.table.shape[1:].numel()))
        parts = torch.arange(len(self), device=self.table.device).split(size)
        if self.rows is None and self.table.dtype == torch.float32:  # nothing is to be copied
            return list(parts), [Tokens(table) for table in self.table.split(size)]
        return list(parts), [self[rows] for rows in parts]

    @cached_property
    def summary(self) -> tuple[Tensor, Tensor]:
        """Of the whole table, read once however often parts are asked for: means (A, d), squared lengths (A, N)."""
        parts = [
            (v.mean(dim=1), v.norm(dim=-1).square()) for v in (tokens.read_briefly() for tokens in self.split()[1])
        ]
        means, squares = map(torch.cat, zip(*parts, strict=True))
        return means, squares

    def mean(self) -> Tensor:
        """(d,) over all tokens of its images."""
        means, _ = self.whole.summary
        return (means if self.rows is None else means[self.rows]).mean(dim=0)

    def known(self) -> dict[str, Tensor]:
        """What `Centred` need not compute of its images; nothing if they are the whole table."""
        return (
            {} if self.rows is None or self.table.requires_grad else {"square": self.whole.summary[1][self.rows, None]}
        )


class Centred:
    """Centred tokens unit(v - g m) of tokens v (B, N, d), their mean m (d,) and its share g.

    What is asked of them is had from products with v itself: to centre each token passes over all the memory of v
    several times, which costs more. `seen` keeps what no gradient flows through, for who computes all this again.
    """

    def __init__(self, v: Tensor, mean: Tensor, share: Tensor, seen: dict[str, Tensor] | None = None):
        self.v, self.mean, self.share, self.shape = v, mean, share, v.shape
        self.seen = {} if seen is None else seen
        square = self.once("square", lambda: v.norm(dim=-1)[:, None].square(), v)
        away = self.once("away", lambda: mean.expand(len(v), 1, -1) @ v.mT, v)
        squares = square - 2 * share * away + share.square() * mean.square().sum()
        self.length = squares.clamp_min(1e-6).sqrt()  # (B, 1, N), of v - g m

    def once(self, name: str, compute: Callable[[], Tensor], *of: Tensor) -> Tensor:
        """What is computed of some tensors, kept unless a gradient flows through them."""
        if any(x.requires_grad for x in of):
            return compute()
        if name not in self.seen:
            with torch.no_grad():
                self.seen[name] = compute()
        return self.seen[name]

    def along(self, directions: Tensor) -> Tensor:
        """Their products (B, n, N) with directions (B, n, d)."""
        return (directions @ self.v.mT - self.share * (directions @ self.mean)[..., None]) / self.length

    def nearest(self, prototypes: Tensor) -> Tensor:
        """max_k <., P_ck>: (B, c, N), of prototypes (B, c, K, d)."""
        shift = prototypes @ self.mean  # (B, c, K)
        products = lambda: (prototypes.flatten(1, 2) @ self.v.mT).unflatten(1, shift.shape[1:])  # noqa: E731
        if prototypes.requires_grad or self.v.requires_grad:
            return (products() - self.share * shift[..., None]).amax(dim=2) / self.length

        def strongest() -> Tensor:
            value, k = (products() - self.share * shift[..., None]).max(dim=2)  # (B, c, N)
            self.seen["k"] = k.to(torch.uint8)
            return value + self.share * shift.gather(2, k)

        strength = self.once("strongest", strongest, prototypes, self.v)
        return (strength - self.share * shift.gather(2, self.seen["k"].long())) / self.length

    def take(self, index: Tensor) -> Tensor:
        """(B, R, d) of them, by an index (B, R)."""
        return unit(take(self.v, index) - self.share * self.mean)
