"""Results -> a table.

A cell whose seeds are not all there shows "-" (with `partial`, the mean of those that are there, with a star), and
what is missing is named under the table.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from .cells import BLANK, Cell, over_seeds, over_sets
from .notes import DAGGER, Lack, how_made, missing_runs, other_images
from .protocols import AVERAGE, Protocol, rank
from .result import Result, ResultError


@dataclass(frozen=True)
class Row:
    method: str
    transductive: bool
    cells: list[Cell]

    @property
    def label(self) -> str:
        return f"{self.method} {DAGGER}" if self.transductive else self.method


@dataclass(frozen=True)
class Block:
    """The rows of one data set, or of their average, or of one source."""

    name: str
    shots: int | None  # None: they are the columns
    world: str  # "" or "embedded": these are never averaged, nor drawn, together
    title: str
    columns: list[str]
    rows: list[Row]

    @property
    def cells(self) -> list[Cell]:
        return [cell for row in self.rows for cell in row.cells]


@dataclass(frozen=True)
class Table:
    protocol: Protocol
    blocks: list[Block]
    notes: list[str]  # what a reader must know
    problems: list[str]  # what is missing or does not fit


def make_table(
    results: list[Result], protocol: Protocol, seeds: list[int] | None = None, partial: bool = False
) -> Table:
    """`seeds`: those that every cell is to have; by default all that occur."""
    if seeds:
        if not any(result.seed in seeds for result in results if not result.published):
            raise ResultError(f"No run is of the seeds {', '.join(map(str, seeds))}: correct --seeds.")
        results = [each for each in results if each.published or each.zero_shot or each.seed in seeds]
    results, left_out = protocol.counting(results)
    ours = [result for result in results if not result.published]
    expected = sorted({*(seeds or [result.seed for result in ours if not result.zero_shot] or [ours[0].seed])})
    sections = [
        Section([result for result in results if protocol.section_of(result) == key], protocol, expected, partial)
        for key in sorted({protocol.section_of(result) for result in results}, key=str)
    ]
    blocks = [block for section in sections for block in section.blocks()]
    dashes = any(cell.missing for block in blocks for cell in block.cells)
    broken = list(dict.fromkeys(result.problem for result in ours if result.problem))
    missing = missing_runs((lack for section in sections for lack in section.lacks()), protocol)
    return Table(
        protocol=protocol,
        blocks=blocks,
        notes=how_made(results, protocol, expected, dashes, partial) + left_out,
        problems=broken + missing + other_images(ours),
    )


class Section:
    """Results among which each method is to have each block and each column; a block for each, and their average."""

    def __init__(self, results: list[Result], protocol: Protocol, expected: list[int], partial: bool) -> None:
        self.protocol, self.expected, self.partial = protocol, expected, partial
        self.world, self.shots, _ = protocol.section_of(results[0])
        self.columns = protocol.columns(results)
        self.methods = {result.method: result for result in sorted(results, key=order_of_methods)}  # any one of its own
        self.transductive = {result.method for result in results if result.transductive}
        self.filed: dict[tuple, list[Result]] = defaultdict(list)
        for result in results:
            self.filed[protocol.block_of(result), result.method, protocol.column_of(result)].append(result)
        self.names = sorted({name for name, _, _ in self.filed} - {AVERAGE}, key=rank)

    def blocks(self) -> list[Block]:
        average = [AVERAGE] if self.protocol.averaged and len(self.names) > 1 else []
        return [self.block(name) for name in self.names + average]

    def block(self, name: str) -> Block:
        own = {method: self.own_cells(name, method) for method in self.methods}
        return Block(
            name=name,
            shots=self.shots,
            world=self.world,
            title=self.title_of(name) + ("" if self.shots is None else f", {self.shots} shots"),
            columns=[*map(str, self.columns), *self.protocol.derived],
            rows=[
                Row(method, method in self.transductive, cells + self.derived_cells(name, method, cells))
                for method, cells in own.items()
                if not all(cell.blank for cell in cells)
            ],
        )

    def title_of(self, name: str) -> str:
        if name == AVERAGE:
            return " ".join(filter(None, ["average of", str(len(self.names)), self.world, "sets"]))
        return self.protocol.title_of(name)

    def own_cells(self, name: str, method: str) -> list[Cell]:
        """A row's cells but for the derived ones. An average is shown as it is printed, or else computed."""
        if name == AVERAGE and (name, method, self.columns[0]) not in self.filed:
            by_column = zip(*(self.own_cells(other, method) for other in self.names), strict=True)
            return [over_sets(list(cells)) for cells in by_column]
        return self.protocol.settle([self.cell(name, method, column) for column in self.columns])

    def cell(self, name: str, method: str, column: str | int) -> Cell:
        if not self.belongs(name, method, column):
            return BLANK
        return over_seeds(self.filed.get((name, method, column), []), self.expected, self.partial)

    def belongs(self, name: str, method: str, column: str | int) -> bool:
        """Not where nothing is published, nor a zero-shot result anywhere but at 0 shots, nor new classes where something
        is learned for each.
        """
        result = self.methods[method]
        if column == "new" and result.of_classes:
            return False
        if result.published and not self.filed.get((name, method, column)):
            return False
        return not self.protocol.over_shots or result.zero_shot == (column == 0)

    def derived_cells(self, name: str, method: str, cells: list[Cell]) -> list[Cell]:
        """From the row's own cells, or as they are printed."""
        derived = []
        for head, derive in self.protocol.derived.items():
            printed = self.filed.get((name, method, head))
            derived.append(over_seeds(printed, [], partial=False) if printed else derive(cells))
        return derived

    def lacks(self) -> Iterator[Lack]:
        """Where a run of an expected seed is not there."""
        for name in self.names:
            for method, result in self.methods.items():
                for column in self.columns:
                    its = self.filed.get((name, method, column), [])
                    lacking = tuple(sorted(set(self.expected) - {result.seed for result in its}))
                    alone = result.published or (result.zero_shot and its)  # one figure is all there is
                    if lacking and not alone and self.belongs(name, method, column):
                        lacking = lacking[:1] if result.zero_shot else lacking
                        yield Lack(method, lacking, self.shots, name, column)


def order_of_methods(result: Result) -> tuple:
    """Zero-shot first, then by name, then the published ones as printed."""
    return (
        result.published,
        not result.zero_shot and not result.published,
        "" if result.published else result.method,
    )
