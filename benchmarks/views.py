"""What DATALOADER.VIEWS costs and saves: base-to-new on the embedded sets with random crops and flips.

    python -m datasets.embedded --root data
    python -m benchmarks.views --root data          # over an hour on one core; goes on where it stopped
    python -m benchmarks.views --root data --quick  # minutes; prints, and keeps nothing

Accuracies are those of whole runs of `train.py`. Seconds are the processor's in `train()` alone, without the test: the
variants take turns in one process, as other programs disturb them less than a clock. The embedded world is a test bed;
its figures are no results on real benchmarks.
"""

import argparse
import os
import sys
import tempfile
from functools import partial
from pathlib import Path
from statistics import fmean, median

import torch

from benchmarks import compare
from benchmarks.embedded import add_arguments, cells_of, in_processes, seconds_of_training
from benchmarks.machine import RESULTS, versions
from benchmarks.statistics import paired_interval, rotation, signed
from dassl.utils import write_json
from one_run.command import carry_out, sentence, users_errors
from one_run.folder import whole_record
from one_run.layout import ROOT
from reports.cells import harmonic_mean
from sweep.protocols import Run

METHODS = ("CoOp", "KgCoOp")
CROPS = ("INPUT.TRANSFORMS", "('random_resized_crop', 'random_flip', 'normalize')")
ALWAYS_NEW = "VIEWS 0"  # crops of each epoch's own, which the others are compared with
VARIANTS = {f"VIEWS {count}": (*CROPS, "DATALOADER.VIEWS", str(count)) for count in (0, 4, 8, 16)}
QUICK = ("OPTIM.MAX_EPOCH", "3")
TURNS = 3  # of each variant whose seconds are taken


# --- runs --------------------------------------------------------------------------------------------------------


def run_of(root: str, output: Path, half: str, method: str, variant: str, name: str, seed: int, more=()) -> Run:
    """Training and testing on the base classes of a set, or testing that run on the new ones."""
    folder, options = output / variant.replace(" ", "_"), (*VARIANTS[variant], *more)
    return compare.run_of(root, folder, half, compare.Entry("", method), name, seed, options)


def run_cell(name: str, seed: int, method: str, root: str, output: Path, more: tuple[str, ...]) -> list[str]:
    """A method's runs on one set with one seed; what failed is returned, in a sentence each."""
    torch.set_num_threads(1)
    failures = []
    for variant in VARIANTS:
        try:
            for half in ("base", "new"):
                compare.carry_out_run(run_of(root, output, half, method, variant, name, seed, more))
        except users_errors() as error:
            failures.append(f"{method}, {variant} on {name}, seed {seed}: {sentence(error)}")
    return failures


def accuracies(output: Path, method: str, sets, seeds) -> dict[str, dict[str, tuple[float, float]]]:
    """By variant and "set/seed": (base, new) in percent, of the seeds of which every run is finished."""

    def accuracy(half: str, variant: str, name: str, seed: int) -> float | None:
        record = whole_record(run_of("", output, half, method, variant, name, seed).folder)
        return record["accuracy"] if record is not None and record["state"] == "finished" else None

    found: dict = {variant: {} for variant in VARIANTS}
    for seed in seeds:
        cells = [(variant, name) for variant in VARIANTS for name in sets]
        pairs = [tuple(accuracy(half, *cell, seed) for half in ("base", "new")) for cell in cells]
        if not any(None in pair for pair in pairs):
            for (variant, name), pair in zip(cells, pairs, strict=True):
                found[variant][f"{name}/{seed}"] = pair
    return found


def seconds_of_variants(
    root: str, name: str, methods, more: tuple[str, ...], turns: int
) -> dict[str, dict[str, float]]:
    """By method and variant: the processor's seconds in `train()` on one set, the median of some turns."""
    torch.set_num_threads(1)
    variants, taken = list(VARIANTS), {method: {variant: [] for variant in VARIANTS} for method in methods}
    given = ("DATASET.NUM_SHOTS", str(compare.SHOTS), "DATASET.SUBSAMPLE_CLASSES", "base")
    for turn in range(turns):
        for method in methods:
            for variant in (variants[i] for i in rotation(len(variants), turn)):
                options = [*given, *VARIANTS[variant], *more]
                taken[method][variant].append(seconds_of_training(root, name, method, options))
    return {method: {variant: median(of) for variant, of in rows.items()} for method, rows in taken.items()}


# --- the table ---------------------------------------------------------------------------------------------------


def means(cells: dict[str, tuple[float, float]], seed: int | None = None) -> tuple[float, float, float]:
    """Base, new and H of the means over the sets, of one seed or all: they are averaged first, then H is taken."""
    pairs = [pair for cell, pair in cells.items() if seed is None or cell.endswith(f"/{seed}")]
    base, new = (fmean(pair[half] for pair in pairs) for half in (0, 1))
    return base, new, harmonic_mean(base, new)


def differences(cells: dict, reference: dict) -> list[float]:
    """H minus that of the reference, of each seed."""
    seeds = sorted({int(cell.partition("/")[2]) for cell in cells})
    return [means(cells, seed)[2] - means(reference, seed)[2] for seed in seeds]


def markdown(content: dict) -> str:
    """The table, of what is kept as JSON."""
    lines = [
        f"| method | | seeds | base | new | H | H − {ALWAYS_NEW} | s to train | of {ALWAYS_NEW} |",
        "|---" * 9 + "|",
    ]
    for method, rows in content["accuracies"].items():
        seconds = content["train_cpu_seconds"][method]
        for variant, cells in rows.items():
            base, new, h = means(cells)
            apart = differences(cells, rows[ALWAYS_NEW])
            gain = signed(paired_interval(apart)) if variant != ALWAYS_NEW else ""
            lines.append(
                f"| {method} | {variant} | {len(apart)} | {base:.1f} | {new:.1f} | **{h:.1f}** | {gain} | "
                f"{seconds[variant]:.1f} | {seconds[variant] / seconds[ALWAYS_NEW]:.0%} |"
            )
    return "\n".join(lines)


def measure(args: argparse.Namespace) -> int:
    more = QUICK if args.quick else ()
    cells, output, failures = cells_of(args), Path(args.output), []
    for method in args.methods:
        work = partial(run_cell, method=method, root=args.root, output=output, more=more)
        for number, (name, seed), failed in in_processes(work, cells, args.workers):
            failures += failed
            print(f"{number} {method} on {name}, seed {seed}", flush=True)
    for failure in failures:
        print(f"error: {failure}", file=sys.stderr)
    found = {method: accuracies(output, method, args.sets, args.seeds) for method in args.methods}
    if not all(rows[ALWAYS_NEW] for rows in found.values()):
        return 1
    turns = 1 if args.quick else TURNS
    content = {
        "command": command_of(args),
        "versions": versions(),
        "timed_on": args.sets[0],
        "train_cpu_seconds": seconds_of_variants(args.root, args.sets[0], args.methods, more, turns),
        "accuracies": found,
    }
    print(markdown(content))
    if args.out:
        write_json(content, args.out)
        print(f"Results: {args.out}")
    return 1 if failures else 0


def command_of(args: argparse.Namespace) -> str:
    """What gives the figures, wherever sets and runs lie."""
    seeds = map(str, args.seeds)
    return " ".join(["python -m benchmarks.views --methods", *args.methods, "--seeds", *seeds, "--sets", *args.sets])


def parse_arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.views", description=__doc__.splitlines()[0])
    add_arguments(parser, seeds=[1, 2, 3, 4, 5])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS), metavar="METHOD")
    parser.add_argument("--quick", action="store_true", help="two sets, two seeds, three epochs; keeps nothing")
    parser.add_argument("--output", default=str(ROOT / "output" / "views"), help="folder of the runs")
    parser.add_argument("--out", default=str(RESULTS / "views.json"), help="file of the figures")
    args = parser.parse_args(argv)
    if args.quick:
        args.sets, args.seeds, args.out = args.sets[:2], args.seeds[:2], ""
    return args


def main(argv: list[str] | None = None) -> int:
    """Exit code 0; 1 if a run failed; 2 for what the user can mend, in one sentence."""

    def work() -> int:
        args = parse_arguments(sys.argv[1:] if argv is None else argv)
        with tempfile.TemporaryDirectory() as folder:
            args.output = os.path.join(folder, "runs") if args.quick else args.output
            return measure(args)

    return carry_out(work, interrupted="the same command goes on where it stopped")


if __name__ == "__main__":
    sys.exit(main())
