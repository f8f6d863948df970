"""All methods side by side: base-to-new on the embedded sets, with what each trains, how long, and how fast it tests.

    python -m datasets.embedded --root data
    python -m benchmarks.compare --root data        # about an hour on two cores; goes on where it stopped
    python -m benchmarks.compare --root data --methods TaskRes --add    # a new row, beside those that the table has

Every run is one of `train.py`'s own, in the folders that the scripts write to, so a finished one is not run again and
`parse_test_res.py` reads them too. A worker runs all methods of one set and seed in turn, on one thread: then seconds
and images/s are those of one core, and two rows of a column can be compared. The embedded world is a test bed; the
table says so.
"""

import argparse
import contextlib
import io
import os
import shlex
import sys
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from statistics import fmean, median
from typing import NamedTuple

import torch

from benchmarks.embedded import add_arguments, cells_of, in_processes
from benchmarks.machine import RESULTS, check_not_smaller, versions
from benchmarks.statistics import paired_interval, signed
from dassl.errors import InputError
from dassl.utils import read_json, replace_file, write_json
from one_run.command import carry_out, sentence, users_errors
from one_run.config import config_of
from one_run.folder import whole_record
from one_run.layout import ROOT, is_untrained
from one_run.work import do
from reports.cells import harmonic_mean
from sweep.protocols import Method, Run, Setting, absolute, build, what_is_of_classes

SHOTS = 16
REFERENCE = "zero-shot CLIP"
DASH = "–"  # in place of a figure that there cannot be


class Entry(NamedTuple):
    """A row of the table."""

    label: str
    method: str
    config: str = "embedded"
    host: str = ""  # label of the row that a plug-in stands on
    teacher: str = ""  # label of the row whose run it distils

    @property
    def halves(self) -> tuple[str, ...]:
        """Base and new classes; what learns something for each class has nothing to say about new ones."""
        return ("base",) if what_is_of_classes(Method(self.method, self.config)) else ("base", "new")


# A teacher stands before its students, and a host before what is put over it: the entries of a set and seed run in this order.
ENTRIES = (
    Entry(REFERENCE, "ZeroshotCLIP"),
    Entry("zero-shot CLIP, 8 templates", "ZeroshotCLIP2"),
    Entry("CoOp", "CoOp"),
    Entry("CoOp, 16 random tokens", "CoOp", "embedded_c16"),
    Entry("CoCoOp", "CoCoOp"),
    Entry("KgCoOp", "KgCoOp"),
    Entry("ProGrad", "ProGrad"),
    Entry("CLIPFit", "CLIPFit"),
    Entry("CLIP-LoRA", "CLIPLoRA"),
    Entry("CLIP-Adapter", "CLIPAdapter"),
    Entry("TextRefiner", "TextRefiner"),
    Entry("TaskRes", "TaskRes"),
    Entry("GDA", "GDA"),
    Entry("Tip-Adapter", "TipAdapter"),
    Entry("Tip-Adapter-F", "TipAdapterF"),
    Entry("linear probe", "LinearProbe"),
    Entry("ZS-LP", "CLAP", "embedded_zslp"),
    Entry("CLAP", "CLAP"),
    Entry("TCP", "TCP"),
    Entry("ATPrompt", "ATPrompt"),
    Entry("VPT, shallow", "VPT", "embedded_shallow"),
    Entry("VPT, deep", "VPT"),
    Entry("IVLP", "IVLP"),
    Entry("MaPLe", "MaPLe"),
    Entry("ATPrompt, deep", "ATPrompt", "embedded_maple"),
    Entry("PromptSRC", "PromptSRC"),
    Entry("MMA", "MMA"),
    Entry("MMRL", "MMRL"),
    Entry("MMRL++", "MMRLpp"),
    Entry("PromptKD, inductive", "PromptKD", "embedded_inductive", teacher="PromptSRC"),
    Entry("PromptKD", "PromptKD", teacher="PromptSRC"),
    Entry("CoOp w/ DePT", "DePT", host="CoOp"),
    Entry("KgCoOp w/ DePT", "DePT", "embedded_kgcoop", host="KgCoOp"),
    Entry("MaPLe w/ DePT", "DePT", "embedded_maple", host="MaPLe"),
    Entry("zero-shot CLIP w/ Spotlighter", "Spotlighter", "embedded_zeroshot", host=REFERENCE),
    Entry("CoOp w/ Spotlighter", "Spotlighter", host="CoOp"),
    Entry("CoOp, 16 random tokens w/ Spotlighter", "Spotlighter", "embedded_c16", host="CoOp, 16 random tokens"),
    Entry("CoCoOp w/ Spotlighter", "Spotlighter", "embedded_cocoop", host="CoCoOp"),
    Entry("KgCoOp w/ Spotlighter", "Spotlighter", "embedded_kgcoop", host="KgCoOp"),
    Entry("CLIPFit w/ Spotlighter", "Spotlighter", "embedded_clipfit", host="CLIPFit"),
    Entry("CLIP-LoRA w/ Spotlighter", "Spotlighter", "embedded_cliplora", host="CLIP-LoRA"),
    Entry("CLIP-Adapter w/ Spotlighter", "Spotlighter", "embedded_clipadapter", host="CLIP-Adapter"),
    Entry("TCP w/ Spotlighter", "Spotlighter", "embedded_tcp", host="TCP"),
    Entry("ATPrompt w/ Spotlighter", "Spotlighter", "embedded_atprompt", host="ATPrompt"),
    Entry("MaPLe w/ Spotlighter", "Spotlighter", "embedded_maple", host="MaPLe"),
    Entry("PromptSRC w/ Spotlighter", "Spotlighter", "embedded_promptsrc", host="PromptSRC"),
    Entry("MMA w/ Spotlighter", "Spotlighter", "embedded_mma", host="MMA"),
    Entry("MMRL w/ Spotlighter", "Spotlighter", "embedded_mmrl", host="MMRL"),
    Entry("PromptKD w/ Spotlighter", "Spotlighter", "embedded_promptkd", host="PromptKD", teacher="PromptSRC"),
)
BY_LABEL = {entry.label: entry for entry in ENTRIES}


# --- runs ------------------------------------------------------------------------------------------------------


def takes_run_of_host(entry: Entry) -> bool:
    return entry.method == "Spotlighter" and not is_untrained(BY_LABEL[entry.host].method)


def run_of(root: str, output: Path, half: str, entry: Entry, set_name: str, seed: int, more: tuple = ()) -> Run:
    """Training and testing on the base classes, or testing that run on the new ones; `more` are KEY, VALUE, ..."""
    options = ("USE_CUDA", "False", "VERBOSE", "False", *more)
    if takes_run_of_host(
        entry
    ):  # it is there already: the same prompts, to the bit, as the plug-in's own host would learn
        host = run_of(root, output, "base", BY_LABEL[entry.host], set_name, seed).folder
        options += ("TRAINER.SPOTLIGHTER.HOST_DIR", str(host))
    setting = Setting(absolute(root), absolute(output), options=options)
    phase = {"base": "base2new_train", "new": "base2new_test"}[half]
    return build(phase, Method(entry.method, entry.config), f"embedded_{set_name}", SHOTS, seed, setting)


def run_folder(output: Path, half: str, entry: Entry, set_name: str, seed: int) -> Path:
    return run_of("", output, half, entry, set_name, seed).folder


def carry_out_run(run: Run) -> None:
    """As train.py does, in this process and without a word."""
    request = run.request
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        do(config_of(request), model_dir=str(request.model_dir or ""), test=request.model_dir is not None)


def run_cell(set_name: str, seed: int, root: str, output: Path, entries: tuple[Entry, ...]) -> list[str]:
    """All entries of one set and seed; what failed is returned, in a sentence each."""
    torch.set_num_threads(1)
    failures = []
    for entry in entries:
        for half in entry.halves:
            try:
                carry_out_run(run_of(root, output, half, entry, set_name, seed))
            except users_errors() as error:
                failures.append(f"{entry.label} on {set_name}, seed {seed}, {half} classes: {sentence(error)}")
                break
    return failures


# --- results -----------------------------------------------------------------------------------------------------


Means = tuple[float, float | None, float | None]  # base, new and H


def row_of(entry: Entry, runs: dict[str, list[dict]]) -> dict:
    """What the table says of a row, of the records of its runs, base and new, by cell "set/seed"."""
    counts = sorted({pair[0]["trainable_parameters"] for pair in runs.values()})
    speeds = [record["test_images_per_second"] for pair in runs.values() for record in pair]
    speeds = [speed for speed in speeds if speed is not None]  # of runs that found no features in the store
    return {
        "method": entry.method,
        "config": entry.config,
        "transductive": any(pair[0].get("transductive") for pair in runs.values()),
        "trained": "-".join(f"{count:,}" for count in counts[:: max(1, len(counts) - 1)]),  # the least and the most
        "train_seconds": median(pair[0]["train_seconds"] or 0.0 for pair in runs.values()),
        "test_images_per_second": median(speeds) if speeds else None,
        "accuracies": {cell: [*(record["accuracy"] for record in pair), None][:2] for cell, pair in runs.items()},
    }


def rows_of(output: Path, entries, sets, seeds) -> tuple[dict[str, dict], list[str]]:
    """Rows of finished runs, by label, and what is missing."""
    rows, missing = {}, []
    for entry in entries:
        runs = {}
        for name, seed in ((name, seed) for name in sets for seed in seeds):
            pair = [whole_record(run_folder(output, half, entry, name, seed)) for half in entry.halves]
            if all(record is not None and record["state"] == "finished" for record in pair):
                runs[f"{name}/{seed}"] = pair
            else:
                missing.append(f"{entry.label} on {name}, seed {seed}")
        if runs:
            rows[entry.label] = row_of(entry, runs)
    return rows, missing


class Comparison:
    """Rows by label, as `row_of` gives them; those that have all cells are in the table."""

    def __init__(self, rows: dict[str, dict], sets, seeds, missing=()):
        cells = {f"{name}/{seed}" for name in sets for seed in seeds}
        self.sets, self.seeds, self.missing = list(sets), list(seeds), missing
        self.rows = {entry.label: rows[entry.label] for entry in ENTRIES if entry.label in rows}
        self.whole = [label for label, row in self.rows.items() if cells <= row["accuracies"].keys()]

    def mean(self, label: str, sets) -> Means:
        """Base, new and H, where there are new ones: seeds and sets are averaged first, then H is taken, as the field's tables do."""
        return self.average(label, sets, self.seeds)

    def average(self, label: str, sets, seeds) -> Means:
        pairs = [self.rows[label]["accuracies"][f"{name}/{seed}"] for name in sets for seed in seeds]
        base = fmean(base for base, _ in pairs)
        if any(new is None for _, new in pairs):
            return base, None, None
        new = fmean(new for _, new in pairs)
        return base, new, harmonic_mean(base, new)

    def gain(self, label: str, other: str) -> tuple[float, float]:
        """H minus another's, paired by seed over all sets: mean, and half of Student's 95% interval over seeds."""
        h = lambda row, seed: self.average(row, self.sets, [seed])[2]  # noqa: E731
        return paired_interval([h(label, seed) - h(other, seed) for seed in self.seeds])


def markdown(comparison: Comparison, command: str, versions: dict) -> str:
    dashes = any(comparison.mean(label, comparison.sets)[1] is None for label in comparison.whole)
    added: dict[str, list[str]] = {}
    for label, row in comparison.rows.items():
        added.setdefault(row.get("command", command), []).append(label)
    lines = [
        "# All methods on the embedded world",
        "",
        "Embedded world: a test bed, no benchmark; its figures are not comparable with published ones. Base-to-new, "
        f"{SHOTS} shots, seeds {', '.join(map(str, comparison.seeds))}, last epoch, accuracies in percent on all test images. "
        "A cell is base/new **H**; seeds are averaged first, then H is taken, and the mean's H is that of the mean base and "
        "the mean new. Differences of H are paired by seed, ± half of Student's 95% interval over seeds (of all sets "
        "together). Seconds of training and test images/s are medians over all runs, on one core each, two at a time, "
        "decoding left out of images/s. † transductive: trains on unlabelled images of the new classes too."
        + (f" {DASH}: learns something for each class, so there is nothing to say about new ones." if dashes else ""),
        "",
        f"Command: `{command}` (torch {versions['torch']}, CPU).",
        *(
            f"\nAdded by `{other}`, with other seconds and images/s than beside the rest: {'; '.join(labels)}."
            for other, labels in added.items()
            if other != command
        ),
        "",
        *means(comparison),
        "",
        *by_set(comparison),
        *(f"\nMissing, and so left out with its row: {what}." for what in comparison.missing),
    ]
    return "\n".join(lines) + "\n"


def means(comparison: Comparison) -> list[str]:
    lines = ["| method | mean base | mean new | mean H | H − zero-shot | H − host | trained | s to train | images/s |"]
    lines += ["|---|---|---|---|---|---|---|---|---|"]
    for label in comparison.whole:
        base, new, h = comparison.mean(label, comparison.sets)
        row = comparison.rows[label]
        gains = [
            signed(comparison.gain(label, other))
            if other in comparison.whole and other != label and h is not None
            else ""
            for other in (REFERENCE, BY_LABEL[label].host)
        ]
        speed = row["test_images_per_second"]
        lines.append(
            f"| {label}{' †' if row['transductive'] else ''} | {base:.1f} | {shown(new)} | {shown(h, bold=True)} | {gains[0]} | "
            f"{gains[1]} | {row['trained']} | {row['train_seconds']:.1f} | {'' if speed is None else f'{speed:.0f}'} |"
        )
    return lines


def by_set(comparison: Comparison) -> list[str]:
    lines = ["| method | " + " | ".join(comparison.sets) + " |", "|---" * (1 + len(comparison.sets)) + "|"]
    for label in comparison.whole:
        cells = [comparison.mean(label, [name]) for name in comparison.sets]
        lines.append(f"| {label} | " + " | ".join(map(cell_of, cells)) + " |")
    return lines


def shown(percent: float | None, bold: bool = False) -> str:
    if percent is None:
        return DASH
    return f"**{percent:.1f}**" if bold else f"{percent:.1f}"


def cell_of(means: Means) -> str:
    base, new, h = means
    return f"{base:.1f}/{shown(new)}" + ("" if h is None else f" {shown(h, bold=True)}")


def as_json(comparison: Comparison, command: str) -> dict:
    return {"command": command, "sets": comparison.sets, "seeds": comparison.seeds, "rows": comparison.rows}


def parse_arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare", description=__doc__.splitlines()[0])
    add_arguments(parser, seeds=[1, 2, 3])
    parser.add_argument("--methods", nargs="+", metavar="ROW", help=f"some of: {'; '.join(BY_LABEL)}")
    parser.add_argument("--add", action="store_true", help="keep the other rows that <out>/<name>.json has already")
    parser.add_argument("--output", default=str(ROOT / "output" / "compare"), help="folder of the runs")
    parser.add_argument("--out", default=str(RESULTS), help="folder of the table")
    parser.add_argument("--name", default="compare", help="of the table: <out>/<name>.md and .json")
    return parser.parse_args(argv)


def entries_of(labels: list[str] | None, there: Iterable[str] = ()) -> tuple[Entry, ...]:
    """Those of the rows that are asked for, with the teachers that they need, and the hosts, but for those that are only
    compared with and whose rows are there; all if none is named.
    """
    unknown = [label for label in labels or [] if label not in BY_LABEL]
    if unknown:
        raise InputError(f"{unknown[0]!r} is no row of the comparison: choose from {'; '.join(BY_LABEL)}.")
    wanted = set(labels or BY_LABEL)
    asked = [BY_LABEL[label] for label in wanted]
    wanted |= {entry.host for entry in asked if takes_run_of_host(entry) or entry.host not in there}
    wanted |= {BY_LABEL[label].teacher for label in wanted if label}
    return tuple(entry for entry in ENTRIES if entry.label in wanted)


def table_to_add_to(path: str, args: argparse.Namespace) -> dict:
    """A former table, whose rows stay but for those that are asked for."""
    if not args.methods:
        raise InputError("--add keeps the rows that are not run again: name those that are, with --methods.")
    if not os.path.isfile(path):
        raise InputError(f"There is no table {path} to add to: leave out --add.")
    former = read_json(path)
    if (former["sets"], former["seeds"]) != (list(args.sets), list(args.seeds)):
        raise InputError(
            f"{path} is of the sets {', '.join(former['sets'])} and the seeds {', '.join(map(str, former['seeds']))}: run "
            "the rows that are added on the same, with --sets and --seeds."
        )
    return former


def compare(args: argparse.Namespace, command: str) -> int:
    table = os.path.join(args.out, f"{args.name}.json")
    former = table_to_add_to(table, args) if args.add else None
    entries = entries_of(args.methods, former["rows"] if former else ())
    cells, output, failures = cells_of(args), Path(args.output), []
    if former is None:
        remedy = "give the new table another --name or --out, or keep the other rows with --add"
        check_not_smaller(table, remedy, rows=[entry.label for entry in entries], sets=args.sets, seeds=args.seeds)
    work = partial(run_cell, root=args.root, output=output, entries=entries)
    for number, (name, seed), failed in in_processes(work, cells, args.workers):
        failures += failed
        print(f"{number} {name}, seed {seed}", flush=True)
    rows, missing = rows_of(output, entries, args.sets, args.seeds)
    if former is not None:
        asked = {label: row | {"command": command} for label, row in rows.items() if label in args.methods}
        rows, command = former["rows"] | asked, former["command"]
    comparison = Comparison(rows, args.sets, args.seeds, missing)
    text = markdown(comparison, command, versions())
    write_json(as_json(comparison, command), table)
    replace_file(os.path.join(args.out, f"{args.name}.md"), lambda file: file.write(text.encode()))
    print(text)
    for failure in failures:
        print(f"error: {failure}", file=sys.stderr)
    return 1 if failures else 0


def main(argv: list[str] | None = None) -> int:
    """Exit code 0; 1 if a run failed; 2 for what the user can mend, in one sentence."""
    argv = sys.argv[1:] if argv is None else argv
    command = shlex.join(["python", "-m", "benchmarks.compare", *argv])
    return carry_out(
        lambda: compare(parse_arguments(argv), command), interrupted="the same command goes on where it stopped"
    )


if __name__ == "__main__":
    sys.exit(main())
