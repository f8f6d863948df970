"""Rows -> a table: seeds are averaged first, then sets; H is taken of means, in the average row too.

A cell whose seeds are not all there shows "-" (with `partial`, the mean of those that are there, with a star), and
what is missing is named under the table.
"""

import csv
import io
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from statistics import fmean
from typing import NamedTuple

from .read import PUBLISHED_BACKBONE, PUBLISHED_SHOTS, ResultError, Run, is_embedded

AVERAGE = "average"
# The order of the field's tables; other sets follow by name.
ORDER = (
    "imagenet", "caltech101", "oxford_pets", "stanford_cars", "oxford_flowers", "food101", "fgvc_aircraft", "sun397",
    "dtd", "eurosat", "ucf101", "imagenetv2", "imagenet_sketch", "imagenet_a", "imagenet_r",
)  # fmt: skip
DAGGER, STAR = "†", "*"


def harmonic_mean(base: float, new: float) -> float:
    return 2 * base * new / (base + new) if base + new > 0 else 0.0


@dataclass(frozen=True)
class Cell:
    mean: float | None = None  # in percent; None: nothing to show
    by_seed: dict[int, float] = field(default_factory=dict)
    whole: bool = False  # every expected seed counts in it


@dataclass(frozen=True)
class Row:
    method: str
    transductive: bool
    cells: list[Cell | None]  # None: nothing belongs there, as in a zero-shot row at 16 shots

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


@dataclass(frozen=True)
class Table:
    kind: str
    blocks: list[Block]
    notes: list[str]  # what a reader must know
    problems: list[str]  # what is missing or does not fit


class Layout(NamedTuple):
    together: Callable[[Run], tuple]  # (world, shots or None, ...) of runs among which each method is to have each set
    block: Callable[[Run], str]
    column: Callable[[Run], str | int]


ACROSS = Layout(lambda run: (world(run.source), run.shots, run.source), lambda run: run.source, lambda run: run.dataset)
LAYOUTS = {
    "base2new": Layout(lambda run: (world(run.dataset), run.shots), lambda run: run.dataset, lambda run: run.part),
    "fewshot": Layout(lambda run: (world(run.dataset), None), lambda run: run.dataset, lambda run: run.shots),
    "xd": ACROSS,
    "dg": ACROSS,
}


def world(dataset: str) -> str:
    return "embedded" if is_embedded(dataset) else ""


def rank(name: str) -> tuple[int, str]:
    return (ORDER.index(name) if name in ORDER else len(ORDER) + (name == AVERAGE), name)


# --- arithmetic ------------------------------------------------------------------------------------------------


def over_seeds(runs: Iterable[Run], expected: list[int], partial: bool) -> Cell:
    values = {run.seed: run.value for run in runs if run.value is not None}
    free = any(run.published or run.zero_shot for run in runs)  # one figure is all there is
    whole = bool(values) and (free or set(expected) <= values.keys())
    return Cell(fmean(values.values()), values, whole) if values and (whole or partial) else Cell()


def over_sets(cells: list[Cell]) -> Cell:
    if not cells or any(cell.mean is None for cell in cells):
        return Cell()
    seeds = set.intersection(*(set(cell.by_seed) for cell in cells))
    by_seed = {seed: fmean(cell.by_seed[seed] for cell in cells) for seed in sorted(seeds)}
    return Cell(fmean(cell.mean for cell in cells), by_seed, all(cell.whole for cell in cells))


def paired(base: Cell, new: Cell) -> tuple[Cell, Cell]:
    """Where seeds are missing, those count that have both halves."""
    if (base.whole and new.whole) or base.mean is None or new.mean is None:
        return base, new
    seeds = sorted(base.by_seed.keys() & new.by_seed.keys())
    halves = [{seed: cell.by_seed[seed] for seed in seeds} for cell in (base, new)]
    return tuple(Cell(fmean(half.values()), half) if seeds else Cell() for half in halves)


def with_h(base: Cell, new: Cell) -> list[Cell]:
    if base.mean is None or new.mean is None:
        return [base, new, Cell()]
    seeds = base.by_seed.keys() & new.by_seed.keys()
    by_seed = {seed: harmonic_mean(base.by_seed[seed], new.by_seed[seed]) for seed in sorted(seeds)}
    return [base, new, Cell(harmonic_mean(base.mean, new.mean), by_seed, base.whole and new.whole)]


# --- the table -------------------------------------------------------------------------------------------------


def make_table(runs: list[Run], kind: str, seeds: list[int] | None = None, partial: bool = False) -> Table:
    """`seeds`: those that every cell is to have; by default all that occur."""
    if seeds:
        runs = [run for run in runs if run.published or run.seed in seeds]
    runs, teachers = without_teachers(runs) if kind == "base2new" else (runs, [])
    ours = [run for run in runs if not run.published]
    if not ours:
        raise ResultError(f"No run is of the seeds {', '.join(map(str, seeds or []))}: correct --seeds.")
    expected = sorted(set(seeds or [run.seed for run in ours]))
    layout, blocks, missing = LAYOUTS[kind], [], defaultdict(lambda: defaultdict(list))
    for together in sorted({layout.together(run) for run in runs}, key=str):
        blocks += make_blocks([r for r in runs if layout.together(r) == together], kind, expected, partial, missing)
    problems = [run.problem for run in ours if run.problem]
    for (method, seeds_lacking, shots), places in missing.items():
        of = number_of(seeds_lacking) + (f", {shots} shots" if shots is not None else "")
        where = ", ".join(place_of(name, columns, kind) for name, columns in places.items())
        problems.append(f"{method} has no run of {of}: {where}.")
    notes = notes_under(runs, kind, expected, any(cell == Cell() for cell in cells_of(blocks)), partial)
    return Table(kind, blocks, notes + teachers, problems + other_images(ours))


def without_teachers(runs: list[Run]) -> tuple[list[Run], list[str]]:
    """A teacher is trained for its students' sake: it is no row if it is never tested on new classes, which is said."""
    left_out = {run.teacher for run in runs} - {"", *(run.method for run in runs if run.part == "new")}
    left_out &= {run.method for run in runs}
    notes = [f"Left out: {name}, a teacher without tests on new classes." for name in sorted(left_out)]
    return [run for run in runs if run.method not in left_out], notes


def cells_of(blocks: list[Block]) -> list[Cell]:
    return [cell for block in blocks for row in block.rows for cell in row.cells if cell]


def make_blocks(runs: list[Run], kind: str, expected: list[int], partial: bool, missing: dict) -> list[Block]:
    """The blocks of sets that belong together, and their average; what is missing is added to `missing`."""
    layout = LAYOUTS[kind]
    filed = defaultdict(list)
    for run in runs:
        filed[layout.block(run), run.method, layout.column(run)].append(run)
    methods = {run.method: run for run in sorted(runs, key=order_of_methods)}
    transductive = {run.method for run in runs if run.transductive}
    names = sorted({block for block, _, _ in filed} - {AVERAGE}, key=rank)
    columns = columns_of(runs, kind)
    where, shots, *_ = layout.together(runs[0])

    def cell(name: str, method: str, column) -> Cell | None:
        some, its = methods[method], filed.get((name, method, column), [])
        if (some.published and not its) or (kind == "fewshot" and some.zero_shot != (column == 0)):
            return None
        lacking = set(expected) - {run.seed for run in its}
        if lacking and not some.published and not (some.zero_shot and its):
            missing[method, tuple(sorted(lacking)), shots][name].append(column)
        return over_seeds(its, expected, partial)

    def finish(cells: list, name: str, method: str) -> list:
        """Derived columns; what is printed is shown as it is printed."""
        if kind == "fewshot":
            return cells
        if kind in ("xd", "dg"):
            return [*cells, over_sets(cells[1:])]
        printed = filed.get((name, method, "H"))
        return [*cells, over_seeds(printed, [], False)] if printed else with_h(*cells)

    def block(name: str, of: Callable[[str], list]) -> Block:
        rows = [Row(method, method in transductive, cells) for method in methods if (cells := of(method))]
        heads = [*map(str, columns), *{"base2new": ["H"], "fewshot": []}.get(kind, [AVERAGE])]
        return Block(name, shots, where, title_of(name, shots, where, kind, len(names)), heads, rows)

    grid = {
        (name, method): cells
        for name in names
        for method in methods
        if any(cells := [cell(name, method, column) for column in columns])
    }
    if kind == "base2new":
        grid = {key: paired(*cells) for key, cells in grid.items()}
    blocks = [
        block(name, lambda method, name=name: (name, method) in grid and finish(grid[name, method], name, method))
        for name in names
    ]
    if kind in ("base2new", "fewshot") and len(names) > 1:

        def average(method: str) -> list:
            if (AVERAGE, method, columns[0]) in filed:
                return finish([cell(AVERAGE, method, column) for column in columns], AVERAGE, method)
            if methods[method].published and any((name, method) not in grid for name in names):
                return []
            by_column = zip(*(grid[name, method] for name in names), strict=True)
            return finish([over_sets(cells) if cells[0] else None for cells in map(list, by_column)], "", method)

        blocks.append(block(AVERAGE, average))
    return blocks


def place_of(name: str, columns: list, kind: str) -> str:
    listed = ", ".join(str(column or "the source") for column in columns)
    if kind in ("xd", "dg"):
        return f"{listed} (trained on {name or 'an unknown set'})"
    return f"{name} ({listed}{' shots' if kind == 'fewshot' else ''})"


def columns_of(runs: list[Run], kind: str) -> list:
    if kind == "base2new":
        return ["base", "new"]
    if kind == "fewshot":
        return sorted({run.shots for run in runs})
    source = runs[0].source
    return [source, *sorted({run.dataset for run in runs} - {source}, key=rank)]


def order_of_methods(run: Run) -> tuple:
    """Zero-shot first, then by name, then the published ones as printed."""
    return (run.published, not run.zero_shot and not run.published, "" if run.published else run.method)


def title_of(name: str, shots: int | None, where: str, kind: str, number: int) -> str:
    if kind in ("xd", "dg"):
        name = f"trained on {name or 'an unknown set'}"
    elif name == AVERAGE:
        name = f"average of {number} {where} sets".replace("  ", " ")
    return name if shots is None else f"{name}, {shots} shots"


def number_of(seeds: Iterable[int], form: str = "{}") -> str:
    seeds = list(seeds)
    return f"seed{'s' * (len(seeds) > 1)} {form.format(', '.join(map(str, seeds)))}"


# --- what stands under it --------------------------------------------------------------------------------------


def notes_under(runs: list[Run], kind: str, expected: list[int], dashes: bool, partial: bool) -> list[str]:
    ours = [run for run in runs if not run.published]
    counted = [run for run in ours if run.value is not None]
    how = {"base2new": "; H is that of the mean base and the mean new, in the average too", "fewshot": ""}
    alone = " Zero-shot rows need one." if any(run.zero_shot for run in ours) and len(expected) > 1 else ""
    notes = [
        *modes(counted),
        f"{len(expected)} {number_of(expected, '({})')}, averaged first{how.get(kind, '; the average is of the targets')}.{alone}",
        *backbones(counted),
    ]
    shots = sorted({run.shots for run in ours})
    if kind != "fewshot" and len(shots) > 1:
        notes.append(f"Shots differ: {', '.join(map(str, shots))}.")
    if any(run.transductive for run in runs):
        notes.append(f"{DAGGER} transductive: trained on unlabelled images of the classes that are new at test, too.")
    if any(run.published for run in runs):
        notes += about_published(runs, counted)
    if any(is_embedded(run.dataset) for run in ours):
        notes.append("Embedded world: a test bed, no benchmark; its figures are never set beside published ones.")
    if dashes or partial:
        star = f"; {STAR}: the mean of those that are there, of the same seeds for base and new" if partial else ""
        notes.append(f"-: not all seeds are there{star}.")
    return notes


def by(runs: Iterable[Run], key: Callable[[Run], str]) -> dict[str, str]:
    """Values of a key -> the methods that have them, in words."""
    methods = defaultdict(set)
    for run in runs:
        methods[key(run)].add(run.method)
    return {value: ", ".join(sorted(methods[value])) for value in sorted(methods)}


def modes(runs: list[Run]) -> list[str]:
    """strict: the last epoch, nothing chosen on test images, inductive; paper: what is not."""

    def mode(run: Run) -> str:
        if run.final_model is None:
            return "Mode unknown (no config beside the log)"
        reasons = [
            *(["best epoch on validation images, which of ImageNet are the test images"] * (run.final_model != "last_step")),
            *(["transductive"] * run.transductive),
            *([f"tested on {run.split} images"] * (run.split not in (None, "test"))),
        ]  # fmt: skip
        return f"Mode: paper ({'; '.join(reasons)})" if reasons else "Mode: strict (last epoch, inductive)"

    found = by(runs, mode)
    if len(found) == 1:
        return [f"{next(iter(found))}."]
    return [f"{mode}: {'all other runs' if 'strict' in mode else methods}." for mode, methods in found.items()]


def backbones(runs: list[Run]) -> list[str]:
    notes = []
    for where in sorted({world(run.dataset) for run in runs}):
        found = by([run for run in runs if world(run.dataset) == where], lambda run: run.backbone or "unknown")
        listed = "; ".join(f"{backbone} ({methods})" for backbone, methods in found.items())
        only = f"Backbone: {next(iter(found))}."
        notes.append(only if len(found) == 1 else f"Backbones differ, so that rows cannot be compared: {listed}.")
    return notes


def about_published(runs: list[Run], counted: list[Run]) -> list[str]:
    notes = [
        f"(published): as printed in Gao et al., Findings of EMNLP 2025; {PUBLISHED_SHOTS} shots, {PUBLISHED_BACKBONE}."
    ]
    if not any(run.dataset == AVERAGE for run in runs):
        notes.append("The published rows' averages are computed from their sets that are in this table.")
    real = [run for run in counted if not is_embedded(run.dataset)]
    others = sorted({str(run.backbone) for run in real} - {PUBLISHED_BACKBONE, "None"})
    if others:
        notes.append(f"The published rows are of {PUBLISHED_BACKBONE}, and these runs of {', '.join(others)} too.")
    lacking = sorted({run.dataset for run in real} - {run.dataset for run in runs if run.published}, key=rank)
    if lacking:
        notes.append(f"No published figures: {', '.join(lacking)}.")
    for method, dataset, part, printed, computed in contradictions(runs):
        base = "its base and new give" if part == "H" else "its sets give"
        notes.append(f"{method}, {dataset}: {part} is printed {printed:.2f}, and {base} {computed:.2f}.")
    return notes


def contradictions(runs: Iterable[Run]) -> list[tuple[str, str, str, float, float]]:
    """Published (method, set, part, figure as printed, as computed from the others), where they differ by over 0.01."""
    figures: dict = defaultdict(lambda: defaultdict(dict))
    for run in runs:
        if run.published:
            figures[run.method][run.dataset][run.part] = run.value
    found = []
    for method, sets in figures.items():
        for dataset, printed in sets.items():
            computed = {"H": harmonic_mean(printed["base"], printed["new"])}
            if dataset == AVERAGE:
                computed |= {
                    part: fmean(sets[name][part] for name in sets if name != AVERAGE) for part in ("base", "new")
                }
            found += [
                (method, dataset, part, printed[part], value)
                for part, value in computed.items()
                if abs(round(value, 2) - printed[part]) > 0.0101
            ]
    return found


def other_images(runs: list[Run]) -> list[str]:
    """Runs of one set, shots and seed that were trained on different images."""
    found = defaultdict(list)
    for run in runs:
        if run.images:
            found[run.dataset, run.shots, run.part, run.seed].append(run)
    seeds = defaultdict(list)
    for (dataset, shots, part, seed), group in found.items():
        hashes = by(group, lambda run: run.images[:8])
        if len(hashes) > 1:
            listed = "; ".join(f"{name}: {methods}" for name, methods in hashes.items())
            place = f"{dataset}, {shots} shots" if part in ("all", "source") else f"{dataset} ({part}), {shots} shots"
            seeds[place].append(f"seed {seed} ({listed})")
    return [
        f"Trained on different images (images_sha256), so not comparable: {place}, {', '.join(which)}."
        for place, which in seeds.items()
    ]


# --- formats ---------------------------------------------------------------------------------------------------


def number(cell: Cell | None) -> str:
    if cell is None:
        return ""
    return "-" if cell.mean is None else f"{cell.mean:.2f}{'' if cell.whole else STAR}"


def grid_of(block: Block, bold: str = "{}") -> list[list[str]]:
    """Labels and numbers as text, the best of each column in bold."""
    grid = [[row.label, *map(number, row.cells)] for row in block.rows]
    for column in range(len(block.columns)):
        cells = [row.cells[column] for row in block.rows]
        means = [round(cell.mean, 2) if cell and cell.whole else None for cell in cells]
        known = [mean for mean in means if mean is not None]
        for line, mean in zip(grid, means, strict=True):
            if len(known) > 1 and mean == max(known):
                line[1 + column] = bold.format(line[1 + column])
    return grid


def as_text(table: Table) -> str:
    lines = []
    for block in table.blocks:
        grid = [["method", *block.columns], *grid_of(block)]
        grid = [[text if text.endswith(STAR) else f"{text} " for text in line] for line in grid]  # points align
        widths = [max(map(len, column)) for column in zip(*grid, strict=True)]
        lines.append(block.title)
        for label, *numbers in grid:
            cells = [f"{text:>{width}}" for text, width in zip(numbers, widths[1:], strict=True)]
            lines.append("  ".join([f"  {label:<{widths[0]}}", *cells]).rstrip())
        lines.append("")
    return "\n".join([*lines, *table.notes, *table.problems])


def as_markdown(table: Table) -> str:
    lines = []
    for block in table.blocks:
        lines += [f"**{block.title}**", "", f"| method | {' | '.join(block.columns)} |"]
        lines.append(f"|---|{'---:|' * len(block.columns)}")
        for line in grid_of(block, "**{}**"):
            lines.append(f"| {' | '.join(text.replace('|', '&#124;') for text in line)} |")
        lines.append("")
    return "\n".join([*lines, *(f"- {note}" for note in table.notes + table.problems)])


LATEX = {
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", DAGGER: r"$^{\dagger}$",
}  # fmt: skip


def escaped(text: str) -> str:
    return "".join(LATEX.get(sign, sign) for sign in text)


def as_latex(table: Table) -> str:
    """A float of small tables, which TeX sets side by side as they fit."""
    lines = [r"% \usepackage{booktabs}", r"\begin{table*}", r"\centering\footnotesize", r"\setlength{\tabcolsep}{4pt}"]
    for block in table.blocks:
        width = 1 + len(block.columns)
        lines += [
            rf"\begin{{tabular}}[t]{{l{'r' * (width - 1)}}}",
            rf"\multicolumn{{{width}}}{{c}}{{{escaped(block.title)}}} \\",
            r"\toprule",
            f"{' & '.join(map(escaped, ['method', *block.columns]))} \\\\",
            r"\midrule",
        ]
        for row, line in zip(block.rows, grid_of(block, r"\textbf{{{}}}"), strict=True):
            lines.append(f"{' & '.join([escaped(row.label), *line[1:]])} \\\\")
        lines += [r"\bottomrule", r"\end{tabular}\quad"]
    lines += [r"\par\smallskip\raggedright", *(rf"{escaped(note)}\par" for note in table.notes + table.problems)]
    return "\n".join([*lines, r"\end{table*}"])


def as_csv(table: Table) -> str:
    """Unrounded; a cell without all its seeds is empty, or named in `partial`. The notes go elsewhere."""
    name = "source" if table.kind in ("xd", "dg") else "dataset"
    columns = list(dict.fromkeys(column for block in table.blocks for column in block.columns))
    heads = [
        name,
        *(["shots"] if table.kind != "fewshot" else []),
        "method",
        "transductive",
        *columns,
        "seeds",
        "partial",
    ]
    out = io.StringIO()
    writer = csv.DictWriter(out, heads, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for block in table.blocks:
        for row in block.rows:
            cells = {column: cell for column, cell in zip(block.columns, row.cells, strict=True) if cell}
            seeds = sorted({seed for cell in cells.values() for seed in cell.by_seed if seed >= 0})
            partial = [column for column, cell in cells.items() if cell.mean is not None and not cell.whole]
            writer.writerow(
                {name: block.name, "shots": block.shots, "method": row.method, "transductive": row.transductive}
                | {column: cell.mean for column, cell in cells.items()}
                | {"seeds": " ".join(map(str, seeds)), "partial": " ".join(partial)}
            )
    return out.getvalue().rstrip("\n")


FORMATS = {"text": as_text, "markdown": as_markdown, "latex": as_latex, "csv": as_csv}
