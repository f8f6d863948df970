"""A table -> text, markdown, LaTeX or CSV. The tabulate package draws; the bold, the marks and the notes are ours."""

import csv
import io
import textwrap

from tabulate import DataRow, Line, TableFormat, tabulate

from .cells import Cell
from .notes import DAGGER, STAR
from .tables import Block, Table


def number(cell: Cell) -> str:
    if cell.mean is None:
        return "" if cell.blank else "-"
    return f"{cell.mean:.2f}{'' if cell.whole else STAR}"


def best_of(block: Block) -> set[tuple[int, int]]:
    """(row, column) of the best cells of each column that has more than one."""
    best = set()
    for column in range(len(block.columns)):
        cells = [row.cells[column] for row in block.rows]
        means = [round(cell.mean, 2) if cell.whole and cell.mean is not None else None for cell in cells]
        known = [mean for mean in means if mean is not None]
        best |= {(row, column) for row, mean in enumerate(means) if len(known) > 1 and mean == max(known)}
    return best


def grid_of(block: Block, bold: str = "{}") -> list[list[str]]:
    """Labels and numbers as text, the best of each column in bold."""
    grid = [[row.label, *map(number, row.cells)] for row in block.rows]
    for row, column in best_of(block):
        grid[row][1 + column] = bold.format(grid[row][1 + column])
    return grid


def drawn(grid: list[list[str]], form: str | TableFormat, heads: list[str] | None = None) -> str:
    """Labels to the left and numbers, which are text by now, to the right."""
    sides = ["left", *["right"] * (len(grid[0]) - 1)]
    return tabulate(
        grid, heads or (), tablefmt=form, colalign=sides, disable_numparse=True, preserve_whitespace=True
    )  # fmt: skip


def as_text(table: Table) -> str:
    lines = []
    for block in table.blocks:
        grid = [["method", *block.columns], *grid_of(block)]
        grid = [[text if text.endswith(STAR) else f"{text} " for text in line] for line in grid]  # points align
        lines += [block.title, textwrap.indent(drawn(grid, "plain"), "  "), ""]
    return "\n".join([*lines, *table.notes, *table.problems])


def as_markdown(table: Table) -> str:
    lines = []
    for block in table.blocks:
        grid = [[text.replace("|", "&#124;") for text in line] for line in grid_of(block, "**{}**")]
        lines += [f"**{block.title}**", "", drawn(grid, "pipe", ["method", *block.columns]), ""]
    return "\n".join([*lines, *(f"- {note}" for note in table.notes + table.problems)])


LATEX = {
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", DAGGER: r"$^{\dagger}$",
}  # fmt: skip


def escaped(text: str) -> str:
    return "".join(LATEX.get(sign, sign) for sign in text)


def booktabs(block: Block) -> TableFormat:
    """With the block's title above its rule, and cells as they are: tabulate's own escapes our bold as well."""
    width = 1 + len(block.columns)
    begin = [
        rf"\begin{{tabular}}[t]{{l{'r' * (width - 1)}}}",
        rf"\multicolumn{{{width}}}{{c}}{{{escaped(block.title)}}} \\",
        r"\toprule",
    ]
    row = DataRow("", " & ", r" \\")
    return TableFormat(
        lineabove=Line("\n".join(begin), "", "", ""),
        linebelowheader=Line(r"\midrule", "", "", ""),
        linebetweenrows=None,
        linebelow=Line("\\bottomrule\n\\end{tabular}\\quad", "", "", ""),
        headerrow=row,
        datarow=row,
        padding=0,
        with_header_hide=None,
    )


def as_latex(table: Table) -> str:
    """A float of small tables, which TeX sets side by side as they fit."""
    lines = [r"% \usepackage{booktabs}", r"\begin{table*}", r"\centering\footnotesize", r"\setlength{\tabcolsep}{4pt}"]
    for block in table.blocks:
        grid = [[escaped(label), *numbers] for label, *numbers in grid_of(block, r"\textbf{{{}}}")]
        lines.append(drawn(grid, booktabs(block), [escaped(head) for head in ("method", *block.columns)]))
    lines += [r"\par\smallskip\raggedright", *(rf"{escaped(note)}\par" for note in table.notes + table.problems)]
    return "\n".join([*lines, r"\end{table*}"])


def as_csv(table: Table) -> str:
    """Unrounded; a cell without all its seeds is empty, or named in `partial`. The notes go elsewhere."""
    protocol = table.protocol
    columns = list(dict.fromkeys(column for block in table.blocks for column in block.columns))
    shots = [] if protocol.over_shots else ["shots"]
    heads = [protocol.block, *shots, "method", "transductive", *columns, "seeds", "partial"]
    out = io.StringIO()
    writer = csv.DictWriter(out, heads, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for block in table.blocks:
        for row in block.rows:
            cells = {column: cell for column, cell in zip(block.columns, row.cells, strict=True) if not cell.blank}
            seeds = sorted({seed for cell in cells.values() for seed in cell.by_seed if seed >= 0})
            partial = [column for column, cell in cells.items() if cell.mean is not None and not cell.whole]
            writer.writerow(
                {protocol.block: block.name, "shots": block.shots}
                | {"method": row.method, "transductive": row.transductive}
                | {column: cell.mean for column, cell in cells.items()}
                | {"seeds": " ".join(map(str, seeds)), "partial": " ".join(partial)}
            )
    return out.getvalue().rstrip("\n")


FORMATS = {"text": as_text, "markdown": as_markdown, "latex": as_latex, "csv": as_csv}
