"""Draw what a trained Spotlighter looks at: one PNG an image, of its token maps, its choice and its prediction.

    python show_tokens.py RUN IMAGE_OR_FOLDER --out pictures

RUN is the folder of a finished training run of Spotlighter; its `results.json` says how to build it again. From left
to right: the image as the model saw it, with the windows it looked at again; the sample-wise map; the semantic-wise
map; both together with the R selected tokens, by rank and level; the likeliest classes. What was dropped inside the
encoder is grey. The picture of `flowers/rose.jpg` is `OUT/flowers/rose.jpg.png`.

    B images      G x G patches      C classes      R tokens selected      Z windows looked at again
"""

import argparse
import os
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from matplotlib import patheffects
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from torch import Tensor

from dassl.data.transforms import build_transform
from dassl.utils import InputError, read_image, replace_file
from one_run.command import carry_out
from one_run.rebuild import rebuild, record_of, refuse_test
from trainers.spotlighter import FIRST_LEVEL, unit
from trainers.zoom import inside, window_centres

METHOD = "Spotlighter"
SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm"}
LIKELIEST = 5  # classes shown
LEVEL_COLOURS = ("#00e5ff", "#39ff14")  # of level 1 and level 2: neither is in the colour map
COLOUR_MAP, WINDOW_COLOUR, DROPPED_COLOUR, BAR_COLOUR = "inferno", "#ff5a36", "#8c8c8c", "#9ecae1"
CORNERS = (("left", "top"), ("right", "top"), ("left", "bottom"), ("right", "bottom"))
MAP_OPACITY = 0.7  # the image stays visible below


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="folder of a finished training run of Spotlighter")
    parser.add_argument("images", type=Path, help="an image, or a folder that is searched for images, at any depth")
    parser.add_argument("--out", type=Path, default=Path("pictures"), help="folder of the pictures (%(default)s)")
    parser.add_argument(
        "--classes", choices=("base", "new", "all"), help="predict among these (default: those it was trained on)"
    )
    parser.add_argument("--root", help="folder that holds the data sets (default: where the run found them)")
    parser.add_argument("--load-epoch", type=int, help="which of its epochs to load (default: the last one)")
    parser.add_argument("--opts", nargs="+", default=[], metavar="KEY VALUE", help="further config keys and values")
    return parser.parse_args(argv)


# --- the trained run ---------------------------------------------------------------------------------------------


def check_run(run: Path) -> None:
    """Refuse what is no run of Spotlighter; whether it can be built again is looked at later."""
    record = record_of(run)
    if record.get("method") != METHOD:
        raise InputError(
            f"{run} is a run of {record.get('method')}, which selects no tokens: pass a training run of {METHOD}."
        )
    refuse_test(run, record)


# --- which tokens ------------------------------------------------------------------------------------------------


class Look(NamedTuple):
    """All that a picture shows of a batch of images; fp32 and on the CPU. Maps are NaN where a patch was dropped."""

    probabilities: Tensor  # (B, C)
    sample_wise: Tensor  # (B, G * G), row by row from the upper left
    semantic_wise: Tensor  # (B, G * G)
    activation: Tensor  # (B, G * G), theta_0 * sample-wise + theta_1 * semantic-wise
    selected: Tensor  # (B, R), places among the G * G, the strongest first
    level: Tensor  # (R,), 1 or 2, of each rank
    alive: Tensor  # (B, G * G), whether the encoder kept the patch
    windows: Tensor  # (B, Z, 4): left, upper, right and lower border, as shares of the side; Z = 0 without zoom


@torch.no_grad()
def look(trainer, images: Tensor) -> Look:
    """What the trainer makes of transformed images (B, 3, H, W)."""
    head, model = trainer.head, trainer.model
    images = images.to(trainer.device)
    with torch.random.fork_rng(), trainer.autocast():
        torch.manual_seed(0)  # SCORE random drops the same patches both times
        logits = trainer.model_inference(images)  # (B, C)
        torch.manual_seed(0)
        f, v = model.image_features(images, tokens=True)  # (B, d), (B, N, d); also the first look's notes, again
        classes = trainer.encode_classes() if trainer.class_state is None else trainer.class_state
        bank = head.bank
        centred = unit(v - head.scalars.g_v * bank.token_mean)
        maps = torch.stack(head.activations(f, centred, classes, bank.image_mean))  # (2, B, N)
        chosen = head.select(f, v, classes, bank.image_mean, bank.token_mean)

    places = len(model.clip.visual.positional_embedding) - 1  # G * G
    everywhere = torch.arange(places, device=v.device).expand(len(v), -1)
    kept = everywhere if head.drop is None else head.drop.alive  # (B, N)
    maps = torch.cat([maps, torch.einsum("m,mbn->bn", head.scalars.theta, maps.float())[None]])  # (3, B, N)
    whole = torch.full((*maps.shape[:2], places), torch.nan, device=v.device)  # (3, B, G * G)
    whole = whole.scatter(2, kept.expand(3, -1, -1), maps.float())

    first = FIRST_LEVEL if head.level_count == 2 else head.kept
    windows = torch.empty(len(v), 0, 4)
    if head.zoom is not None:
        centres = window_centres(trainer.maps.maps[:, head.zoom.map], head.zoom.count)  # (B, Z, 2)
        centres, half = inside(centres, head.zoom.width), head.zoom.width / 2
        windows = torch.cat([centres - half, centres + half], dim=-1)
    result = Look(
        probabilities=logits.float().softmax(dim=1),
        sample_wise=whole[0],
        semantic_wise=whole[1],
        activation=whole[2],
        selected=kept.gather(1, chosen.index),
        level=1 + (torch.arange(head.kept) >= first).long(),
        alive=~whole[2].isnan(),
        windows=windows,
    )
    return Look(*(part.cpu() for part in result))


# --- the picture -------------------------------------------------------------------------------------------------


def patch_corner(place: int, side: int, size: float) -> tuple[float, float]:
    """Left and upper border, in pixels, of patch `place` on a grid of side x side over an image of that size."""
    return place % side * size / side, place // side * size / side


def draw(picture: Tensor, seen: Look, names: list[str], title: str) -> Figure:
    """One row of panels: picture (3, S, S) from 0 to 1, a look at this one image (B = 1), and the class names."""
    size, side = picture.shape[-1], round(seen.alive.shape[1] ** 0.5)
    whole = (0, size, size, 0)  # pixel borders: every grid spans exactly the picture
    figure = Figure(figsize=(17.5, 4.6), dpi=110)  # the margins are fixed: to find them out doubles the time
    figure.suptitle(plain(title), fontsize=12, parse_math=False)
    margins = {"left": 0.01, "right": 0.985, "top": 0.88, "bottom": 0.2, "wspace": 0.06}
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
        "sample-wise": seen.sample_wise,
        "semantic-wise": seen.semantic_wise,
        "activation and selected tokens": seen.activation,
    }
    for panel, (name, values) in zip(panels[1:4], maps.items(), strict=True):
        panel.imshow(grey, extent=whole, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        grid = values[0].view(side, side).numpy()
        shown = panel.imshow(grid, extent=whole, cmap=COLOUR_MAP, alpha=MAP_OPACITY, interpolation="nearest")
        panel.imshow(veil, extent=whole, interpolation="nearest")
        panel.set_title(name)
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
    return plain(name) if len(name) <= 32 else f"{plain(name)[:31]}…"


def plain(text: str) -> str:
    """Without the stray bytes that a file's name may hold and no font can draw."""
    return os.fsencode(text).decode("utf-8", "replace")


# --- files -------------------------------------------------------------------------------------------------------


def find_images(images: Path, out: Path) -> dict[Path, Path]:
    """The images asked for, and where each one's picture goes: into `out`, under its folder's name and its own."""
    base = Path(os.path.abspath(images)).parent
    if images.is_file():
        base = base.parent
        found = [images]
    elif images.is_dir():
        target = Path(os.path.abspath(out)) / Path(os.path.abspath(images)).name
        if target.is_relative_to(os.path.abspath(images)):
            raise InputError(f"The pictures would go in among the images, into {target}: choose another --out.")
        found = sorted(
            path
            for path in images.rglob("*")
            if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()
        )
        if not found:
            raise InputError(f"There is no image under {images} ({', '.join(sorted(SUFFIXES))}): pass another folder.")
    else:
        raise InputError(f"The image or folder {images} does not exist: correct the path.")
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file: choose a folder.")
    relative = {path: Path(os.path.abspath(path)).relative_to(base) for path in found}
    return {path: out / name.parent / f"{name.name}.png" for path, name in relative.items()}


def save(figure: Figure, path: Path) -> None:
    """The whole picture or none."""
    try:
        replace_file(str(path), lambda file: figure.savefig(file, format="png"))
    except PermissionError as error:
        raise InputError(f"{error.filename} may not be written to: choose another --out.") from error


def show(args: argparse.Namespace) -> None:
    check_run(args.run)
    pictures = find_images(args.images, args.out)
    for path in pictures:  # before anything is drawn
        read_image(str(path))
    trainer = rebuild(args.run, args.classes or "", args.root or "", args.load_epoch, tuple(args.opts))
    cfg, keys = trainer.cfg, trainer.cfg.TRAINER.SPOTLIGHTER
    prepare = build_transform(cfg, is_train=False)
    only_cut = build_transform(cfg, is_train=False, choices=())  # what `prepare` shows, before it is normalised
    names = [trainer.lab2cname[label] for label in range(trainer.num_classes)]
    for path, target in pictures.items():
        image = read_image(str(path))
        seen = look(trainer, prepare(image)[None])
        title = f"{'/'.join(path.parts[-2:])}: {METHOD} over {keys.HOST}, KEEP {keys.KEEP:g}, ZOOM {keys.ZOOM}"
        save(draw(only_cut(image), seen, names, title), target)
        best = seen.probabilities[0].argmax()
        print(f"{plain(str(target))}: {names[best]}, {percent(seen.probabilities[0, best])}")


def main(argv: list[str] | None = None) -> int:
    args = parse_arguments(argv)
    return carry_out(lambda: show(args), interrupted="the pictures made so far are whole")


if __name__ == "__main__":
    sys.exit(main())
