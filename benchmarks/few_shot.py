"""Few-shot curves on the embedded sets: accuracy over 1 to 16 images a class, as a table and a picture, and seconds of training.

    python -m datasets.embedded --root data
    python -m benchmarks.few_shot --root data          # over an hour on one core; goes on where it stopped
    python -m benchmarks.few_shot --root data --quick  # a minute; prints and draws, and writes no figures

Accuracies are those of whole runs of `train.py` on all classes of a set; zero-shot CLIP stands at 0. Seconds are the
processor's in `train()` alone, without the test, and with no features kept: rows take turns in one process. The embedded
world is a test bed; its figures are no results on real benchmarks.
"""

import argparse
import sys
from functools import partial
from pathlib import Path
from statistics import fmean, median

import torch

from benchmarks.compare import BY_LABEL, REFERENCE, Entry, carry_out_run
from benchmarks.embedded import add_arguments, cells_of, in_processes, seconds_of_training
from benchmarks.machine import RESULTS, check_not_smaller, versions
from benchmarks.statistics import rotation
from dassl.utils import InputError, write_json
from one_run.command import carry_out, sentence, users_errors
from one_run.folder import whole_record
from one_run.layout import ROOT, is_untrained
from reports.pictures import draw
from reports.protocols import FEWSHOT
from reports.read import read_results
from reports.tables import make_table
from sweep.protocols import Method, Run, Setting, absolute, build

ROWS = ("CoOp", "CLIPFit", "zero-shot CLIP w/ Spotlighter")
POSSIBLE = [entry.label for entry in BY_LABEL.values() if not entry.teacher and not is_untrained(entry.method)]
SHOTS = (1, 2, 4, 8, 16)
TURNS = 3  # of each row whose seconds are taken


# --- runs --------------------------------------------------------------------------------------------------------


def run_of(root: str, output: Path, entry: Entry, name: str, shots: int, seed: int) -> Run:
    """Training and testing on all classes of a set."""
    setting = Setting(absolute(root), absolute(output), options=("USE_CUDA", "False", "VERBOSE", "False"))
    return build("few_shot", Method(entry.method, entry.config), f"embedded_{name}", shots, seed, setting)


def points(args: argparse.Namespace, label: str, seed: int) -> list[int]:
    """The shots of a row's runs with a seed; zero-shot CLIP has one run in all."""
    if is_untrained(BY_LABEL[label].method):
        return args.shots[:1] if seed == args.seeds[0] else []
    return args.shots


def run_cell(name: str, seed: int, args: argparse.Namespace) -> list[str]:
    """All runs on one set with one seed; what failed is returned, in a sentence each."""
    torch.set_num_threads(1)
    failures = []
    for label in (REFERENCE, *args.methods):
        for shots in points(args, label, seed):
            try:
                carry_out_run(run_of(args.root, Path(args.output), BY_LABEL[label], name, shots, seed))
            except users_errors() as error:
                failures.append(f"{label} on {name}, {shots} shots, seed {seed}: {sentence(error)}")
    return failures


def results_of(args: argparse.Namespace) -> dict[str, dict]:
    """By row: how many numbers it trains, and "set/shots/seed" -> accuracy in percent. A row without all its runs is left out."""
    found = {}
    for label in (REFERENCE, *args.methods):
        cells = [
            (name, shots, seed) for seed in args.seeds for name in args.sets for shots in points(args, label, seed)
        ]
        records = [whole_record(run_of("", Path(args.output), BY_LABEL[label], *cell).folder) for cell in cells]
        if all(record is not None and record["state"] == "finished" for record in records):
            trained = sorted({record["trainable_parameters"] for record in records})
            accuracies = {
                "/".join(map(str, cell)): record["accuracy"] for cell, record in zip(cells, records, strict=True)
            }
            found[label] = {"trained": trained, "accuracies": accuracies}
    return found


def seconds_of(args: argparse.Namespace, turns: int) -> dict[str, dict[str, float]]:
    """By row and shots: the processor's seconds of training on the first of the sets, the median of some turns."""
    torch.set_num_threads(1)
    taken = {label: {str(shots): [] for shots in args.shots} for label in args.methods}
    for turn in range(turns):
        for shots in args.shots:
            for label in (args.methods[i] for i in rotation(len(args.methods), turn)):
                entry, options = BY_LABEL[label], ["DATASET.NUM_SHOTS", shots, "DATASET.SUBSAMPLE_CLASSES", "all"]
                seconds = seconds_of_training(args.root, args.sets[0], entry.method, options, entry.config)
                taken[label][str(shots)].append(seconds)
    return {label: {shots: median(of) for shots, of in by_shots.items()} for label, by_shots in taken.items()}


def picture(args: argparse.Namespace) -> list[Path]:
    """The curves of each set and their average, beside the runs."""
    entries = [BY_LABEL[label] for label in (REFERENCE, *args.methods)]
    methods, sets = {f"{each.method}/{each.config}" for each in entries}, {f"embedded_{name}" for name in args.sets}
    results = [
        each
        for each in read_results(Path(args.output), FEWSHOT)
        if each.method in methods and each.dataset in sets and each.shots in (0, *args.shots)
    ]
    return draw(make_table(results, FEWSHOT, args.seeds), Path(args.output) / "pictures")


# --- the table ---------------------------------------------------------------------------------------------------


def mean_at(accuracies: dict[str, float], shots: int | str) -> float:
    """Over sets and seeds."""
    return fmean(value for cell, value in accuracies.items() if cell.split("/")[1] == str(shots))


def markdown(content: dict) -> str:
    """The tables, of what is kept as JSON."""
    shots = content["shots"]
    lines = [f"| accuracy, % | trained | 0 | {' | '.join(map(str, shots))} |", "|---" * (3 + len(shots)) + "|"]
    for label, row in content["rows"].items():
        trained, empty = "-".join(f"{count:,}" for count in row["trained"][:: max(1, len(row["trained"]) - 1)]), " |"
        if label == REFERENCE:
            cells = f" {fmean(row['accuracies'].values()):.1f} |" + len(shots) * empty
        else:
            cells = empty + "".join(f" {mean_at(row['accuracies'], each):.1f} |" for each in shots)
        lines.append(f"| {label} | {trained} |{cells}")
    lines += ["", f"| CPU seconds of training | {' | '.join(map(str, shots))} |", "|---" * (1 + len(shots)) + "|"]
    for label, seconds in content["train_cpu_seconds"].items():
        lines.append(f"| {label} | {' | '.join(f'{seconds[str(each)]:.1f}' for each in shots)} |")
    return "\n".join(lines)


def measure(args: argparse.Namespace) -> int:
    unknown = [label for label in args.methods if label not in POSSIBLE]
    if unknown:
        raise InputError(f"{unknown[0]!r} is no row of few-shot curves: choose from {'; '.join(POSSIBLE)}.")
    cells, failures = cells_of(args), []
    if args.out:
        given = {"rows": (REFERENCE, *args.methods), "shots": args.shots, "sets": args.sets, "seeds": args.seeds}
        check_not_smaller(args.out, "give the new figures another --out", **given)
    for number, (name, seed), failed in in_processes(partial(run_cell, args=args), cells, args.workers):
        failures += failed
        print(f"{number} {name}, seed {seed}", flush=True)
    for failure in failures:
        print(f"error: {failure}", file=sys.stderr)
    if failures:
        return 1
    content = {
        "command": command_of(args),
        "versions": versions(),
        "sets": args.sets,
        "seeds": args.seeds,
        "shots": args.shots,
        "timed_on": args.sets[0],
        "rows": results_of(args),
        "train_cpu_seconds": seconds_of(args, 1 if args.quick else args.turns),
    }
    print(markdown(content))
    for path in picture(args):
        print(f"Picture: {path}")
    if args.out:
        write_json(content, args.out)
        print(f"Results: {args.out}")
    return 0


def command_of(args: argparse.Namespace) -> str:
    """What gives the figures, wherever sets and runs lie."""
    lists = {"sets": args.sets, "seeds": args.seeds, "shots": args.shots}
    if tuple(args.methods) != ROWS:
        lists["methods"] = [repr(label) for label in args.methods]
    return " ".join(
        ["python -m benchmarks.few_shot", *(f"--{name} {' '.join(map(str, of))}" for name, of in lists.items())]
    )


def parse_arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.few_shot", description=__doc__.splitlines()[0])
    add_arguments(parser, seeds=[1, 2, 3])
    parser.add_argument(
        "--methods", nargs="+", default=list(ROWS), metavar="ROW", help=f"some of: {'; '.join(POSSIBLE)}"
    )
    parser.add_argument("--shots", nargs="+", type=int, default=list(SHOTS), help="training images a class")
    parser.add_argument("--turns", type=int, default=TURNS, help="of each row whose seconds are taken")
    parser.add_argument("--quick", action="store_true", help="one set, one seed, 1 and 4 shots; writes no figures")
    parser.add_argument("--output", default=str(ROOT / "output" / "few_shot"), help="folder of the runs")
    parser.add_argument("--out", default=str(RESULTS / "few_shot.json"), help="file of the figures")
    args = parser.parse_args(argv)
    if args.quick:
        args.sets, args.seeds, args.shots, args.out = args.sets[:1], args.seeds[:1], [1, 4], ""
    return args


def main(argv: list[str] | None = None) -> int:
    """Exit code 0; 1 if a run failed; 2 for what the user can mend, in one sentence."""
    argv = sys.argv[1:] if argv is None else argv
    return carry_out(lambda: measure(parse_arguments(argv)), interrupted="the same command goes on where it stopped")


if __name__ == "__main__":
    sys.exit(main())
