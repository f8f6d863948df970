"""How what one waits for grows: the exponent of a power law, fitted on both logarithms, beside the one to expect.

Classes: a step of CoOp on remembered features, whose work is its texts. Shots: all steps of CoOp on a drawn set, and what
is read and encoded for them. Images: what a test of zero-shot CLIP reads and encodes, with nothing kept.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from statistics import linear_regression, median
from unittest import mock

from datasets.embedded import sets as drawn

from .runs import Asked, measure
from .steps import Cell, build
from .timing import clocked, interleaved

SET, DATASET = "species", "embedded_species"
EXPECTED = 1.0  # of all that is measured here: nothing grows faster than what is asked for


def records(
    classes: list[int], shots: list[int], images: list[int], weights: str, folder: Path, rounds: int, options: tuple[str, ...] = ()
) -> Iterator[dict]:  # fmt: skip
    yield growth("classes", "a step of CoOp", classes, of_classes(classes, weights, rounds))

    root = draw(folder / "shots", {"train": max(shots), "val": 1, "test": 2})

    def trained(count: int, round_: int) -> dict:
        output = str(folder / f"shots-{count}-{round_}")
        return measure(Asked("CoOp", DATASET, root, output, shots=count, options=options))["phases"]

    yield from of_phases("shots", shots, trained, ["steps", "encoding", "data"], rounds)

    roots = {count: draw(folder / f"images-{count}", {"train": 1, "val": 1, "test": count}) for count in images}

    def tested(count: int, round_: int) -> dict:
        output = str(folder / f"images-{count}-{round_}")
        return measure(Asked("ZeroshotCLIP", DATASET, roots[count], output, shots=1))["phases"]

    yield from of_phases("test images a class", images, tested, ["encoding", "data"], rounds)


def growth(name: str, what: str, sizes: list[int], seconds: list[float]) -> dict:
    return {
        "grows": name,
        "what": what,
        "sizes": sizes,
        "cpu_seconds": seconds,
        "exponent": linear_regression(list(map(math.log, sizes)), list(map(math.log, seconds))).slope,
        "expected": EXPECTED,
    }


def of_classes(classes: list[int], weights: str, rounds: int) -> list[float]:
    rows = {str(count): clocked(build(Cell("CoOp", count, 32, views=2), weights).ours) for count in classes}
    return [median(own) for own in interleaved(rows, rounds, math.inf).values()]


def of_phases(
    name: str, sizes: list[int], run: Callable[[int, int], dict], phases: list[str], rounds: int
) -> Iterator[dict]:
    """`run(size, round)` gives CPU seconds by phase; medians of the rounds are taken."""
    found = [[run(size, round_) for size in sizes] for round_ in range(rounds)]
    for phase in phases:
        yield growth(name, phase, sizes, [median(row[i][phase] for row in found) for i in range(len(sizes))])


def draw(folder: Path, images: dict[str, int]) -> str:
    """A data root with the set, of so many pictures a class."""
    folder.mkdir()
    with mock.patch.dict(drawn.SETS, {SET: replace(drawn.SETS[SET], images=images)}):
        drawn.write_set(SET, str(folder))
    return str(folder)
