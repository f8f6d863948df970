"""python -m benchmarks.reliability: kill, start again, compare, write the counts."""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks import reliability
from benchmarks.machine import device_name, result_file, versions
from dassl.utils import InputError, cores, write_json
from dassl.utils.files import read_json
from one_run.command import carry_out
from one_run.record import commit

from .child import import_all
from .cluster import lose_nodes, ray_version
from .pictures import draw
from .sweeps import kill_sweeps, long_sweep
from .trainings import kill_trainings

PARTS = ("trainings", "sweeps", "long", "cluster")
NUMBERS = {"trainings": 100, "sweeps": 40, "long": 1000, "cluster": 20}  # kills; runs of the long one
QUICK = {"trainings": 8, "sweeps": 3, "long": 20, "cluster": 1}


def parse_arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.reliability", description=reliability.__doc__.splitlines()[0]
    )
    add = parser.add_argument
    add("--parts", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART", help=f"of {', '.join(PARTS)}")
    add("--quick", action="store_true", help="a few kills of each, in two minutes; the file is written only with --out")
    add("--seed", type=int, default=1, help="of the moments")
    add("--folder", help="where the runs go; those with a fault stay (default: a temporary one)")
    add("--out", help="the JSON file (default: benchmarks/results/reliability_cpu.json); parts not asked for stay")
    return parser.parse_args(argv)


def measure(part: str, number: int, seed: int, root: Path, folder: Path) -> dict:
    """The counts of one part."""
    if part == "long":
        return long_sweep(number, root, folder)
    kill = {"trainings": kill_trainings, "sweeps": kill_sweeps, "cluster": lose_nodes}[part]
    return {"rows": {row: tally.as_json() for row, tally in kill(number, seed, root, folder).items()}}


def is_left_out(part: str) -> str:
    """Why a part cannot be measured here; "" where it can."""
    return (
        "Ray is not installed: pip install -r requirements-sweep.txt" if part == "cluster" and not ray_version() else ""
    )


def measure_all(args: argparse.Namespace, command: list[str], save: Callable[[str, dict], None]) -> None:
    facts = {
        "versions": versions(ray=ray_version()),
        "processor": device_name(torch.device("cpu")),
        "processors": cores(),
        "command": " ".join(["python -m benchmarks.reliability", *command]),
        "seed": args.seed,
    }
    import_all()
    commit()  # asked once; the processes that are forked know it then
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(args.folder or temporary)
        root = draw(Path(temporary) / "pictures")
        for part in dict.fromkeys(args.parts):
            if why := is_left_out(part):
                print(f"{part}: left out. {why}.", flush=True)
                continue
            place = folder / part
            if place.exists():
                raise InputError(f"{place} is there already: choose another --folder, or remove it.")
            place.mkdir(parents=True)
            save(part, {**facts, **measure(part, (QUICK if args.quick else NUMBERS)[part], args.seed, root, place)})


def run(args: argparse.Namespace, command: list[str]) -> None:
    out = args.out or ("" if args.quick else result_file("reliability", torch.device("cpu")))

    def save(part: str, result: dict) -> None:
        if out:
            former = read_json(out) if os.path.isfile(out) else {}
            write_json({**former, part: result}, out)

    measure_all(args, command, save)
    if out:
        print(f"Results: {out}")


def main(argv: list[str] | None = None) -> int:
    """Exit code 0; 2 for what the user can mend, in one sentence."""
    command = sys.argv[1:] if argv is None else argv
    args = parse_arguments(command)
    os.environ["OMP_NUM_THREADS"] = (
        "1"  # of the runs that sweeps start; what is compared to the bit is computed by as many
    )
    return carry_out(lambda: run(args, command))


if __name__ == "__main__":
    sys.exit(main())
