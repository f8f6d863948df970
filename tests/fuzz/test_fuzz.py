"""A few hundred bad inputs of each kind, always the same ones: each is refused in one sentence, or read right."""

import pytest

from .harness import HEAD, REFUSED, RIGHT, inputs, run
from .kinds import KINDS

SEED = 0


@pytest.mark.parametrize("name", KINDS)
def test_bad_input(name, tmp_path):
    kind = KINDS[name](tmp_path)
    tally = run(kind, SEED, inputs(kind.inputs))
    print(f"\n{HEAD}\n{tally.row}")
    assert not tally.bad, f"{tally.bad[:3]} ({len(tally.bad)} of {tally.counts.total()})"
    assert tally.counts[REFUSED] > 0 and tally.counts[RIGHT] > 0
