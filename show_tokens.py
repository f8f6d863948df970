"""Draw what a trained Spotlighter looks at: one PNG an image, of its token maps, its choice and its prediction.

    python show_tokens.py RUN IMAGE_OR_FOLDER --out pictures

RUN is the folder of a finished training run of Spotlighter; its `results.json` says how to build it again. From left
to right: the image as the model saw it, with the windows it looked at again; the sample-wise map; the semantic-wise
map; both together with the R selected tokens, by rank and level; the likeliest classes. What was dropped inside the
encoder is grey. The picture of `flowers/rose.jpg` is `OUT/flowers/rose.jpg.png`.
"""

import argparse
import os
import sys
from pathlib import Path

from matplotlib.figure import Figure

from dassl.data.transforms import build_transform
from dassl.utils import InputError, is_picture, read_image, replace_file
from one_run.command import carry_out
from one_run.rebuild import rebuild, record_of, refuse_test
from trainers.spotlighter.look import look
from trainers.spotlighter.picture import draw, percent, printable

METHOD = "Spotlighter"


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="folder of a finished training run of Spotlighter")
    parser.add_argument("images", type=Path, help="an image, or a folder that is searched for images, at any depth")
    parser.add_argument("--out", type=Path, default=Path("pictures"), help="folder of the pictures (%(default)s)")
    parser.add_argument(
        "--classes", choices=("base", "new", "all"), help="predict among these (default: those it was trained on)"
    )
    parser.add_argument("--root", "--data", help="data root: holds the data sets (default: where the run found them)")
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
        found = sorted(path for path in images.rglob("*") if is_picture(path.name) and path.is_file())
        if not found:
            raise InputError(f"There is no image under {images} (such as .jpg or .png): pass another folder.")
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
    cfg, own = trainer.cfg, trainer.own
    prepare = build_transform(cfg, is_train=False)
    only_cut = build_transform(cfg, is_train=False, choices=())  # what `prepare` shows, before it is normalised
    names = [trainer.lab2cname[label] for label in range(trainer.num_classes)]
    for path, target in pictures.items():
        image = read_image(str(path))
        seen = look(trainer, prepare(image)[None])
        title = f"{'/'.join(path.parts[-2:])}: {METHOD} over {own.HOST}, KEEP {own.KEEP:g}, ZOOM {own.ZOOM}"
        save(draw(only_cut(image), seen, names, title), target)
        best = seen.probabilities[0].argmax()
        print(f"{printable(str(target))}: {names[best]}, {percent(seen.probabilities[0, best])}")


def main(argv: list[str] | None = None) -> int:
    args = parse_arguments(argv)
    return carry_out(lambda: show(args), interrupted="the pictures made so far are whole")


if __name__ == "__main__":
    sys.exit(main())
