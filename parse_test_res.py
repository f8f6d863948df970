"""Read the results of runs and print their mean over seeds, or a table.

    python parse_test_res.py output/base2new/train_base/caltech101/shots_16/CoOp/vit_b16
    python parse_test_res.py output/base2new/test_new/caltech101/shots_16/CoOp/vit_b16 --test-log
    python parse_test_res.py output --table base2new --against published
    python parse_test_res.py output --table fewshot --format latex --plot pictures
    python parse_test_res.py output --report report.html

The first two take CoOp's options. --report writes all tables, charts and runs into one page. A run is read from its `results.json` (unrounded), or, if it was made by
other code, from its `log.txt`. A run that broke off is named and never counts. Exit code: 0; 1 for a table, or a page
of tables, in which something is missing or does not fit, which it names; 2 for what cannot be read at all.
"""

import argparse
import contextlib
import math
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import fmean, pstdev
from typing import TYPE_CHECKING

from dassl.errors import InputError
from dassl.utils import check_folder, replace_file
from one_run.command import carry_out
from one_run.folder import FILE
from reports.formats import FORMATS
from reports.protocols import PROTOCOLS
from reports.published import beside
from reports.read import folders_by_table, read_results, read_run, runs_in
from reports.result import ResultError
from reports.tables import make_table

if TYPE_CHECKING:
    from reports.page import Report

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
        if not protocol.printed or args.keyword != "accuracy":
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


def write_report(args: argparse.Namespace) -> int:
    """The page, whole or not at all."""
    if args.table or args.against or args.plot or args.format != "text" or args.multi_exp or args.test_log or args.ci95:
        raise ResultError("--report shows all tables: of the other options it takes --keyword, --seeds, --partial and --pictures.")  # fmt: skip
    if args.keyword == "error":
        raise ResultError("The page is of what is better when higher: --keyword accuracy or macro_f1.")
    if args.report.is_dir():
        raise ResultError(f"--report {args.report} is a folder: name the file, such as {args.report / 'report.html'}.")
    if args.pictures < 0:
        raise ResultError(f"--pictures {args.pictures} is no number of pictures: give 0 or more.")
    check_folder("--report", args.report.parent)
    from reports.page import collect, render  # Jinja takes a while to load

    report = with_pictures(collect(args.directory, args.keyword, args.seeds, args.partial), args.pictures)
    page = render(report).encode()
    replace_file(str(args.report), lambda file: file.write(page))
    print(f"{args.report}: {len(report.runs)} runs, {len(page) / 2**20:.1f} MiB")
    if not report.whole:
        print("warning: the tables are not whole; what is missing is named under them.", file=sys.stderr)
    return 0 if report.whole else 1


def with_pictures(report: "Report", number: int) -> "Report":
    """With images of the classes that it names, where they are there, and `number` of what each Spotlighter looks at."""
    spotlighters = [run for run in report.runs if number and run.is_trained and run.place.method == "Spotlighter"]
    if not (report.classes_shown or spotlighters):
        return report
    try:
        from one_run import shown  # these need PyTorch, which takes a while to load
    except ModuleNotFoundError as error:
        print(f"note: the page has no images, as {error.name} is not installed.", file=sys.stderr)
        return report
    from reports.page import Picture

    classes: dict[tuple[str, str], Picture] = {}
    gallery: list[Picture] = []
    for run, names in report.classes_shown.values():
        with left_out(f"the images of {run.dataset}'s classes"):
            found = shown.images_of_classes(run.path, names)
            classes |= {(run.dataset, name): Picture(data, shown.KIND, name) for name, data in found.items()}
    for run in spotlighters:
        with left_out(f"the pictures of {run.path}"):
            made = shown.token_pictures(run.path, number)
            gallery += [Picture(data, shown.KIND, text, run.title) for text, data in made]
    return replace(report, classes=classes, gallery=gallery)


@contextlib.contextmanager
def left_out(what: str) -> Iterator[None]:
    """Pictures are no figures: a page without some is said to lack them."""
    try:
        yield
    except InputError as error:
        print(f"note: the page lacks {what}: {error}", file=sys.stderr)


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
    page = parser.add_argument_group("a page of everything")
    page.add_argument("--report", type=Path, metavar="FILE", help="all tables, charts and runs as one HTML file, which opens offline")  # fmt: skip
    page.add_argument("--pictures", type=int, default=0, metavar="N", help="on the page, what each Spotlighter looks at in N test images (%(default)s)")  # fmt: skip
    return parser.parse_args(argv)


def answer(args: argparse.Namespace) -> int:
    if args.report:
        return write_report(args)
    if args.pictures:
        raise ResultError("--pictures goes with --report.")
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
