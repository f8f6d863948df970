"""A table -> pictures: few-shot curves, and bars of H. PNG to look at, PDF to print."""

import math
import textwrap
from pathlib import Path
from statistics import pstdev

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from .protocols import PROTOCOLS
from .result import ResultError
from .tables import Block, Row, Table

WIDTH = 7.0  # inches: the text of a page
# Okabe and Ito's colours, which the colour-blind tell apart; then markers, dashes and hatches differ too.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "osD^vPX<>hp"
DASHES = ("-", "--", ":", "-.")
HATCHES = ("", "////", "....", "xxxx")
STYLE: dict = {
    "font.size": 8, "axes.titlesize": 8, "axes.labelsize": 8, "legend.fontsize": 7.5, "xtick.labelsize": 7,
    "ytick.labelsize": 7, "axes.spines.top": False, "axes.spines.right": False, "pdf.fonttype": 42, "hatch.linewidth": 0.5,
}  # fmt: skip
BARS_A_LINE = 48


def draw(table: Table, folder: Path) -> list[Path]:
    """One picture for each group of blocks that belong together; the files are returned."""
    protocol = table.protocol
    if not protocol.picture:
        drawable = " and ".join(name for name, other in PROTOCOLS.items() if other.picture)
        raise ResultError(f"--plot draws the tables {drawable}, and there is no picture of {protocol.name}.")
    if folder.exists() and not folder.is_dir():
        raise ResultError(f"{folder} is a file: give --plot a folder.")
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for where, shots in dict.fromkeys((block.world, block.shots) for block in table.blocks):
        blocks = [block for block in table.blocks if (block.world, block.shots) == (where, shots)]
        if not any(cell.mean is not None for block in blocks for cell in block.cells):
            continue
        name = "_".join(filter(None, [protocol.name, where, f"{shots}shots" if shots is not None else ""]))
        with matplotlib.rc_context(STYLE):
            figure = DRAWERS[protocol.picture](blocks, where)
            for path in (folder / f"{name}.png", folder / f"{name}.pdf"):
                figure.savefig(path, dpi=200, bbox_inches="tight")
                written.append(path)
    return written


def curves(blocks: list[Block], where: str) -> Figure:
    """One panel a set and one for their average: accuracy over shots, zero-shot as a star at 0."""
    across = min(4, len(blocks))
    down = math.ceil(len(blocks) / across)
    figure = Figure(figsize=(WIDTH, 1.75 * down + 0.6), layout="constrained")
    panels = figure.subplots(down, across, squeeze=False, sharex=True).flat
    labels = list(dict.fromkeys(row.label for block in blocks for row in block.rows))
    shots = sorted({int(column) for block in blocks for column in block.columns})
    for panel, block in zip(panels, blocks, strict=False):
        panel.set_title(block.title)
        for row in block.rows:
            curve(panel, row, block.columns, labels.index(row.label))
        panel.set_xscale("symlog", base=2, linthresh=1)  # base-2 logarithm from 1 on, and a place for 0
        panel.xaxis.set_major_locator(FixedLocator(shots))
        panel.xaxis.set_minor_locator(NullLocator())
        panel.xaxis.set_major_formatter("{x:.0f}")
        panel.xaxis.set_tick_params(labelbottom=True)
        panel.grid(alpha=0.3, linewidth=0.5)
    for panel in list(panels):
        panel.set_axis_off()
    for place, panel in enumerate(figure.axes[: len(blocks)]):
        panel.set_ylabel("accuracy (%)" if place % across == 0 else "")
        panel.set_xlabel("training images a class" if place + across >= len(blocks) else "")
    legend(figure, labels, blocks, f"bands: {spread_of(blocks)}", where)
    return figure


def curve(panel, row: Row, columns: list[str], index: int) -> None:
    cells = zip(map(int, columns), row.cells, strict=True)
    points = [(shots, cell.mean, cell.by_seed) for shots, cell in cells if cell.mean is not None]
    x, y = [shots for shots, _, _ in points], [mean for _, mean, _ in points]
    look = {"color": COLOURS[index % len(COLOURS)], "label": row.label}
    if x == [0]:
        panel.plot(x, y, linestyle="", marker="*", markersize=8, clip_on=False, **look)
        return
    look |= {"marker": MARKERS[index % len(MARKERS)], "linestyle": DASHES[index // len(COLOURS) % len(DASHES)]}
    panel.plot(x, y, markersize=3, linewidth=1.1, **look)
    spread = [pstdev(by_seed.values()) if by_seed else 0 for _, _, by_seed in points]
    low, high = ([mean + sign * s for mean, s in zip(y, spread, strict=True)] for sign in (-1, 1))
    panel.fill_between(x, low, high, color=look["color"], alpha=0.15, linewidth=0)


def bars(blocks: list[Block], where: str) -> Figure:
    """H of every method, a group of bars a set and one for the average, on as many lines as it takes."""
    labels = list(dict.fromkeys(row.label for block in blocks for row in block.rows))
    a_line = max(1, BARS_A_LINE // (len(labels) + 1))
    down = math.ceil(len(blocks) / a_line)
    a_line = math.ceil(len(blocks) / down)
    figure = Figure(figsize=(WIDTH, 1.7 * down + 0.7), layout="constrained")
    panels = figure.subplots(down, 1, squeeze=False, sharey=True)[:, 0]
    cells = [row.cells[-1] for block in blocks for row in block.rows]
    means = [cell.mean for cell in cells if cell.mean is not None]
    floor = max(0, 10 * math.floor((min(means) - 5) / 10))
    by_seed = [value for cell in cells for value in cell.by_seed.values()]
    top = max(means + by_seed) + 2  # a deviation is less than the largest
    for line, panel in enumerate(panels):
        here = blocks[line * a_line : (line + 1) * a_line]
        for place, block in enumerate(here):
            for row in block.rows:
                bar(panel, row, place, labels.index(row.label), len(labels))
        names = [block.name.removeprefix("embedded_").replace("_", "\n", 1) for block in here]
        panel.set_xticks(range(len(here)), names)
        panel.set_xlim(-0.5, a_line - 0.5)
        panel.set_ylim(floor, top)
        panel.set_ylabel("H (%)")
        panel.grid(axis="y", alpha=0.3, linewidth=0.5)
        panel.set_axisbelow(True)
    if floor:  # then heights are no measure
        figure.suptitle(f"The axis begins at {floor}, not at 0", fontsize=11, fontweight="bold")
    shots = f"{blocks[0].shots} shots; " if blocks[0].shots is not None else ""
    legend(figure, labels, blocks, f"{shots}error bars: {spread_of(blocks, ' of H')}", where)
    return figure


def bar(panel, row: Row, place: int, index: int, number: int) -> None:
    cell, width = row.cells[-1], 0.84 / number
    if cell.mean is None:
        return
    spread = pstdev(cell.by_seed.values()) if len(cell.by_seed) > 1 else None
    panel.bar(
        place - 0.42 + (index + 0.5) * width, cell.mean, 0.92 * width, yerr=spread, label=row.label,
        color=COLOURS[index % len(COLOURS)], hatch=HATCHES[index // len(COLOURS) % len(HATCHES)], edgecolor="white",
        linewidth=0, error_kw={"elinewidth": 0.7, "capsize": 1.5, "capthick": 0.7, "ecolor": "#444444"},
    )  # fmt: skip


def spread_of(blocks: list[Block], of: str = "") -> str:
    cells = [cell for block in blocks for cell in block.cells]
    several = any(len(cell.by_seed) > 1 for cell in cells)
    return f"± 1 standard deviation{of} over seeds" if several else "none, as there is one seed"


def legend(figure: Figure, labels: list[str], blocks: list[Block], caption: str, where: str) -> None:
    """The methods, and in small print what the picture's marks mean."""
    handles: dict = {}
    for panel in figure.axes:
        handles |= dict(zip(*reversed(panel.get_legend_handles_labels()), strict=True))
    cells = [cell for block in blocks for cell in block.cells]
    caption += "; missing: not all seeds are there" if any(cell.missing for cell in cells) else ""
    caption += (
        "; not of all seeds everywhere" if any(cell.mean is not None and not cell.whole for cell in cells) else ""
    )
    caption += "; † transductive" if any("†" in label for label in handles) else ""
    caption += "; embedded world: a test bed, no benchmark" if where else ""
    caption = textwrap.fill(f"{caption[0].upper()}{caption[1:]}.", 115)
    shown = [label for label in labels if label in handles]
    widest = max((len(label) for label in shown), default=1)
    columns = max(1, min(len(shown), 110 // (widest + 6)))
    figure.legend(
        [handles[label] for label in shown], shown, loc="outside lower center", ncols=columns, frameon=False,
        title=caption, title_fontsize=7,
    )  # fmt: skip


DRAWERS = {"curves": curves, "bars": bars}  # as a protocol names its picture
