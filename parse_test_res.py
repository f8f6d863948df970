"""Read the results of runs and print their mean over seeds, or a table.

    python parse_test_res.py output/base2new/train_base/caltech101/shots_16/CoOp/vit_b16
    python parse_test_res.py output/base2new/test_new/caltech101/shots_16/CoOp/vit_b16 --test-log
    python parse_test_res.py output --table base2new --against published
    python parse_test_res.py output --table fewshot --format latex --plot pictures

The first two take CoOp's options. A run is read from its `results.json` (unrounded), or, if it was made by
other code, from its `log.txt`. A run that broke off is named and never counts. Exit code: 0; 1 for a table in
which something is missing or does not fit, which it names; 2 for what cannot be read at all.
"""

import argparse
import math
import sys
from pathlib import Path
from statistics import fmean, pstdev

from one_run.command import carry_out
from one_run.folder import FILE
from reports.formats import FORMATS
from reports.protocols import PROTOCOLS
from reports.published import beside
from reports.read import folders_by_table, read_results, read_run, runs_in
from reports.result import ResultError
from reports.tables import make_table

__all__ = ["ResultError", "main", "read_run", "summarise"]


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


def refuse_many(directory: Path, runs: str) -> None:
    """The folder of a whole protocol, or the one above, has no runs where those of one method lie."""
    tables = folders_by_table(directory)
    if tables and not any(any(directory.glob(f"{runs}/{file}")) for file in (FILE, "log.txt")):
        raise ResultError(
            f"{directory} holds runs of several methods or data sets: add --table {' or --table '.join(tables)}, or pass "
            "the folder that holds the seeds of one."
        )


def print_table(args: argparse.Namespace) -> int:
    if args.keyword == "error":
        raise ResultError("A table is of what is better when higher: --keyword accuracy or macro_f1.")
    protocol = PROTOCOLS[args.table]
    results = read_results(args.directory, protocol, args.keyword)
    if args.against:
        if args.table != "base2new" or args.keyword != "accuracy":
            raise ResultError(
                "The published figures are accuracies from base to new: --against goes with --table base2new."
            )
        results += beside(results)
    table = make_table(results, protocol, args.seeds, args.partial)
    if args.plot:
        from reports.pictures import draw  # matplotlib takes a second to load

        drawn = [str(path) for path in draw(table, args.plot)]
        for picture in drawn or ["none, as no cell has all its seeds (--partial)"]:
            print(f"Picture: {picture}", file=sys.stderr)
    print(FORMATS[args.format](table))
    if args.format == "csv":
        print(*table.notes, *table.problems, sep="\n", file=sys.stderr)
    if table.problems:
        print("warning: the table is not whole; what is missing is named under it.", file=sys.stderr)
    return 1 if table.problems else 0


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path, help="folder of the runs")
    parser.add_argument(
        "--ci95", action="store_true", help="95%% confidence interval in place of the standard deviation"
    )
    parser.add_argument("--test-log", action="store_true", help="the runs are evaluations (--eval-only)")
    parser.add_argument("--multi-exp", action="store_true", help="the folder holds several experiments")
    parser.add_argument("--keyword", default="accuracy", help="which result to read")
    table = parser.add_argument_group("tables over methods and data sets")
    table.add_argument("--table", choices=list(PROTOCOLS), help="of which protocol; xd and dg: tests on other sets")
    table.add_argument("--format", choices=list(FORMATS), default="text", help="csv is unrounded")
    table.add_argument(
        "--seeds", nargs="+", type=int, metavar="SEED", help="that each cell is to have (all that occur)"
    )
    table.add_argument("--partial", action="store_true", help="show cells that lack seeds too, with a star")
    table.add_argument("--against", choices=["published"], help="published rows beside ours (base2new)")
    table.add_argument("--plot", type=Path, metavar="FOLDER", help="pictures, as PNG and PDF (base2new, fewshot)")
    return parser.parse_args(argv)


def answer(args: argparse.Namespace) -> int:
    if args.table:
        return print_table(args)
    if args.against or args.plot or args.partial or args.seeds or args.format != "text":
        raise ResultError("--format, --seeds, --partial, --against and --plot go with --table.")
    refuse_many(args.directory, "*/*" if args.multi_exp else "*")
    if args.multi_exp:
        means = [summarise(path, args.keyword, args.test_log, args.ci95) for path in runs_in(args.directory)]
        print(f"Average performance\n* {args.keyword}: {fmean(means):.2f}%")
    else:
        summarise(args.directory, args.keyword, args.test_log, args.ci95)
    return 0


def main(argv: list[str] | None = None) -> int:
    return carry_out(lambda: answer(parse_arguments(argv)))


if __name__ == "__main__":
    sys.exit(main())
