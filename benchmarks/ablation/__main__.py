"""python -m benchmarks.ablation: the cells that are still to do, then the tables."""

import argparse
import sys
from functools import partial
from pathlib import Path

from benchmarks import ablation
from benchmarks.embedded import add_arguments, cells_of, do_missing, world_of
from benchmarks.machine import RESULTS, check_not_smaller
from dassl.utils import replace_file, write_json
from one_run.command import carry_out
from one_run.layout import ROOT

from .cells import ALONE, run_cell
from .table import Ablation, as_json, markdown, read_cells


def parse_arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ablation", description=ablation.__doc__.splitlines()[0])
    add_arguments(parser, seeds=[1, 2, 3, 4, 5])
    parser.add_argument(
        "--rows",
        choices=("all", "core", *ALONE),
        default="all",
        help="core: without the controls of single parts; fit: ways to fit the scalars, and no more; heads: the 21 scalars, the "
        "mapping modules and the paper's form, and no more",
    )
    parser.add_argument("--images", type=int, default=50, help="test images a class")
    parser.add_argument("--name", default="ablation", help="of the results: <out>/<name>.md and .json")
    parser.add_argument("--out", default=str(RESULTS), help="folder of the tables")
    parser.add_argument("--work", default=str(ROOT / "output" / "ablation"), help="folder of the finished cells")
    return parser.parse_args(argv)


def ablate(args: argparse.Namespace, command: str) -> None:
    work, cells = Path(args.work) / args.name, cells_of(args)
    remedy = "give the new table another --name or --out"
    rows = ("all", "core") if args.rows == "all" else (args.rows,)
    check_not_smaller(Path(args.out) / f"{args.name}.json", remedy, sets=args.sets, seeds=args.seeds, rows=rows)
    do = partial(run_cell, root=args.root, rows=args.rows, images=args.images, work=work)
    do_missing(do, cells, args.workers, work)

    found = Ablation(read_cells(work, args.sets, args.seeds))
    world = world_of(args.root, args.sets[0])
    text = markdown(found, world, command, args.images)
    replace_file(str(Path(args.out) / f"{args.name}.md"), lambda file: file.write(text.encode()))
    write_json(as_json(found, world, command), str(Path(args.out) / f"{args.name}.json"))
    print(text)


def main(argv: list[str] | None = None) -> int:
    """Exit code 0; 2 for what the user can mend, in one sentence."""
    argv = sys.argv[1:] if argv is None else argv
    command = f"python -m benchmarks.ablation {' '.join(argv)}".strip()
    return carry_out(
        lambda: ablate(parse_arguments(argv), command), interrupted="the same command goes on where it stopped"
    )


if __name__ == "__main__":
    sys.exit(main())
