"""The arithmetic of a table: seeds are averaged first, then sets; H is taken of means, in the average row too."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import fmean

from .result import Result


def harmonic_mean(base: float, new: float) -> float:
    return 2 * base * new / (base + new) if base + new > 0 else 0.0


@dataclass(frozen=True)
class Cell:
    mean: float | None = None  # in percent; None: nothing to show
    by_seed: dict[int, float] = field(default_factory=dict)
    whole: bool = False  # every expected seed counts in it
    blank: bool = False  # nothing belongs there, as in a zero-shot row at 16 shots

    @property
    def missing(self) -> bool:
        return self.mean is None and not self.blank


BLANK = Cell(blank=True)


def over_seeds(results: Iterable[Result], expected: list[int], partial: bool) -> Cell:
    """`partial`: the mean of the seeds that are there, if not all expected ones are."""
    results = list(results)
    values = {result.seed: result.value for result in results if result.value is not None}
    free = any(result.published or result.zero_shot for result in results)  # one figure is all there is
    whole = bool(values) and (free or set(expected) <= values.keys())
    return Cell(fmean(values.values()), values, whole) if values and (whole or partial) else Cell()


def over_sets(cells: list[Cell]) -> Cell:
    """The mean of cells that are all there; blank if one of them is."""
    if any(cell.blank for cell in cells):
        return BLANK
    means = [cell.mean for cell in cells if cell.mean is not None]
    if not means or len(means) < len(cells):
        return Cell()
    seeds = set.intersection(*(set(cell.by_seed) for cell in cells))
    by_seed = {seed: fmean(cell.by_seed[seed] for cell in cells) for seed in sorted(seeds)}
    return Cell(fmean(means), by_seed, all(cell.whole for cell in cells))


def over_targets(cells: list[Cell]) -> Cell:
    """The mean of all cells but the first, which is the source's."""
    return over_sets(cells[1:])


def same_seeds(cells: list[Cell]) -> list[Cell]:
    """Base and new; where seeds are missing, those count that have both halves."""
    base, new = cells
    if (base.whole and new.whole) or base.mean is None or new.mean is None:
        return cells
    seeds = sorted(base.by_seed.keys() & new.by_seed.keys())
    halves = [{seed: cell.by_seed[seed] for seed in seeds} for cell in cells]
    return [Cell(fmean(half.values()), half) if seeds else Cell() for half in halves]


def h_of(cells: list[Cell]) -> Cell:
    """H of the means of base and new, and of each seed that has both."""
    base, new = cells
    if base.mean is None or new.mean is None:
        return BLANK if new.blank else Cell()
    seeds = sorted(base.by_seed.keys() & new.by_seed.keys())
    by_seed = {seed: harmonic_mean(base.by_seed[seed], new.by_seed[seed]) for seed in seeds}
    return Cell(harmonic_mean(base.mean, new.mean), by_seed, base.whole and new.whole)
