"""python -m benchmarks.training: all parts, one after the other; each is written into the JSON file as it is done.

    python -m datasets.embedded --root data
    python -m benchmarks.training --root data
    python -m benchmarks.training --parts steps --cells CoOp:100:32 MaPLe:100:4 --authors CHECKOUTS
    python -m benchmarks.training --quick

What is measured again takes the place of the former in the file, each with its command, commit and machine.
"""

import argparse
import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch

from benchmarks import training
from benchmarks.embedded import SETS, folder_of
from benchmarks.machine import device_name, result_file, versions
from benchmarks.steps import EMBEDDED, random_weights
from dassl.utils import InputError, cores, write_json
from one_run.arguments import add_data_root
from one_run.command import carry_out
from one_run.record import commit
from sweep.protocols import absolute

from . import growth, runs, show, steps, table

PARTS = ("steps", "run", "table", "growth")
LINE = {"steps": show.step, "run": show.run, "table": show.table, "growth": show.growth}
IDENTITY = {"steps": ("cell",), "run": ("method", "dataset"), "table": (), "growth": ("grows", "what")}  # of a record
GROWN = {"classes": [50, 100, 200, 400], "shots": [8, 16, 32], "images": [20, 40, 80]}
QUICK_GROWN = {"classes": [5, 10], "shots": [3, 6], "images": [2, 4]}
SHORT = ("OPTIM.MAX_EPOCH", "2")  # of a quick form


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=training.__doc__.splitlines()[0])
    add = parser.add_argument
    add("--parts", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART", help=", ".join(PARTS))
    add("--quick", action="store_true", help="a small size and a drawn set, to see that it works")
    add("--rounds", type=int, help="how often each is timed (default: 3; 1 with --quick); of the table: 1")
    add("--seconds", type=float, default=60.0, help="after which no further round of a step begins (60)")
    add("--authors", type=Path, metavar="FOLDER", help="where the repositories of the methods' authors are checked out")
    add(
        "--cells",
        nargs="+",
        default=[],
        metavar="CELL",
        help="of steps, as METHOD:CLASSES:BATCH or METHOD:CLASSES:BATCH:VIEWS",
    )
    add("--methods", nargs="+", default=[], choices=steps.POSSIBLE, metavar="METHOD", help="of steps, in a grid")
    add("--classes", nargs="+", type=int, default=[], help=f"of steps, in a grid ({steps.CLASSES})")
    add("--batches", nargs="+", type=int, default=[], help=f"of steps, in a grid ({steps.BATCHES})")
    add_data_root(parser)
    add("--run-methods", nargs="+", default=["CoOp", "CoCoOp"], metavar="METHOD", help="of runs by phase (CoOp CoCoOp)")
    add("--run-set", default="scenes", choices=SETS, metavar="SET", help="of runs by phase (scenes)")
    add(
        "--table-methods", nargs="+", default=list(table.METHODS), metavar="METHOD", help=f"({' '.join(table.METHODS)})"
    )
    add("--sets", nargs="+", choices=SETS, default=list(SETS), metavar="SET", help="of the table (all seven)")
    add("--seeds", nargs="+", type=int, default=[1, 2, 3], help="of the table (1 2 3)")
    add(
        "--sample",
        nargs="+",
        choices=SETS,
        metavar="SET",
        help="sets whose runs are done in the usual way (scenes species)",
    )
    add("--out", help="the JSON file (default: benchmarks/results/training_cpu.json)")
    return parser


def measured(args: argparse.Namespace, part: str, root: str, weights: str, folder: Path) -> Iterator[dict]:
    rounds = args.rounds or (1 if args.quick else 3)
    short = SHORT if args.quick else ()
    if part == "steps":
        cells = steps.asked(args.cells, args.methods, args.classes, args.batches, args.quick)
        yield from steps.records(cells, weights, args.authors, rounds, args.seconds)
    elif part == "run":
        yield from runs.records(args.run_methods, args.run_set, root, rounds, folder, short)
    elif part == "table":
        sample = args.sample or [name for name in ("scenes", "species") if name in args.sets] or args.sets[:1]
        asked = (args.table_methods, args.sets, args.seeds, sample, root)
        yield table.record(*asked, args.rounds or 1, folder, short)
    else:
        yield from growth.records(
            **(QUICK_GROWN if args.quick else GROWN), weights=weights, folder=folder, rounds=rounds, options=short
        )


def check(args: argparse.Namespace) -> None:
    """Refuse what cannot be measured, before anything is."""
    if (args.rounds is not None and args.rounds < 1) or args.seconds <= 0:
        raise InputError("--rounds must be at least 1, and --seconds above 0.")
    steps.asked(args.cells, args.methods, args.classes, args.batches, args.quick)
    needed = {"run": [args.run_set], "table": [*args.sets, *(args.sample or [])]}
    for name in [] if args.quick else [name for part in args.parts for name in needed.get(part, [])]:
        if not folder_of(args.root, name).is_dir():
            raise InputError(
                f"{args.root} has no embedded_{name}: write it with python -m datasets.embedded --root {args.root}."
            )


def run(args: argparse.Namespace, command: list[str]) -> None:
    check(args)
    device = torch.device("cpu")
    out = args.out or result_file("training", device, args.quick)
    os.environ["OMP_NUM_THREADS"] = "1"  # of the processes that are started
    torch.set_num_threads(1)
    result = former(out)
    with tempfile.TemporaryDirectory() as folder:
        root, weights = str(absolute(args.root)), EMBEDDED
        if args.quick:
            args.run_set, args.sets, args.sample, args.seeds = growth.SET, [growth.SET], [growth.SET], args.seeds[:1]
            args.run_methods = args.run_methods[:1]
            root = growth.draw(Path(folder) / "data", {"train": 16, "val": 4, "test": 2})
        elif {"steps", "growth"} & set(args.parts):
            weights = random_weights(folder)
        for part in args.parts:
            print(f"\n{part}", flush=True)
            inner = Path(folder) / part
            inner.mkdir()
            for record in measured(args, part, root, weights, inner):
                print(LINE[part](record), flush=True)
                put(result["parts"].setdefault(part, []), record | {"measured": about(command)}, IDENTITY[part])
                write_json(result, out)
    print(f"\nResults: {out}")


def about(command: list[str]) -> dict:
    """Of what, on what, and beside how many other programs a record was measured, on one thread."""
    return {
        "command": " ".join(["python -m benchmarks.training", *command]),
        "commit": commit(),
        "versions": versions(),
        "processor": device_name(torch.device("cpu")),
        "processors": cores(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }


def put(records: list[dict], record: dict, identity: tuple[str, ...]) -> None:
    """In the place of the one that says the same of another time, or behind all."""
    for number, other in enumerate(records):
        if all(other.get(name) == record[name] for name in identity):
            records[number] = record
            return
    records.append(record)


def former(out: str) -> dict:
    """What the file has of other parts, and of other records of these."""
    with contextlib.suppress(OSError, ValueError):
        content = json.loads(Path(out).read_text())
        if isinstance(content.get("parts"), dict):
            return content
    return {"parts": {}}


def main(argv: list[str] | None = None) -> int:
    """Exit code 0; 2 for what the user can mend, in one sentence."""
    command = sys.argv[1:] if argv is None else argv
    return carry_out(lambda: run(parser().parse_args(command), command))


if __name__ == "__main__":
    sys.exit(main())
