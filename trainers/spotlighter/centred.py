"""Centred tokens unit(v - g m), without centring any: what is asked of them is had from products with v itself.

To centre each token passes over all their memory several times, which costs more than these products do. A gradient
neither keeps the tokens nor computes the products again: it has to read the tokens once more, for sums of them.

B images      N patch tokens      d joint width      n directions      C classes, c of them      K prototypes a class
"""

import copy
from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor

from .tokens import Tokens
from .trained import unit


class Seen:
    """What was read of the tokens of `count` images, in the order in which it was asked, for who asks the same again.

    Parts of the images fill rows of the same tensors, so that memory is not scattered among what is soon given back.
    """

    def __init__(self, count: int):
        self.count, self.images, self.found, self.filled = count, slice(None), [], 0

    def parts(self, size: int) -> list["Seen"]:
        """Of so many images at a time."""
        parts = []
        for start in range(0, self.count, size):
            parts.append(part := copy.copy(self))
            part.images, part.filled = slice(start, start + size), len(self.found)
        return parts

    def once(self, place: int, compute: Callable[[], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        """What was asked at that place, counted from 0, and is computed at the first time; no gradient."""
        if place == self.filled:
            with torch.no_grad():
                found = compute()
            if place == len(self.found):
                self.found.append(tuple(x.new_empty(self.count, *x.shape[1:]) for x in found))
            for whole, x in zip(self.found[place], found, strict=True):
                whole[self.images] = x
            self.filled += 1
        return tuple(whole[self.images] for whole in self.found[place])


class Products(torch.autograd.Function):
    """Products (B, n, N) of stored tokens with directions (B, n, d), which are `found` already."""

    @staticmethod
    def forward(ctx, directions: Tensor, tokens: Tokens, found: Tensor) -> Tensor:
        ctx.tokens = tokens
        return found.clone()

    @staticmethod
    def backward(ctx, slope: Tensor):
        return ctx.tokens.sums(slope), None, None


class Strongest(torch.autograd.Function):
    """Products (B, c, N) of stored tokens with prototypes (C, K, d): the k-th (B, c, N) of the classes `which` (B, c).

    These are `found` already.
    """

    @staticmethod
    def forward(ctx, prototypes: Tensor, which: Tensor, k: Tensor, tokens: Tokens, found: Tensor) -> Tensor:
        ctx.tokens, ctx.shape = tokens, prototypes.shape
        ctx.save_for_backward(which, k)
        return found.clone()

    @staticmethod
    def backward(ctx, slope: Tensor):
        which, k = ctx.saved_tensors
        C, K, d = ctx.shape
        weights = slope.new_zeros(*which.shape, K, slope.shape[-1]).scatter_(2, k.long()[:, :, None], slope[:, :, None])
        sums = ctx.tokens.sums(weights.flatten(1, 2))  # (B, c K, d)
        found = slope.new_zeros(C, K * d).index_put_((which.flatten(),), sums.view(-1, K * d), accumulate=True)
        return found.view(C, K, d), None, None, None, None


class Centred:
    """Centred tokens unit(v - g m) of tokens v (B, N, d), their mean m (d,) and its share g."""

    def __init__(self, v: Tensor | Tokens, mean: Tensor, share: Tensor, seen: Seen | None = None):
        self.tokens = v if isinstance(v, Tokens) else Tokens(v)
        self.mean, self.share, self.seen, self.asked = mean, share, seen, 0
        self.away: Tensor | None = None  # (B, 1, N), products of v with m

    @property
    def shape(self) -> tuple[int, ...]:
        return len(self.tokens), *self.tokens.table.shape[1:]

    def once(self, compute: Callable[[], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        self.seen = Seen(len(self.tokens)) if self.seen is None else self.seen
        self.asked += 1
        return self.seen.once(self.asked - 1, compute)

    def products(self, directions: Tensor) -> Tensor:
        """(B, n, N) of v with directions (B, n, d) and, in the same reading, with the mean."""
        both = torch.cat([directions, self.mean.expand(directions.shape[0], 1, -1)], dim=1)
        if self.tokens.in_one:
            products = both @ self.tokens.read().mT
        else:
            products = Products.apply(both, self.tokens, *self.once(lambda: (self.tokens.products(both),)))
        self.away = products[:, -1:]
        return products[:, :-1]

    @cached_property
    def length(self) -> Tensor:
        """(B, 1, N), of v - g m."""
        if self.away is None:
            self.products(self.mean.new_empty(len(self.tokens), 0, len(self.mean)))
        square = self.tokens.squares()[:, None]
        squares = square - 2 * self.share * self.away + self.share.square() * self.mean.square().sum()
        return squares.clamp_min(1e-6).sqrt()

    def along(self, directions: Tensor) -> Tensor:
        """Their products (B, n, N) with directions (B, n, d)."""
        return (self.products(directions) - self.share * (directions @ self.mean)[..., None]) / self.length

    def nearest(self, prototypes: Tensor, which: Tensor) -> Tensor:
        """max_k <., P_ck>: (B, c, N), of the classes `which` (B, c) among those with prototypes (C, K, d)."""
        shift = (prototypes @ self.mean)[which]  # (B, c, K)
        if self.tokens.in_one:
            products = self.products(prototypes[which].flatten(1, 2)).unflatten(1, shift.shape[1:])  # (B, c, K, N)
            return (products - self.share * shift[..., None]).amax(dim=2) / self.length
        strength, k = self.once(lambda: self.strongest(prototypes, which, self.share * shift))
        strength = Strongest.apply(prototypes, which, k, self.tokens, strength)
        return (strength - self.share * shift.gather(2, k.long())) / self.length

    def strongest(self, prototypes: Tensor, which: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
        """Products <v, P_ck> (B, c, N) and their k, for which they are largest when shifts (B, c, K) are taken from them."""
        directions = prototypes.flatten(1).index_select(0, which.flatten()).view(len(which), -1, prototypes.shape[2])
        products = self.tokens.products(directions).unflatten(1, shift.shape[1:])  # (B, c, K, N)
        products -= shift[..., None]
        most = products.amax(dim=2)
        # `max` with its indices takes several times as long.
        numbers = torch.arange(shift.shape[2], dtype=torch.uint8, device=shift.device)[:, None]
        k = ((products == most[:, :, None]) * numbers).amax(dim=2)
        return most + shift.gather(2, k.long()), k

    def take(self, index: Tensor) -> Tensor:
        """(B, R, d) of them, by an index (B, R)."""
        return unit(self.tokens.take(index) - self.share * self.mean)
