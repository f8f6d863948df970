"""All of a folder's results as one HTML file: text, style, script and pictures are in it, and nothing is loaded.

Names of classes and methods and texts of errors come from files, so the template escapes all that it is given, and a
policy in the page lets the browser run no script but its own.
"""

import base64
import hashlib
import os
import re
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import jinja2
from markupsafe import Markup

from .cells import Cell
from .charts import LOOKS, Panel, panels, spread_of
from .confusion import matrices
from .formats import best_of, number
from .gains import Comparison, comparisons
from .protocols import PROTOCOLS, Protocol
from .published import beside
from .read import dig, folders_by_table, read_results
from .result import NoRuns, Result, ResultError
from .runs import Run, all_runs
from .tables import Block, Table, make_table

TEMPLATES = Path(__file__).parent / "templates"
BACKWARDS = re.compile("[\u202a-\u202e\u2066-\u2069]")  # would turn round what stands behind a name


@dataclass(frozen=True)
class Part:
    """The blocks of a table that have the same columns, as one table of the page."""

    title: str
    world: str
    block: str  # the head of its first column
    columns: list[str]
    blocks: list[Block]
    best: list[set[tuple[int, int]]]  # of each block


@dataclass(frozen=True)
class Section:
    """A protocol's."""

    table: Table
    parts: list[Part]
    panels: list[Panel]
    published: set[str]  # methods whose figures are printed ones

    @property
    def name(self) -> str:
        return self.table.protocol.name

    @property
    def title(self) -> str:
        return self.table.protocol.heading


@dataclass(frozen=True)
class Picture:
    """An image file's bytes, and what it shows."""

    data: bytes
    kind: str  # such as image/webp
    text: str
    run: str = ""  # the title of the run that it is of

    @property
    def url(self) -> str:
        return f"data:{self.kind};base64,{base64.b64encode(self.data).decode()}"


@dataclass(frozen=True)
class Report:
    """What the page shows."""

    directory: str
    keyword: str
    sections: list[Section]
    runs: list[Run]
    comparisons: list[Comparison]
    matrices: list[dict]
    problems: list[str]  # why a protocol's runs make no table
    classes: Mapping[tuple[str, str], Picture] = field(default_factory=dict)  # (set, class) -> an image of it
    gallery: list[Picture] = field(default_factory=list)

    @property
    def whole(self) -> bool:
        return not (self.problems or any(section.table.problems for section in self.sections))

    @property
    def classes_shown(self) -> dict[str, tuple[Run, set[str]]]:
        """Set and phase -> a run on it, and the classes that the page names of it; where the folder of its images is there."""
        shown: dict[str, tuple[Run, set[str]]] = {}
        for each in self.comparisons:
            root = dig(each.run.record, "config", "DATASET", "ROOT")
            if isinstance(root, str) and os.path.isdir(root):
                _, names = shown.setdefault(f"{each.run.dataset} {each.run.phase}", (each.run, set()))
                names |= {one.name for one in (*each.best, *each.worst)}
        return shown

    @property
    def states(self) -> dict[str, int]:
        return dict(Counter(run.state for run in self.runs).most_common())

    @property
    def methods(self) -> list[str]:
        listed = [row.method for each in self.sections for block in each.table.blocks for row in block.rows]
        return list(dict.fromkeys([*listed, *sorted({run.method for run in self.runs})]))

    @property
    def datasets(self) -> list[str]:
        listed = [block.name for each in self.sections for block in each.table.blocks]
        return list(dict.fromkeys([*listed, *(run.dataset for run in self.runs)]))


def collect(
    directory: Path, keyword: str = "accuracy", seeds: list[int] | None = None, partial: bool = False
) -> Report:
    """What a folder's runs give; as for a table, `seeds` are those that are expected."""
    given = str(directory)
    if directory.name in ("", ".."):
        directory = directory.resolve()
    found = [PROTOCOLS[name] for name in folders_by_table(directory)] if directory.is_dir() else []
    sections, problems = [], []
    nothing: NoRuns | None = None
    for protocol in found or [next(iter(PROTOCOLS.values()))]:  # which says then what the folder lacks
        try:
            sections.append(section_of(directory, protocol, keyword, seeds, partial))
        except NoRuns as error:  # as a run that is refused leaves it, whose folder is made first
            nothing = error
        except ResultError as error:
            if len(found) < 2:
                raise
            problems.append(f"{protocol.heading}: {error}")
    if not sections:
        raise nothing if nothing and not problems else ResultError(problems[0])
    runs = all_runs(directory)
    return Report(given, keyword, sections, runs, comparisons(runs), matrices(runs), problems)


def section_of(directory: Path, protocol: Protocol, keyword: str, seeds: list[int] | None, partial: bool) -> Section:
    results = read_results(directory, protocol, keyword)
    printed = printed_beside(results, protocol, keyword)
    table = make_table(results + printed, protocol, seeds, partial)
    return Section(
        table=table,
        parts=parts_of(table),
        panels=panels(table),
        published={result.method for result in printed},
    )


def printed_beside(results: list[Result], protocol: Protocol, keyword: str) -> list[Result]:
    """The published figures, where `--against published` would set them; none where it would refuse."""
    if not protocol.printed or keyword != "accuracy":
        return []
    try:
        return beside(results)
    except ResultError:
        return []


def parts_of(table: Table) -> list[Part]:
    """Worlds, shots and columns are never mixed."""
    groups: dict[tuple, list[Block]] = {}
    for block in table.blocks:
        groups.setdefault((block.world, block.shots, tuple(block.columns)), []).append(block)
    return [
        Part(
            title=title_of(table.protocol, world, shots),
            world=world,
            block="set" if table.protocol.averaged else "trained on",
            columns=list(columns),
            blocks=blocks,
            best=[best_of(block) for block in blocks],
        )
        for (world, shots, columns), blocks in groups.items()
    ]


def title_of(protocol: Protocol, world: str, shots: int | None) -> str:
    return protocol.heading + (f", {shots} shots" if shots is not None else "") + (f", {world} world" if world else "")


# --- the file ------------------------------------------------------------------------------------------------------


def render(report: Report) -> str:
    """The page's HTML."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {
        "spread": spread_of,
        "number": plain_number,
        "duration": duration,
        "memory": memory,
        "breakable": breakable,
    }
    script = (TEMPLATES / "report.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    page = environment.get_template("report.html.j2").render(
        report=report,
        looks=LOOKS,
        pictured={place: index for index, place in enumerate(report.classes, 1)},
        made=time.strftime("%Y-%m-%d %H:%M"),
        script=Markup(script),
        policy=f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'",
    )
    page = BACKWARDS.sub("\N{REPLACEMENT CHARACTER}", page)
    return page.encode(errors="replace").decode()  # a file's name need not be UTF-8


def plain_number(cell: Cell) -> str:
    return number(cell).replace("-", "–")


def breakable(name: str) -> Markup:
    """A name that may go on in the next line after each /."""
    return Markup("/<wbr>").join(name.split("/"))


def duration(seconds: float | None) -> str:
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"


def memory(mib: float | None) -> str:
    return "" if mib is None else f"{mib / 1024:.1f} GiB"
