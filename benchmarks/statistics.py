"""Quartiles, intervals of paired differences, and the order in which what is timed takes its turns."""

import math
import statistics
from collections.abc import Iterator

from scipy.stats import t as student


def quartiles(values: list[float]) -> tuple[float, float]:
    """The lower and the upper one; of a single value itself, twice."""
    if len(values) == 1:
        return values[0], values[0]
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, high


def paired_interval(differences: list[float]) -> tuple[float, float]:
    """Mean of paired differences, and half the width of Student's 95% interval (nan for a single one)."""
    mean = statistics.fmean(differences)
    if len(differences) < 2:
        return mean, math.nan
    quantile = student.ppf(0.975, len(differences) - 1)
    return mean, quantile * statistics.stdev(differences) / math.sqrt(len(differences))


def signed(interval: tuple[float, float]) -> str:
    """As in a table: "+4.4 ± 0.3", or "+4.4" where there is no interval, of a single difference."""
    mean, half = interval
    return f"{mean:+.1f}" if math.isnan(half) else f"{mean:+.1f} ± {half:.1f}"


def rotation(count: int, round_: int) -> Iterator[int]:
    """All numbers below `count`, each round beginning one further, so that no one is always first."""
    return ((step + round_) % count for step in range(count))
