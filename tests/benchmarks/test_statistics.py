"""Quartiles, intervals and turns, against figures worked out by hand."""

import math

import pytest

from benchmarks.statistics import paired_interval, quartiles, rotation, signed


def test_quartiles():
    assert quartiles([4.0, 1.0, 3.0, 2.0, 5.0]) == (2.0, 4.0)
    assert quartiles([3.0]) == (3.0, 3.0)


def test_paired_interval():
    """Three differences with mean 2 and deviation 1: Student's quantile for two degrees of freedom is 4.303."""
    mean, half = paired_interval([1.0, 2.0, 3.0])
    assert mean == 2 and half == pytest.approx(4.3027 / math.sqrt(3), abs=1e-3)
    assert math.isnan(paired_interval([1.0])[1])


def test_signed():
    assert signed((4.44, 0.25)) == "+4.4 ± 0.2" and signed((-0.74, math.nan)) == "-0.7"


def test_each_round_begins_one_further():
    assert [list(rotation(3, round_)) for round_ in range(4)] == [[0, 1, 2], [1, 2, 0], [2, 0, 1], [0, 1, 2]]
