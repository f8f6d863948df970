"""Inputs, one after the other, and what became of each.

An input may take `SECONDS` of processor time, and `HELD` in all; one that Python cannot interrupt ends the process after
`HELD`, with its place in the code. All of them together have `MEMORY` for what they allocate.
"""

import contextlib
import faulthandler
import io
import resource
import signal
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import NamedTuple

from clip.errors import InputError as ClipError
from dassl.errors import InputError
from one_run.command import sentence

SECONDS, HELD = 20, 60  # a megabyte of pickled opcodes is read in 3 to 5 seconds, as work is linear in it
MEMORY = 6 * 2**30  # bytes
LONGEST = 2000  # letters of a sentence
REFUSED, RIGHT = "refused", "read right"
BAD = TRACEBACK, HANG, WRONG, UNCLEAR = "tracebacks", "hangs", "silent wrong", "no sentence"


class Wrong(Exception):
    """What came out is not what stands in the input."""


class Unclear(Exception):
    """What a command says is not one sentence."""


class Hang(BaseException):
    """It took too long."""


class Kind:
    """One kind of input. `folder` is its own; `inputs` is how many of them `make test` tries."""

    name = ""
    inputs = 500

    def __init__(self, folder: Path):
        self.folder = folder

    def one(self, chance: Random) -> str | None:
        """Make an input and have it read: REFUSED or RIGHT (or None, which is the same), or what the reader raises."""
        raise NotImplementedError


class Tally(NamedTuple):
    """How many inputs ended how, and the first of those that ended badly: (number, ending, why)."""

    kind: str
    counts: Counter
    bad: list[tuple[int, str, str]]

    @property
    def row(self) -> str:
        cells = [self.counts.total(), *(self.counts[ending] for ending in (REFUSED, RIGHT, *BAD))]
        return f"{self.kind:<12}" + "".join(f"{cell:>14,}" for cell in cells)


HEAD = f"{'kind':<12}" + "".join(f"{name:>14}" for name in ("inputs", REFUSED, RIGHT, *BAD))


def run(kind: Kind, seed: int, enough: Callable[[int], bool], first: int = 0) -> Tally:
    """Inputs `first`, `first` + 1, ... until it is enough; each depends on the seed and its number alone."""
    counts, bad, number = Counter(), [], first
    faulthandler.register(signal.SIGVTALRM, file=sys.__stderr__, chain=True)
    with bounded_memory():
        while not enough(number - first):
            ending, why = outcome(kind, Random(f"{seed} {kind.name} {number}"))
            counts[ending] += 1
            if ending in BAD:
                bad.append((number, ending, why))
            number += 1
    return Tally(kind.name, counts, bad)


def outcome(kind: Kind, chance: Random) -> tuple[str, str]:
    """(ending, why) of one input."""
    try:
        with bounded_time(), quiet():
            return kind.one(chance) or RIGHT, ""
    except (InputError, ClipError) as error:
        text = str(error) if isinstance(error, InputError) else sentence(error)  # as a command shows it
        return (REFUSED, "") if is_sentence(text) else (UNCLEAR, f"{text[:300]!r}")
    except Unclear as error:
        return UNCLEAR, f"{str(error)[:300]!r}"
    except Wrong as error:
        return WRONG, str(error)[:500]
    except Hang:
        return HANG, traceback.format_exc(limit=-4)[:1000]
    except (Exception, SystemExit) as error:
        return (
            TRACEBACK,
            f"{type(error).__name__}: {str(error)[:200]}\n{''.join(traceback.format_tb(error.__traceback__)[-3:])}",
        )


def is_sentence(text: str) -> bool:
    return text.isprintable() and len(text) <= LONGEST and text.rstrip(")").endswith(".")


TIMERS = {
    signal.SIGPROF: (signal.ITIMER_PROF, SECONDS),
    signal.SIGALRM: (signal.ITIMER_REAL, HELD),
    signal.SIGVTALRM: (signal.ITIMER_VIRTUAL, HELD),  # of what Python cannot interrupt: it ends the process
}


@contextlib.contextmanager
def bounded_time() -> Iterator[None]:
    def stop(*_):
        raise Hang

    former = {number: signal.signal(number, stop) for number in (signal.SIGPROF, signal.SIGALRM)}
    for timer, seconds_left in TIMERS.values():
        signal.setitimer(timer, seconds_left)
    try:
        yield
    finally:
        for timer, _ in TIMERS.values():
            signal.setitimer(timer, 0)
        for number, handler in former.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def bounded_memory() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """A console as `one_run.command` makes it, which nobody reads."""
    console = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="backslashreplace")
    with contextlib.redirect_stdout(console), contextlib.redirect_stderr(console), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def inputs(count: int) -> Callable[[int], bool]:
    return lambda done: done >= count


def seconds(count: float) -> Callable[[int], bool]:
    end = time.monotonic() + count
    return lambda done: time.monotonic() >= end
