"""Draw what a trained Spotlighter looks at: one PNG an image, of its token maps, its choice and its prediction.

    python show_tokens.py RUN IMAGE_OR_FOLDER --out pictures

RUN is the folder of a finished training run of Spotlighter; its `results.json` says how to build it again. From left
to right:

    the image as the model saw it, with the windows it looked at again
    the sample-wise map: how near each token is to the texts of the classes that the model believes it sees
    the semantic-wise map: how near it is to those classes' prototypes, which come from the training images
    both together, with the R selected tokens, by rank and level
    the likeliest classes

What was dropped inside the encoder is grey. The picture of `flowers/rose.jpg` among the new classes of EmbeddedSmall is
`OUT/EmbeddedSmall_new/flowers/rose.png`; beside a `rose.gif` it is `rose.jpg.png`. Where the picture of another folder's
image stands, or one of other own classes, it is `rose-2.png`. An image that cannot be read is named and passed over.

Exit code: 0 all are drawn, 1 some cannot be read, 2 what you can mend, 130 stopped.
"""

import argparse
import itertools
import os
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image

from dassl.data.transforms import build_transform
from dassl.utils import InputError, is_picture, read_image, replace_file
from one_run.command import carry_out
from one_run.differences import is_its_root
from one_run.rebuild import rebuild, record_of_training, refuse_test
from one_run.shown import METHOD, check_spotlighter
from trainers.spotlighter.look import look
from trainers.spotlighter.picture import draw, percent, printable


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
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
    record = record_of_training(run)
    check_spotlighter(run, record)
    refuse_test(run, record)


# --- files -------------------------------------------------------------------------------------------------------


def find_images(images: Path) -> dict[Path, Path]:
    """The images asked for, and each one's picture: its folder's name, from that of `images` on, and its own."""
    base = Path(os.path.abspath(images)).parent
    if images.is_file():
        base = base.parent
        found = [images]
    elif images.is_dir():
        found = sorted(filter(is_image, images.rglob("*")))
        if not found:
            raise InputError(f"There is no image under {images} (such as .jpg or .png): pass another folder.")
    else:
        raise InputError(f"The image or folder {images} does not exist: correct the path.")
    names = {folder: names_of_pictures(folder, found) for folder in {path.parent for path in found}}
    return {path: Path(os.path.abspath(path.parent)).relative_to(base) / names[path.parent][path] for path in found}


def is_image(path: Path) -> bool:
    return is_picture(path.name) and path.is_file()


def names_of_pictures(folder: Path, asked: Iterable[Path]) -> dict[Path, str]:
    """x.jpg -> x.png. In a folder where two images would get one name all keep their suffix: x.jpg.png, x.gif.png.

    It is looked at what the folder holds, not only at what was asked for. Capitals make no difference, as on some disks.
    """
    images = {path for path in asked if path.parent == folder} | set(filter(is_image, folder.iterdir()))
    several = max(Counter(path.stem.lower() for path in images).values()) > 1
    return {path: f"{path.name if several else path.stem}.png" for path in images}


def check_out(out: Path, images: Path) -> None:
    """Refuse pictures among the images, where they would be drawn themselves the next time."""
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file: choose a folder.")
    inside = Path(os.path.abspath(images))
    if images.is_dir() and Path(os.path.abspath(out)).is_relative_to(inside):
        raise InputError(f"The pictures would go in among the images, into {out}: choose another --out.")


def readable(paths: Iterable[Path]) -> list[Path]:
    """Those that can be read. The others are named; if there are only such, that is the error."""
    left, broken = [], []
    for path in paths:
        try:
            read_image(str(path))
            left.append(path)
        except InputError as error:
            broken.append(error)
    if not left:
        raise broken[0]
    for error in broken:
        print(f"error: {error}", file=sys.stderr)
    return left


def source_of(image: Path, cfg) -> str:
    """What a picture is of; it stands in its file."""
    root = f" in {os.path.abspath(cfg.DATASET.ROOT)}" if is_its_root(cfg.DATASET.NAME) else ""
    return printable(f"{os.path.abspath(image)}, among the classes of {cfg.DATASET.NAME}{root}")


def free(path: Path, source: str) -> Path:
    """The path, or x-2.png, x-3.png, ... where there are pictures of something else, which stay."""
    names = itertools.chain([path], (path.with_stem(f"{path.stem}-{number}") for number in itertools.count(2)))
    return next(name for name in names if not name.exists() or source_in(name) == source)


def source_in(picture: Path) -> str | None:
    try:
        with Image.open(picture) as opened:
            return opened.info.get("Source")
    except OSError:
        return None


def save(figure: Figure, path: Path, source: str) -> None:
    """The whole picture or none."""
    try:
        replace_file(str(path), lambda file: figure.savefig(file, format="png", metadata={"Source": source}))
    except PermissionError as error:
        raise InputError(f"{error.filename} may not be written to: choose another --out.") from error


def show(args: argparse.Namespace) -> int:
    check_run(args.run)
    pictures = find_images(args.images)
    check_out(args.out, args.images)
    whole = readable(pictures)  # before anything is drawn
    trainer = rebuild(args.run, args.classes or "", args.root or "", args.load_epoch, tuple(args.opts))
    cfg, own = trainer.cfg, trainer.own
    prepare = build_transform(cfg, is_train=False)
    only_cut = build_transform(cfg, is_train=False, choices=())  # what `prepare` shows, before it is normalised
    names = [trainer.lab2cname[label] for label in range(trainer.num_classes)]
    out = args.out / f"{cfg.DATASET.NAME}_{cfg.DATASET.SUBSAMPLE_CLASSES}"  # other classes' pictures stay
    check_out(out, args.images)
    for path in whole:
        image, target = read_image(str(path)), out / pictures[path]
        if target.exists() and target.samefile(path):
            raise InputError(f"The picture of {path} would take its place: choose another --out.")
        source = source_of(path, cfg)
        target = free(target, source)
        seen = look(trainer, prepare(image)[None])
        form = "" if own.BUDGET else f", KEEP {own.KEEP:g}, ZOOM {own.ZOOM}"  # a budget's plan stands there by itself
        title = f"{'/'.join(path.parts[-2:])}: {METHOD} over {own.HOST}{form}"
        save(draw(only_cut(image), seen, names, title), target, source)
        best = seen.probabilities[0].argmax()
        print(f"{printable(str(target))}: {names[best]}, {percent(seen.probabilities[0, best])}")
    if len(whole) == len(pictures):
        return 0
    print(f"{len(whole)} of {len(pictures)} images are drawn, the others cannot be read.", file=sys.stderr)
    return 1


def main(argv: list[str] | None = None) -> int:
    return carry_out(lambda: show(parse_arguments(argv)), interrupted="the pictures made so far are whole")


if __name__ == "__main__":
    sys.exit(main())
