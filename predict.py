"""Classify pictures with what a run has learned, of any method.

    python predict.py RUN cat.jpg holiday/ --top 3
    find . -name "*.jpg" | python predict.py RUN --csv > found.csv
    python predict.py RUN holiday/ --classes "beach, mountain, city at night"

RUN is the folder of a finished training run: the one with `results.json` in it. The pictures that it was trained on need not be
here. PICTURES are files and folders, which are searched with all below them; without any, their names are read from the
standard input, one a line. What is not asked for goes to stderr, so that what is printed can be read by a program.

Exit code: 0 all are classified, 1 some cannot be read, 2 what you can mend, 130 stopped.
"""

import argparse
import contextlib
import csv
import json
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from dassl.errors import InputError, in_one_line
from dassl.utils.machine import visible_as
from one_run.command import carry_out

SOME_ARE_BROKEN = 1


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("run", type=Path, metavar="RUN", help="folder of a finished training run")
    add(
        "pictures",
        nargs="*",
        type=Path,
        metavar="PICTURES",
        help="files and folders (default: names on standard input)",
    )
    add("--top", type=int, default=3, metavar="K", help="how many classes of each picture are shown (default: 3)")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", dest="form", action="store_const", const="json", help="a list of objects")
    form.add_argument(
        "--csv", dest="form", action="store_const", const="csv", help="path, class, probability, runners-up"
    )
    add("--classes", default="", help='"a,b,c", or a file with one a line: predict among these; base, new or all: those of the '
        "run's data set (default: those it was trained on)")  # fmt: skip
    add(
        "--calibrated",
        action="store_true",
        help="probabilities by a temperature, fitted on the run's validation images",
    )
    add("--root", "--data", default="", help="data root, for --calibrated (default: where the run found its data set)")
    add("--device", default="", help="cpu, or the number of a GPU (default: the first GPU, else cpu)")
    add("--load-epoch", type=int, help="which of its epochs to load (default: the last one)")
    parser.set_defaults(form="text")
    return parser.parse_args(argv)


# --- what is asked for -------------------------------------------------------------------------------------------------


def choose_device(wanted: str) -> bool:
    """Whether a GPU is to be used; before PyTorch looks for one, all others are hidden."""
    if wanted not in ("", "cpu") and not wanted.isdecimal():
        raise InputError(f"The device {wanted!r} is unknown: choose cpu, or the number of a GPU.")
    if wanted.isdecimal():
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
        os.environ["CUDA_VISIBLE_DEVICES"] = visible_as(wanted, visible)
    import torch

    if wanted.isdecimal() and not torch.cuda.is_available():
        raise InputError(f"There is no GPU {wanted} here: choose cpu, or leave out --device.")
    return wanted != "cpu" and torch.cuda.is_available()


def pictures_of(asked: list[Path]) -> Iterator[str]:
    """The files asked for, and the pictures in the folders, in the order of their names; also what cannot be opened: who
    reads it says what is wrong with it.
    """
    from datasets.listing import pictures_under

    for path in map(str, asked):
        if os.path.isdir(path):
            closed: list[OSError] = []
            found = pictures_under(path, onerror=closed.append).pictures
            if not found and not closed:
                raise InputError(f"There is no picture under {path} (such as .jpg or .png): choose another folder.")
            yield from (os.path.join(path, name) for name in found)
            yield from (error.filename for error in closed)
        else:
            yield path


def names_on(stream) -> list[Path]:
    if stream is None or stream.isatty():
        raise InputError("No picture is named: pass files or folders, or write their names to the standard input.")
    lines = getattr(stream, "buffer", stream).read().split(b"\n")  # a name may hold any byte but this one
    found = [Path(os.fsdecode(line.removesuffix(b"\r"))) for line in lines if line.strip()]
    if not found:
        raise InputError(
            "The standard input names no picture: write their names to it, one a line, or pass files or folders."
        )
    return found


# --- what is printed ---------------------------------------------------------------------------------------------------


def as_text(found: Iterable, top: int) -> None:
    for one in found:
        (name, probability), *others = one.top(top)
        more = f" ({', '.join(f'{other} {p:.1%}' for other, p in others)})" if others else ""
        print(f"{in_one_line(one.path)}: {name} {probability:.1%}{more}")


def as_json(found: Iterable, top: int) -> None:
    """Written as it comes, so that a million pictures need no memory; a whole list too where it breaks off."""
    print("[")
    last = None
    try:
        for one in found:
            if last is not None:
                print(f"{last},")
            (name, probability), *others = one.top(top)
            runners_up = [{"class": other, "probability": p} for other, p in others]
            last = json.dumps({"path": one.path, "class": name, "probability": probability, "runners_up": runners_up})
    finally:
        print("]" if last is None else f"{last}\n]")


def as_csv(found: Iterable, top: int) -> None:
    table = csv.writer(sys.stdout, lineterminator="\n")
    heads = [(f"class_{rank}", f"probability_{rank}") for rank in range(2, top + 1)]
    table.writerow(["path", "class", "probability", *(head for pair in heads for head in pair)])
    for one in found:
        table.writerow([one.path, *(part for pair in one.top(top) for part in pair)])


def predict(args: argparse.Namespace) -> int:
    if args.top < 1:
        raise InputError(f"--top is {args.top}: choose 1 or more.")
    use_cuda = choose_device(args.device)
    from tqdm import tqdm

    from one_run.classes import classes_of
    from one_run.predictor import Broken, Predictor
    from one_run.rebuild import record_of_training

    record_of_training(args.run)  # what is no run is said first
    pictures = list(pictures_of(args.pictures or names_on(sys.stdin)))

    with contextlib.redirect_stdout(sys.stderr):  # what loading says is no prediction
        predictor = Predictor(args.run, classes_of(args.classes), use_cuda, args.load_epoch, args.calibrated, args.root)
    broken = 0

    def whole() -> Iterator:
        nonlocal broken
        for one in tqdm(predictor.each(pictures), total=len(pictures), disable=None, unit="picture"):
            if isinstance(one, Broken):
                broken += 1
                tqdm.write(f"error: {one.why}", file=sys.stderr)
            else:
                with tqdm.external_write_mode():  # it is printed where the bar was
                    yield one

    {"text": as_text, "json": as_json, "csv": as_csv}[args.form](whole(), min(args.top, len(predictor.classnames)))
    if not broken:
        return 0
    print(f"{broken:,} of {len(pictures):,} pictures cannot be read.", file=sys.stderr)
    return SOME_ARE_BROKEN


def main(argv: list[str] | None = None) -> int:
    return carry_out(lambda: predict(parse_arguments(argv)), interrupted="what was printed holds")


if __name__ == "__main__":
    sys.exit(main())
