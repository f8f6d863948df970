"""The protocols. What a table of one is stands in one value; the other files ask that value, never its name."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from one_run.layout import BENCHMARKS, PHASES, SHIFTED_IMAGENETS

from .cells import Cell, h_of, over_targets, same_seeds
from .result import Result, world

AVERAGE = "average"
ORDER = (*BENCHMARKS, *SHIFTED_IMAGENETS)  # of the field's tables; other sets follow by name


def rank(dataset: str) -> tuple[int, str]:
    """What sets are sorted by; the average stands last."""
    return (ORDER.index(dataset) if dataset in ORDER else len(ORDER) + (dataset == AVERAGE), dataset)


# --- what differs from protocol to protocol --------------------------------------------------------------------


def all_of_them(results: list[Result]) -> tuple[list[Result], list[str]]:
    return results, []


def without_teachers(results: list[Result]) -> tuple[list[Result], list[str]]:
    """A teacher is trained for its students' sake: it is no row if it is never tested on new classes, which is said."""
    teachers = {result.teacher for result in results} & {result.method for result in results}
    left_out = teachers - {result.method for result in results if result.part == "new"}
    notes = [f"Left out: {name}, a teacher without tests on new classes." for name in sorted(left_out)]
    return [result for result in results if result.method not in left_out], notes


def base_and_new(results: list[Result]) -> list:
    return ["base", "new"]


def shots_of(results: list[Result]) -> list:
    return sorted({result.shots for result in results})


def source_and_targets(results: list[Result]) -> list:
    source = results[0].source
    return [source, *sorted({result.dataset for result in results} - {source}, key=rank)]


# --- a protocol ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Protocol:
    name: str  # its folder's, and that of --table
    phases: dict[str, str]  # part of a result -> the phase of its run, as in one_run/layout.py
    block: str  # the field of a result that a block of rows has in common; the head of the CSV's first column
    column: str  # the field of a result that a column has in common
    columns: Callable[[list[Result]], list]  # the columns of results that stand together, but for the derived ones
    derived: dict[str, Callable[[list[Cell]], Cell]] = field(
        default_factory=dict
    )  # head -> its cell, from a row's others
    settle: Callable[[list[Cell]], list[Cell]] = list  # what of a row's cells counts
    counting: Callable[[list[Result]], tuple[list[Result], list[str]]] = all_of_them  # and what is said of the others
    averaged: bool = True  # its blocks are of one set each, and their average is a block too
    title: str = "{}"  # of a block
    place: str = "{title} ({columns})"  # where a run is missing
    derivation: str = ""  # what the notes say of the derived columns
    picture: str = ""  # curves or bars; "": there is none
    heading: str = ""  # of its part of the page
    printed: bool = False  # whether the published figures are of it

    @property
    def folders(self) -> dict[str, Path]:
        """Part of a result -> where its runs stand in the protocol's folder, as DATASET/shots_K/METHOD/CFG/seedS."""
        return {part: Path(PHASES[phase].folder).relative_to(self.name) for part, phase in self.phases.items()}

    @property
    def sources(self) -> list[str]:
        """The folders beside its own in which the models that it tests may have been trained; [] if in its own."""
        (*_, last) = self.phases.values()
        trained = PHASES[last].trained
        if not trained or trained in self.phases.values():
            return []
        return [PHASES[phase].folder for phase in (trained, PHASES[trained].alike) if phase]

    @property
    def settings(self) -> str:
        """The protocol whose settings its runs are to have."""
        (*_, last) = self.phases.values()
        return PHASES[last].protocol

    @property
    def over_shots(self) -> bool:
        """Shots are its columns: zero-shot stands at 0, and nothing else does."""
        return self.column == "shots"

    def block_of(self, result: Result) -> str:
        return getattr(result, self.block)

    def column_of(self, result: Result) -> str | int:
        return getattr(result, self.column)

    def section_of(self, result: Result) -> tuple[str, int | None, str]:
        """World, shots and source of the results among which each method is to have each block and column.

        Shots are None where they are the columns; a source is "" where blocks are averaged.
        """
        block = self.block_of(result)
        return world(block), None if self.over_shots else result.shots, "" if self.averaged else block

    def title_of(self, block: str) -> str:
        return self.title.format(block or "an unknown set")

    def place_of(self, block: str, columns: list) -> str:
        """In words: some columns of a block."""
        listed = ", ".join("the source" if column == "" else str(column) for column in columns)
        return self.place.format(title=self.title_of(block), columns=listed)


BASE2NEW = Protocol(
    name="base2new",
    phases={"base": "base2new_train", "new": "base2new_test"},
    block="dataset",
    column="part",
    columns=base_and_new,
    derived={"H": h_of},
    settle=same_seeds,
    counting=without_teachers,
    derivation="; H is that of the mean base and the mean new, in the average too",
    picture="bars",
    heading="From base to new classes",
    printed=True,
)
FEWSHOT = Protocol(
    name="fewshot",
    phases={"all": "few_shot"},
    block="dataset",
    column="shots",
    columns=shots_of,
    place="{title} ({columns} shots)",
    picture="curves",
    heading="Few-shot",
)
XD = Protocol(
    name="xd",
    phases={"target": "xd_test"},
    block="source",
    column="dataset",
    columns=source_and_targets,
    derived={AVERAGE: over_targets},
    averaged=False,
    title="trained on {}",
    place="{columns} ({title})",
    derivation="; the average is of the targets",
    heading="Cross-dataset",
)
DG = replace(XD, name="dg", phases={"target": "dg_test"}, heading="Domain generalisation")
PROTOCOLS = {protocol.name: protocol for protocol in (BASE2NEW, FEWSHOT, XD, DG)}
