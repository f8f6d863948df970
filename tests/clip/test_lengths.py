"""How prompts of many lengths are put side by side (../../clip/lengths.py)."""

import itertools

import pytest

from clip.lengths import cheapest, spans


@pytest.mark.parametrize(
    ("price", "found"),
    [
        (0, [(2, 3), (3, 4), (1, 9)]),
        (1, [(2, 3), (3, 4), (1, 9)]),
        (3, [(5, 4), (1, 9)]),  # two places more, for a span less
        (24, [(5, 4), (1, 9)]),
        (26, [(6, 9)]),
    ],
)
def test_a_span_costs_its_price(price, found):
    assert list(cheapest((4, 3, 9, 4, 3, 4), price)) == found


def test_none_are_cheaper():
    """All ways to cut the sorted lengths, tried."""
    lengths = (2, 5, 5, 3, 8, 2, 13, 5, 4)
    kinds, price = sorted(set(lengths)), 4

    def cost(cuts) -> int:
        bounds = [0, *cuts, len(kinds)]
        groups = [kinds[first:last] for first, last in itertools.pairwise(bounds)]
        return sum(price + group[-1] * sum(length in group for length in lengths) for group in groups)

    every = [cuts for n in range(len(kinds)) for cuts in itertools.combinations(range(1, len(kinds)), n)]
    found = cheapest(lengths, price)
    assert sum(price + rows * places for rows, places in found) == min(map(cost, every))
    assert sum(rows for rows, _ in found) == len(lengths) and len(found) > 1


def test_a_gpu_has_fewer_spans():
    """Each is more operations to issue."""
    lengths = tuple([4] * 100 + [5] * 10 + [6] * 100)
    assert len(spans(lengths, "cpu")) == 2 and spans(lengths, "cuda") == ((210, 6),)
    assert spans((), "cpu") == ()
