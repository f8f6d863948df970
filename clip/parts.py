"""An encoder at work on a part of its sequences at a time, so that what it keeps for backward has a bound.

n sequences      L tokens      D width
"""

import ctypes
import functools
import itertools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

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


def parts_of(count: int, each: int, memory: float) -> int:
    """How many parts n = `count` sequences of `each` so many bytes need, for at most `memory` bytes at a time."""
    return 1 if count * each <= memory else math.ceil(count / max(1, int(memory // each)))


def in_parts(encode: Callable[[slice], Tensor], count: int, parts: int, device: torch.device) -> Tensor:
    """encode(rows) (rows, ...) of all n = `count` rows, in parts as equal as can be: (n, ...) on `device`.

    With more than one, backward encodes each part again, one after the other, rather than keep what all of them need.
    Gradients are sums over parts then, so their last bits depend on the number of parts, and on nothing else of them.
    """
    if parts == 1:
        return encode(slice(0, count))
    bounds = [count * part // parts for part in range(parts + 1)]
    rows = [slice(first, last) for first, last in itertools.pairwise(bounds)]

    def encode_next(rows: slice) -> Tensor:
        if device.type == "cpu":
            give_back()
        return encode(rows)

    if not torch.is_grad_enabled():
        return torch.cat([encode_next(some) for some in rows])
    # Nothing in the encoders is drawn at random, so no random state need be kept.
    return torch.cat([checkpoint(encode_next, some, use_reentrant=False, preserve_rng_state=False) for some in rows])


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
