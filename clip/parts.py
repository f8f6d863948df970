"""An encoder at work on a part of its sequences at a time, so that what it keeps for backward has a bound.

n sequences      L tokens      D width
"""

import ctypes
import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from .lengths import spans

if TYPE_CHECKING:
    from .vit import Transformer


def activations(transformer: "Transformer", length: int, dtype: torch.dtype, learns: bool, shared: int = 0) -> int:
    """Bytes that the activations of one sequence of L = `length` tokens take: of the block at work, and if something
    `learns`, also what backward keeps of all blocks. Weights are frozen, and a little more is counted than is taken.
    Of the first `shared` tokens each sequence has keys and values alone (`shared.py`).
    """
    # A frozen block keeps of a token, in rows of D: the norms' inputs 2, in fp32; q, k, v 3, what was attended to 1,
    # the MLP's hidden layer before and after its sigmoid 8; and of each head a row of attention, if it is not fused.
    token = transformer.width * (2 * 4 + 12 * dtype.itemsize) + transformer.heads * length * dtype.itemsize
    joined = 2 * length * transformer.width * dtype.itemsize if shared else 0
    return ((length - shared) * token + joined) * (1 + (transformer.layers if learns else 0))


class Texts(NamedTuple):
    """What is known of prompts before they are encoded."""

    lengths: tuple[int, ...]  # the places of each, with its end
    shared: int = 0  # of the first places, those that are the same in all
    groups: int = 1  # so many times, each time with other shared places: CoCoOp's images

    @property
    def total(self) -> int:
        return self.groups * len(self.lengths)

    def piece(self, groups: slice, rows: slice) -> "Texts":
        """Of some of the groups, some rows."""
        return Texts(self.lengths[rows], self.shared, groups.stop - groups.start)


def activations_of(transformer: "Transformer", texts: Texts, dtype: torch.dtype, learns: bool, device: str) -> int:
    """Bytes that the activations of prompts take together."""
    lengths = tuple(length - texts.shared for length in texts.lengths)
    size = activations(transformer, texts.shared, dtype, learns) if texts.shared else 0
    for rows, places in spans(lengths, device):
        size += rows * activations(transformer, texts.shared + places, dtype, learns, texts.shared)
    return texts.groups * size


def split(count: int, parts: int) -> list[slice]:
    """Rows in parts as equal as can be."""
    bounds = [count * part // parts for part in range(parts + 1)]
    return [slice(first, last) for first, last in itertools.pairwise(bounds)]


def pieces_of(texts: Texts, size: Callable[[Texts], int], memory: float) -> list[tuple[slice, slice]]:
    """The least number of parts, as equal as can be, none of which takes more than `memory` bytes, if one prompt does
    not: which groups and which of their rows each has. Groups are whole, or one after another in parts.
    """
    count, one = len(texts.lengths), texts._replace(groups=1)
    if texts.groups * size(one) <= memory:
        return [(slice(0, texts.groups), slice(0, count))]
    if size(one) <= memory:
        at_once = int(memory // size(one))
        return [(groups, slice(0, count)) for groups in split(texts.groups, math.ceil(texts.groups / at_once))]

    def fit(rows: list[slice]) -> bool:
        return all(size(one._replace(lengths=texts.lengths[some])) <= memory for some in rows)

    least = min(count, math.ceil(size(one) / memory))
    rows = next((rows for n in range(least, count) if fit(rows := split(count, n))), split(count, count))
    return [(slice(group, group + 1), some) for group in range(texts.groups) for some in rows]


def in_parts(
    encode: Callable[..., Tensor], pieces: Sequence[tuple], device: torch.device, draws: bool = False
) -> Tensor:
    """encode(*piece) (rows, ...) of each piece, one after another: (n, ...) on `device`.

    With more than one, backward encodes each part again, one after the other, rather than keep what all of them need.
    Gradients are sums over parts then, so their last bits depend on the parts. `draws`: chance takes part in it.
    """
    if len(pieces) == 1:
        return encode(*pieces[0])

    def encode_next(*piece) -> Tensor:
        if device.type == "cpu":
            give_back()
        return encode(*piece)

    if not torch.is_grad_enabled():
        return torch.cat([encode_next(*piece) for piece in pieces])
    # Where nothing is drawn at random, no random state need be kept.
    return torch.cat(
        [checkpoint(encode_next, *piece, use_reentrant=False, preserve_rng_state=draws) for piece in pieces]
    )


def give_back() -> None:
    """Memory of the part before, to the system: glibc keeps it where a small tensor lies behind it, and a process would
    grow to several times of what it holds.
    """
    if (trim := c_function("malloc_trim")) is not None:
        trim(0)


@functools.cache
def c_function(name: str):
    """Of the C library; None where that is another than glibc."""
    try:
        return getattr(ctypes.CDLL(None), name, None)
    except (OSError, TypeError):  # Windows
        return None
