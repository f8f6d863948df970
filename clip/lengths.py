"""Prompts of many lengths: those of about one length stand side by side, so that little of what is computed is padding."""

import functools
from collections import Counter
from typing import NamedTuple

# What one more span costs, in places of prompts: on a CPU little, elsewhere the host's time to issue its operations.
PRICES = {"cpu": 16}
PRICE_ELSEWHERE = 512  # not measured: some twenty more operations in each of 12 blocks, at 5 us of a GPU's time


class Span(NamedTuple):
    """So many prompts side by side, each given so many places, which the longest of them needs."""

    rows: int
    places: int


def spans(lengths: tuple[int, ...], device: str) -> tuple[Span, ...]:
    """How prompts of so many places each are put side by side on a kind of device, the shortest first: at the least price."""
    return cheapest(lengths, PRICES.get(device, PRICE_ELSEWHERE))


@functools.lru_cache(maxsize=1024)
def cheapest(lengths: tuple[int, ...], price: int) -> tuple[Span, ...]:
    kinds = sorted(Counter(lengths).items())  # (places, how many prompts)
    best: list[tuple[int, tuple[Span, ...]]] = [(0, ())]  # of none, one, two ... kinds: what they cost, and their spans
    for last, (places, _) in enumerate(kinds):
        options = []
        for first in range(last + 1):  # the last span begins with this kind
            rows = sum(count for _, count in kinds[first : last + 1])
            cost, before = best[first]
            options.append((cost + price + rows * places, (*before, Span(rows, places))))
        best.append(min(options))
    return best[-1][1]
