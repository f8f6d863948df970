"""Read the results of runs and print their mean over seeds, or a table.

    python parse_test_res.py output/base2new/train_base/caltech101/shots_16/CoOp/vit_b16
    python parse_test_res.py output/base2new/test_new/caltech101/shots_16/CoOp/vit_b16 --test-log
    python parse_test_res.py output/base2new --table base2new

The first two take CoOp's options. A run is read from its `results.json` (unrounded), or, if it was made by
other code, from its `log.txt`. A run that broke off is named and never counts.
"""

import argparse
import json
import math
import re
import sys
from collections import defaultdict
from pathlib import Path
from statistics import fmean, pstdev

TRAIN_SIGNALS = ("Finish training", "Finished training")
TEST_SIGNALS = ("=> result",)
DAGGER = " †"


class ResultError(ValueError):
    """A result that is missing, broken or contradictory; the message names it and the remedy."""


def read_run(run: Path, keyword: str = "accuracy", test_log: bool = False) -> float:
    """One run's result in percent."""
    record = run / "results.json"
    if record.is_file():
        try:
            content = json.loads(record.read_text())
        except ValueError as error:
            raise ResultError(f"{record} is not JSON ({error}): run it again.") from error
        if content.get("state") != "finished":
            why = f", {content['why']}" if content.get("why") else ""
            raise ResultError(f"{run} did not finish (state: {content.get('state')}{why}): run it again.")
        value = 100 - content["accuracy"] if keyword == "error" else content.get(keyword)
        if not isinstance(value, (int, float)):
            raise ResultError(f"{record} has no {keyword!r}: the numbers there are accuracy, error and macro_f1.")
        return float(value)
    log = run / "log.txt"
    if not log.is_file():
        raise ResultError(f"{run} holds neither results.json nor log.txt: it is not a run, or has not begun.")
    value = parse_log(log.read_text(errors="replace"), keyword, TEST_SIGNALS if test_log else TRAIN_SIGNALS)
    if value is None:
        signal = (TEST_SIGNALS if test_log else TRAIN_SIGNALS)[0]
        raise ResultError(
            f"{log} has no {keyword!r} after a line {signal!r}: the run broke off, or is of the other kind (--test-log)."
        )
    return value


def mark_of(run: Path) -> str:
    """A dagger for a run whose training saw unlabelled images of the new classes too."""
    try:
        return DAGGER * json.loads((run / "results.json").read_text()).get("transductive", False)
    except (OSError, ValueError):
        return ""  # other code's, or broken, which `read_run` says


def parse_log(text: str, keyword: str, signals: tuple[str, ...]) -> float | None:
    """The last `* keyword: x%` after one of the signal lines, as Dassl writes it."""
    number = re.compile(rf"\* {re.escape(keyword)}: ([.\deE+-]+)%")
    value, ready = None, False
    for line in map(str.strip, text.splitlines()):
        ready = ready or line in signals
        match = number.search(line)
        if match and ready:
            value = float(match.group(1))
    return value


def runs_in(directory: Path) -> list[Path]:
    """The runs (one for each seed) directly under a folder, seed2 before seed10."""
    if not directory.is_dir():
        raise ResultError(f"{directory} is not a folder: pass the one that holds the seeds.")
    runs = [path for path in directory.iterdir() if path.is_dir() and not path.name.startswith(".")]
    if not runs:
        raise ResultError(f"{directory} holds no runs.")
    return sorted(runs, key=natural)


def natural(path: Path) -> list:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path.name)]


def summarise(directory: Path, keyword: str, test_log: bool, ci95: bool) -> float:
    """Print every run of a folder and their mean; the mean is returned."""
    print(f"Parsing files in {directory}")
    values = []
    for run in runs_in(directory):
        values.append(read_run(run, keyword, test_log))
        print(f"file: {run}. {keyword}: {values[-1]:.2f}%.")
    spread = pstdev(values)
    if ci95:
        spread *= 1.96 / math.sqrt(len(values))
    print(f"===\nSummary of directory: {directory}\n* {keyword}: {fmean(values):.2f}% +- {spread:.2f}%\n===")
    return fmean(values)


# --- base-to-new ---------------------------------------------------------------------------------------------


def harmonic_mean(base: float, new: float) -> float:
    return 2 * base * new / (base + new) if base + new > 0 else 0.0


def collect_base2new(directory: Path, keyword: str) -> tuple[dict, list[str]]:
    """{(shots, dataset, "Method/config", with its mark): {"base": {seed: value}, "new": {...}}}, and what is missing, in words."""
    directory = directory / "base2new" if (directory / "base2new").is_dir() else directory
    found: dict = defaultdict(lambda: {"base": {}, "new": {}})
    problems = []
    for half, folder in (("base", "train_base"), ("new", "test_new")):
        for run in sorted((directory / folder).glob("*/shots_*/*/*/seed*"), key=natural):
            dataset, shots, method, config, seed = run.relative_to(directory / folder).parts
            cell = found[shots, dataset, f"{method}/{config}{mark_of(run)}"]
            try:
                cell[half][seed] = read_run(run, keyword, test_log=half == "new")
            except ResultError as error:
                problems.append(str(error))
    if not found:
        raise ResultError(f"{directory} has no runs under train_base/ and test_new/: pass the folder above these two.")
    for (shots, dataset, method), halves in found.items():
        for seed in sorted(halves["base"].keys() ^ halves["new"].keys()):
            half, other = ("new", "base") if seed in halves["base"] else ("base", "new")
            problems.append(
                f"{method} on {dataset} ({shots}): {seed} has a {other} result and no {half} result; it is left out."
            )
            halves[other].pop(seed)
    return {key: halves for key, halves in found.items() if halves["base"]}, problems


def table_base2new(directory: Path, keyword: str = "accuracy") -> tuple[str, list[str]]:
    """The table as text: seeds are averaged first, then H; the average over sets has the H of its two means."""
    found, problems = collect_base2new(directory, keyword)
    rows = defaultdict(list)  # (shots, dataset) -> rows
    for (shots, dataset, method), halves in sorted(found.items()):
        rows[shots, dataset].append(
            (method, fmean(halves["base"].values()), fmean(halves["new"].values()), sorted(halves["base"]))
        )
    lines = []
    for shots in sorted({shots for shots, _ in rows}):
        blocks = {dataset: block for (s, dataset), block in rows.items() if s == shots}
        for kind, named in by_kind(blocks).items():
            for dataset, block in named.items():
                lines += block_lines(f"{dataset}, {shots.replace('shots_', '')} shots{kind}", block)
            methods = set.intersection(*({row[0] for row in block} for block in named.values()))
            if len(named) > 1 and methods:
                averages = []
                for method in sorted(methods):
                    of_method = [row for block in named.values() for row in block if row[0] == method]
                    seeds = sorted({seed for row in of_method for seed in row[3]})
                    averages.append((method, fmean(r[1] for r in of_method), fmean(r[2] for r in of_method), seeds))
                lines += block_lines(
                    f"average of {len(named)} sets, {shots.replace('shots_', '')} shots{kind}", averages
                )
    if any(DAGGER in line for line in lines):
        lines.append("† transductive: trained on unlabelled images of the new classes too")
    return "\n".join(lines), problems


def by_kind(blocks: dict) -> dict[str, dict]:
    """The embedded world is a test bed, so its sets are labelled, and never averaged with benchmarks."""
    kinds: dict = {}
    for dataset, block in blocks.items():
        kind = " (embedded world: a test bed, not a benchmark)" if dataset.startswith("embedded_") else ""
        kinds.setdefault(kind, {})[dataset] = block
    return kinds


def block_lines(title: str, block: list[tuple]) -> list[str]:
    width = max(len("method"), *(len(row[0]) for row in block))
    lines = [title, f"  {'method':<{width}}   base    new      H   seeds"]
    for method, base, new, seeds in block:
        numbers = ",".join(seed.removeprefix("seed") for seed in seeds)
        lines.append(f"  {method:<{width}}  {base:5.2f}  {new:5.2f}  {harmonic_mean(base, new):5.2f}   {numbers}")
    return [*lines, ""]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path, help="folder of the runs")
    parser.add_argument(
        "--ci95", action="store_true", help="95%% confidence interval in place of the standard deviation"
    )
    parser.add_argument("--test-log", action="store_true", help="the runs are evaluations (--eval-only)")
    parser.add_argument("--multi-exp", action="store_true", help="the folder holds several experiments")
    parser.add_argument("--keyword", default="accuracy", help="which result to read")
    parser.add_argument("--table", choices=["base2new"], help="print a table over methods and data sets")
    args = parser.parse_args(argv)
    try:
        if args.table == "base2new":
            table, problems = table_base2new(args.directory, args.keyword)
            print(table)
            for problem in problems:
                print(f"warning: {problem}", file=sys.stderr)
            return 1 if problems else 0
        if args.multi_exp:
            means = [summarise(path, args.keyword, args.test_log, args.ci95) for path in runs_in(args.directory)]
            print(f"Average performance\n* {args.keyword}: {fmean(means):.2f}%")
        else:
            summarise(args.directory, args.keyword, args.test_log, args.ci95)
    except ResultError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
