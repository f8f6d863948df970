"""Processor time: of what takes its turns in one process, and of the phases of a run."""

import contextlib
import functools
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

from benchmarks.statistics import quartiles, rotation


def clocked(work: Callable[[], object]) -> Callable[[], float]:
    """CPU seconds of one call, of all threads of this process."""

    def seconds() -> float:
        started = time.process_time()
        work()
        return time.process_time() - started

    return seconds


def interleaved(rows: dict[str, Callable[[], float]], rounds: int, limit: float) -> dict[str, list[float]]:
    """CPU seconds of each row in each round; rows give their own. No round begins once `limit` seconds have passed.

    The first round, in which memory is asked for and libraries set themselves up, counts only where it is the only one.
    """
    names, started = list(rows), time.monotonic()
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for round_ in range(rounds + 1):
        if round_ and time.monotonic() - started > limit:
            break
        for index in rotation(len(names), round_):
            seconds[names[index]].append(rows[names[index]]())
    return {name: own[min(1, len(own) - 1) :] for name, own in seconds.items()}


def times(seconds: dict[str, list[float]], slow: str, fast: str) -> dict[str, Any]:
    """How many times as long one row takes as another: the median of the rounds' ratios, and quartiles."""
    ratios = [a / b for a, b in zip(seconds[slow], seconds[fast], strict=True)]
    return {"times": statistics.median(ratios), "quartiles": list(quartiles(ratios))}


class Phases:
    """CPU seconds by phase: of what a phase is part of, its own time is none. What nothing names is "other"."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.at_work = ["imports"]  # until `begin`: a process's clock stood at 0 when it was started
        self.since = 0.0

    def charge(self) -> None:
        now = time.process_time()
        self.seconds[self.at_work[-1]] += now - self.since
        self.since = now

    def begin(self) -> None:
        """All is imported."""
        self.charge()
        self.at_work = ["other"]

    @contextlib.contextmanager
    def of(self, name: str) -> Iterator[None]:
        self.charge()
        self.at_work.append(name)
        try:
            yield
        finally:
            self.charge()
            self.at_work.pop()

    @contextlib.contextmanager
    def watching(self, places: dict[str, list[tuple[Any, str]]]) -> Iterator[None]:
        """Phase -> functions, each as (its class or module, its name); their time is the phase's while this lasts."""
        with contextlib.ExitStack() as stack:
            for phase, functions in places.items():
                for owner, name in functions:
                    stack.enter_context(mock.patch.object(owner, name, self.watched(phase, getattr(owner, name))))
            yield

    def watched(self, phase: str, function: Callable) -> Callable:
        @functools.wraps(function)
        def timed(*given, **named):
            with self.of(phase):
                return function(*given, **named)

        return timed

    def so_far(self) -> dict[str, float]:
        self.charge()
        return dict(self.seconds)
