"""Plans to spend a budget of arithmetic on an image: which looks it gets, for at most so many times what zero-shot CLIP costs.

A plan is a first look, and perhaps regions that are looked at again (`zoom.py`). The first look is at all patches, at a share of
them, or a glance: the encoder ends where the class token's attention in an early block, which finds objects best, is known, and
the regions alone answer. A region is looked at in as many pixels as the budget pays.

    G x G the grid of patches
"""

from collections.abc import Sequence
from typing import NamedTuple

from .cost import Cost
from .zoom import Zoom

KEEPS = (0.0, 0.25, 0.4, 0.6, 1.0)  # shares of the patches in a first look before others; 0 is a glance
RICH, RICH_KEEPS = 2.0, (0.0, 0.6, 1.0)  # from a budget of two whole looks on: fewer, so that the choice stays cheap
STEP = 0.05  # in which the share is raised of a first look that is the only one
COUNTS = (1, 2, 3)  # of regions


class Plan(NamedTuple):
    """Which looks an image gets, and what they cost."""

    keep: float  # share of the patches in the first look; 0: a glance
    tokens: bool  # whether the answer is also made of patch tokens
    zoom: Zoom | None
    side: int  # patches along the side of a region
    cost: float  # of one image, in units of zero-shot CLIP's arithmetic

    def in_words(self, patch: int) -> str:
        first = "a glance" if self.keep == 0 else "all tokens" if self.keep == 1 else f"{self.keep:.0%} of the tokens"
        if self.zoom is None:
            return f"{first}, one look, at {self.cost:.2f} of zero-shot CLIP's cost"
        count, width, pixels = self.zoom.count, self.zoom.width, self.side * patch
        regions = f"{count} region{'s' * (count > 1)} of {width:g} of the side in {pixels} x {pixels} pixels"
        return f"{first}, then {regions} ({self.zoom.share:.0%} of the logits), at {self.cost:.2f} of zero-shot CLIP's cost"


class First(NamedTuple):
    """A first look, and regions behind it in as many pixels as the rest of the budget pays."""

    keep: float
    count: int  # of regions
    side: int
    cost: float


def one_look(cost: Cost, budget: float, after: Sequence[int]) -> Plan:
    """The best that the budget allows without regions: all tokens from 1 on; below that the most patches there is room for."""
    G = cost.side
    if budget >= 1:
        return Plan(1.0, True, None, 0, cost.look(G, tokens=True) + cost.answer(tokens=G * G))
    keeps = [round(STEP * n, 2) for n in range(round(1 / STEP), 0, -1)]
    plans = [Plan(keep, False, None, 0, cost.look(G, keep, after) + cost.answer()) for keep in keeps]
    return next((plan for plan in plans if plan.cost <= budget), plans[-1])


def firsts(cost: Cost, budget: float, after: Sequence[int], glances: bool) -> list[First]:
    """What may come before regions, each with as many pixels of a region as the budget pays, and half a side at least."""
    found = []
    for keep in RICH_KEEPS if budget >= RICH else KEEPS:
        if keep == 0 and not glances:
            continue
        at = after[0] + 1
        mapping = cost.map(at) if 0 < keep < 1 else 0.0  # of all tokens it comes with the block's own attention
        first = cost.glance(at) if keep == 0 else cost.look(cost.side, keep, after) + mapping + cost.answer()
        for count in COUNTS:
            rest = lambda side: first + count * (cost.look(side) + cost.answer())  # noqa: B023, E731
            sides = [side for side in range(cost.side, cost.side // 2 - 1, -1) if rest(side) <= budget]
            found += [First(keep, count, sides[0], rest(sides[0]))] if sides else []
    return found
