"""Drawing what Spotlighter looks at, a row of panels an image. Matplotlib is imported here alone in this package.

B images      G x G patches      C classes      R tokens selected      Z windows looked at again
"""

import os

import numpy as np
from matplotlib import patheffects
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from torch import Tensor

from .look import Look

LIKELIEST = 5  # classes shown
LEVEL_COLOURS = ("#00e5ff", "#39ff14")  # of level 1 and level 2: neither is in the colour map
COLOUR_MAP, WINDOW_COLOUR, DROPPED_COLOUR, BAR_COLOUR = "inferno", "#ff5a36", "#8c8c8c", "#9ecae1"
CORNERS = (("left", "top"), ("right", "top"), ("left", "bottom"), ("right", "bottom"))
MAP_OPACITY = 0.7  # the image stays visible below


def patch_corner(place: int, side: int, size: float) -> tuple[float, float]:
    """Left and upper border, in pixels, of patch `place` on a grid of side x side over an image of that size."""
    return place % side * size / side, place // side * size / side


def draw(picture: Tensor, seen: Look, names: list[str], title: str) -> Figure:
    """One row of panels: picture (3, S, S) from 0 to 1, a look at this one image (B = 1), and the class names."""
    size, side = picture.shape[-1], round(seen.alive.shape[1] ** 0.5)
    whole = (0, size, size, 0)  # pixel borders: every grid spans exactly the picture
    figure = Figure(figsize=(17.5, 4.6), dpi=110)  # the margins are fixed: to find them out doubles the time
    figure.suptitle(printable(f"{title}: {seen.plan}" if seen.plan else title), fontsize=12, parse_math=False)
    margins = {"left": 0.01, "right": 0.985, "top": 0.8, "bottom": 0.2, "wspace": 0.06}
    panels = figure.subplots(1, 5, gridspec_kw=margins)

    pixels = picture.permute(1, 2, 0).numpy()  # (S, S, 3)
    grey = pixels @ (0.299, 0.587, 0.114)
    dropped = ~seen.alive[0].view(side, side).numpy()
    veil = np.zeros((side, side, 4))
    veil[..., :3] = int(DROPPED_COLOUR[1:3], 16) / 255
    veil[..., 3] = 0.85 * dropped
    likeliest = seen.probabilities[0].argmax()
    panels[0].imshow(pixels, extent=whole, interpolation="nearest")
    best = f"{short(names[likeliest])}, {percent(seen.probabilities[0, likeliest])}"
    panels[0].set_title(best, parse_math=False)
    for number, (left, upper, right, lower) in enumerate((seen.windows[0] * size).tolist(), 1):
        box = Rectangle((left, upper), right - left, lower - upper, fill=False, ec=WINDOW_COLOUR, lw=2, zorder=3)
        box.set_path_effects([patheffects.withStroke(linewidth=4, foreground="black")])
        panels[0].add_patch(box)
        across, down = CORNERS[(number - 1) % len(CORNERS)]  # windows that lie close keep their numbers apart
        x, y = left if across == "left" else right, upper if down == "top" else lower
        mark(panels[0], x, y, number, WINDOW_COLOUR, 10, ha=across, va=down)

    maps = {
        "sample-wise:\nnear the texts of the classes believed in": seen.sample_wise,
        "semantic-wise:\nnear the training images of those classes": seen.semantic_wise,
        "activation, which is both together,\nand selected tokens": seen.activation,
    }
    if not seen.selected.shape[1]:  # a plan that does without patch tokens
        again = seen.windows.shape[1] > 0  # else no attention is asked for
        maps = (
            {"attention of the class token in an early block,\nby which it looks again": seen.attention}
            if again
            else {}
        )
        panels[1].set_visible(again)
        panels[2].set_visible(False)
        panels[3].set_axis_off()
        panels[3].text(
            0.5, 0.5, "no tokens are selected\nunder this plan", transform=panels[3].transAxes, ha="center", va="center"
        )
    for panel, (name, values) in zip(panels[1:4], maps.items(), strict=False):
        panel.imshow(grey, extent=whole, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        grid = values[0].view(side, side).numpy()
        shown = panel.imshow(grid, extent=whole, cmap=COLOUR_MAP, alpha=MAP_OPACITY, interpolation="nearest")
        panel.imshow(veil, extent=whole, interpolation="nearest")
        panel.set_title(name, fontsize=10)
        bar = figure.colorbar(shown, cax=panel.inset_axes((0.05, -0.1, 0.9, 0.035)), orientation="horizontal")
        bar.ax.tick_params(labelsize=8)
        bar.solids.set_alpha(1)
    points = max(5.0, min(10.0, 110 / side))  # a number fits into its patch
    for rank, place in reversed(list(enumerate(seen.selected[0].tolist()))):  # the strongest on top
        colour, (x, y) = LEVEL_COLOURS[seen.level[rank] - 1], patch_corner(place, side, size)
        box = Rectangle((x, y), size / side, size / side, fill=False, ec=colour, lw=2.2, zorder=3)
        box.set_path_effects([patheffects.withStroke(linewidth=4, foreground="black")])
        panels[3].add_patch(box)
        mark(panels[3], x + size / side / 2, y + size / side / 2, rank + 1, colour, points, ha="center", va="center")
    for panel in panels[:4]:
        panel.set(xlim=(0, size), ylim=(size, 0), xticks=[], yticks=[])

    draw_bars(panels[4], seen.probabilities[0], names)
    draw_legend(figure, seen)
    return figure


def mark(panel, x: float, y: float, number: int, colour: str, points: float, **where) -> None:
    text = panel.text(x, y, str(number), color=colour, fontsize=points, fontweight="bold", zorder=4, **where)
    text.set_path_effects([patheffects.withStroke(linewidth=2.5, foreground="black")])


def draw_bars(panel, probabilities: Tensor, names: list[str]) -> None:
    """The likeliest of C classes, their names inside the bars, where long ones have room."""
    values, order = probabilities.topk(min(LIKELIEST, len(probabilities)))
    panel.barh(range(len(values)), values.tolist(), color=BAR_COLOUR)
    for row, (value, index) in enumerate(zip(values.tolist(), order.tolist(), strict=True)):
        panel.text(0.015, row, f"{percent(value)}  {short(names[index])}", va="center", clip_on=True, parse_math=False)
    panel.set(xlim=(0, 1), ylim=(LIKELIEST - 0.5, -0.5), yticks=[], xticks=[0, 0.5, 1], title="likeliest classes")
    panel.set_xticklabels(["0%", "50%", "100%"], fontsize=8)
    panel.spines[["top", "right"]].set_visible(False)


def draw_legend(figure: Figure, seen: Look) -> None:
    """What the colours mean, of those that the picture has."""
    ranks = [[rank for rank, own in enumerate(seen.level.tolist(), 1) if own == level] for level in (1, 2)]
    entries = [
        outlined(colour, f"level {level}: rank{'s' * (len(own) > 1)} {span(own)}")
        for level, colour, own in zip((1, 2), LEVEL_COLOURS, ranks, strict=True)
        if own
    ]
    if not seen.alive.all():
        count = int((~seen.alive[0]).sum())
        entries.append(Patch(fc=DROPPED_COLOUR, label=f"dropped inside the encoder ({count} of {seen.alive.shape[1]})"))
    if seen.windows.shape[1]:
        entries.append(outlined(WINDOW_COLOUR, "looked at again"))
    figure.legend(handles=entries, loc="lower center", ncols=len(entries), frameon=False, fontsize=10)


def outlined(colour: str, label: str) -> Patch:
    return Patch(fc="#303030", ec=colour, lw=2.2, label=label)


def span(ranks: list[int]) -> str:
    return f"{ranks[0]}-{ranks[-1]}" if len(ranks) > 1 else str(ranks[0])


def percent(share) -> str:
    return f"{100 * float(share):.0f}%"


def short(name: str) -> str:
    """A class name that fits over a panel."""
    return printable(name) if len(name) <= 32 else f"{printable(name)[:31]}…"


def printable(text: str) -> str:
    """Without the stray bytes that a file's name may hold and no font can draw."""
    return os.fsencode(text).decode("utf-8", "replace")
