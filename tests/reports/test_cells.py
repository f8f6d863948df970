"""The arithmetic of cells by itself; tests/reports/test_published.py holds it to the published table."""

import pytest

from reports.cells import BLANK, Cell, h_of, harmonic_mean, over_seeds, over_sets, over_targets, same_seeds
from reports.result import Result


def results(values: dict[int, float | None], method: str = "CoOp/vit_b16") -> list[Result]:
    return [Result(method, "dtd", 16, seed, "all", value) for seed, value in values.items()]


def test_harmonic_mean():
    assert harmonic_mean(80.0, 50.0) == pytest.approx(61.538, abs=1e-3)
    assert harmonic_mean(0.0, 0.0) == 0.0


def test_a_cell_is_the_mean_of_all_expected_seeds():
    assert over_seeds(results({1: 70.0, 2: 90.0}), [1, 2], partial=False) == Cell(80.0, {1: 70.0, 2: 90.0}, whole=True)
    assert over_seeds(results({1: 70.0, 2: None}), [1, 2], partial=False) == Cell()
    assert over_seeds(results({1: 70.0, 2: None}), [1, 2], partial=True) == Cell(70.0, {1: 70.0})
    assert over_seeds([], [1], partial=True) == Cell()


def test_one_zero_shot_figure_is_whole():
    assert over_seeds(results({1: 44.0}, "ZeroshotCLIP/vit_b16"), [1, 2, 3], partial=False).whole


def test_the_mean_over_sets_needs_all_of_them():
    one, two = Cell(40.0, {1: 40.0}, whole=True), Cell(60.0, {1: 50.0, 2: 70.0}, whole=True)
    assert over_sets([one, two]) == Cell(50.0, {1: 45.0}, whole=True)
    assert over_sets([one, Cell()]) == Cell() == over_sets([])
    assert over_sets([one, BLANK]) == BLANK
    assert over_targets([Cell(), one, two]).mean == 50.0  # the source is none of them


def test_halves_count_the_seeds_that_both_have():
    whole = Cell(70.0, {1: 60.0, 2: 80.0}, whole=True)
    half = Cell(50.0, {2: 50.0})
    assert same_seeds([whole, half]) == [Cell(80.0, {2: 80.0}), half]
    assert same_seeds([whole, whole]) == [whole, whole]
    assert same_seeds([Cell(60.0, {1: 60.0}), half]) == [Cell(), Cell()]
    assert same_seeds([whole, Cell()]) == [whole, Cell()]


def test_h():
    base, new = Cell(80.0, {1: 90.0, 2: 70.0}, whole=True), Cell(50.0, {1: 40.0, 2: 60.0}, whole=True)
    h = h_of([base, new])
    assert h.mean == harmonic_mean(80.0, 50.0) and h.whole
    assert h.by_seed == {1: harmonic_mean(90.0, 40.0), 2: harmonic_mean(70.0, 60.0)}
    assert h_of([base, Cell()]) == Cell()


def test_what_is_missing_and_what_does_not_belong_there_differ():
    assert Cell().missing and not BLANK.missing and not Cell(1.0).missing
