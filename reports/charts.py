"""A table -> the geometry of the page's charts: a panel a set, with bars of H or curves over shots."""

import math
from dataclasses import dataclass
from statistics import pstdev

from .cells import Cell
from .tables import Block, Table

LOOKS = 7  # colours of the style sheet, which the colour-blind tell apart; then dashes differ too
WIDTH, HEIGHT = 340, 220  # of a panel of curves, in the units of its SVG
LEFT, RIGHT, TOP, BOTTOM = 34, 10, 10, 34


@dataclass(frozen=True)
class Mark:
    """A mean, and where it is drawn: the length of a bar in percent, or x and y of a point."""

    label: str
    look: int  # which of the methods it is
    mean: float
    spread: float | None  # deviation over seeds; None of one seed
    whole: bool
    x: float = 0.0
    y: float = 0.0
    low: float = 0.0  # y one deviation below, and above
    high: float = 0.0
    column: str = ""


@dataclass(frozen=True)
class Panel:
    kind: str  # bars or curves, as its protocol has it
    name: str
    title: str
    world: str
    marks: list[Mark]
    methods: dict[str, int]  # label -> look, in the order of the rows
    floor: float = 0.0  # where its axis begins, in percent
    x_ticks: tuple[tuple[float, str], ...] = ()
    y_ticks: tuple[tuple[float, str], ...] = ()

    def line(self, label: str) -> list[Mark]:
        return [mark for mark in self.marks if mark.label == label]

    def path(self, label: str) -> str:
        """The points of a method's curve, as SVG writes them."""
        return " ".join(f"{mark.x:.1f},{mark.y:.1f}" for mark in self.line(label))


def looks_of(table: Table) -> dict[str, int]:
    """Label -> its look, the same in all panels of a table."""
    labels = dict.fromkeys(row.label for block in table.blocks for row in block.rows)
    return {label: look for look, label in enumerate(labels)}


def panels(table: Table) -> list[Panel]:
    """Those of the blocks that have a figure to show; none where the protocol has no picture."""
    make = {"bars": bars, "curves": curves}.get(table.protocol.picture)
    looks = looks_of(table)
    made = [make(block, looks) for block in table.blocks] if make else []
    return [panel for panel in made if panel.marks]


def bars(block: Block, looks: dict[str, int]) -> Panel:
    """The last column, from 0 to 100."""
    marks = [mark_of(row.label, looks, row.cells[-1], column=block.columns[-1]) for row in block.rows]
    return panel_of("bars", block, [mark for mark in marks if mark])


def curves(block: Block, looks: dict[str, int]) -> Panel:
    """Over shots: the base-2 logarithm from 1 on, and a place for 0. The axis begins a little below the lowest point."""
    shots = [int(column) for column in block.columns]
    means = [cell.mean for cell in block.cells if cell.mean is not None]
    if not means:
        return panel_of("curves", block, [])
    step = step_of(max(means) - min(means))
    floor = max(0.0, math.floor((min(means) - step / 2) / step) * step)
    top = min(100.0, math.ceil((max(means) + step / 2) / step) * step)
    right = max(1.0, max(place(each) for each in shots))

    def x(number: int) -> float:
        return LEFT + 8 + place(number) / right * (WIDTH - LEFT - RIGHT - 16)

    def y(value: float) -> float:
        inside = min(max(value, floor), top)
        return HEIGHT - BOTTOM - (inside - floor) / (top - floor) * (HEIGHT - TOP - BOTTOM)

    marks = []
    for row in block.rows:
        for number, cell in zip(shots, row.cells, strict=True):
            mark = mark_of(row.label, looks, cell, str(number))
            if mark:
                spread = mark.spread or 0.0
                spots = {"x": x(number), "y": y(mark.mean), "low": y(mark.mean - spread), "high": y(mark.mean + spread)}
                marks.append(Mark(**{**mark.__dict__, **spots}))
    values = [floor + step * count for count in range(round((top - floor) / step) + 1)]
    return panel_of(
        "curves", block, marks, floor,
        tuple((x(number), str(number)) for number in shots), tuple((y(value), f"{value:g}") for value in values),
    )  # fmt: skip


def panel_of(kind: str, block: Block, marks: list[Mark], *axes) -> Panel:
    return Panel(kind, block.name, block.title, block.world, marks, {mark.label: mark.look for mark in marks}, *axes)


def mark_of(label: str, looks: dict[str, int], cell: Cell, column: str) -> Mark | None:
    if cell.mean is None:
        return None
    return Mark(label, looks[label], cell.mean, spread_of(cell), cell.whole, column=column)


def spread_of(cell: Cell) -> float | None:
    """The deviation over seeds, as the pictures have it."""
    return pstdev(cell.by_seed.values()) if len(cell.by_seed) > 1 else None


def place(shots: int) -> float:
    """Where a number of shots stands on the axis: each doubling is one step, as is that from 0 to 1."""
    return 0.0 if shots < 1 else 1 + math.log2(shots)


def step_of(span: float) -> float:
    """Between grid lines: 1, 2, 5, 10 or 20 points, for about five of them."""
    return next((step for step in (1.0, 2.0, 5.0, 10.0) if span / step <= 5), 20.0)
