"""All methods side by side: base-to-new on the embedded sets, with what each trains, how long, and how fast it tests.

    python -m datasets.embedded --root data
    python -m benchmarks.compare --root data        # about an hour on two cores; goes on where it stopped

Every run is one of `train.py`'s own, in the folders that the scripts write to, so a finished one is not run again and
`parse_test_res.py` reads them too. A worker runs all methods of one set and seed in turn, on one thread: then seconds
and images/s are those of one core, and two rows of a column can be compared. The embedded world is a test bed; the
table says so.
"""

import argparse
import contextlib
import io
import math
import os
import sys
from functools import partial
from pathlib import Path
from statistics import fmean, median
from typing import NamedTuple

import torch

from benchmarks.embedded import add_arguments, cells_of, in_processes
from benchmarks.machine import RESULTS, versions
from benchmarks.statistics import paired_interval, signed
from dassl.errors import InputError
from dassl.utils import replace_file, write_json
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
    Entry("TextRefiner", "TextRefiner"),
    Entry("VPT, shallow", "VPT", "embedded_shallow"),
    Entry("VPT, deep", "VPT"),
    Entry("IVLP", "IVLP"),
    Entry("MaPLe", "MaPLe"),
    Entry("PromptSRC", "PromptSRC"),
    Entry("PromptKD, inductive", "PromptKD", "embedded_inductive", teacher="PromptSRC"),
    Entry("PromptKD", "PromptKD", teacher="PromptSRC"),
    Entry("zero-shot CLIP w/ Spotlighter", "Spotlighter", "embedded_zeroshot", host=REFERENCE),
    Entry("CoOp w/ Spotlighter", "Spotlighter", host="CoOp"),
    Entry("CoOp, 16 random tokens w/ Spotlighter", "Spotlighter", "embedded_c16", host="CoOp, 16 random tokens"),
    Entry("CoCoOp w/ Spotlighter", "Spotlighter", "embedded_cocoop", host="CoCoOp"),
    Entry("KgCoOp w/ Spotlighter", "Spotlighter", "embedded_kgcoop", host="KgCoOp"),
    Entry("CLIPFit w/ Spotlighter", "Spotlighter", "embedded_clipfit", host="CLIPFit"),
    Entry("MaPLe w/ Spotlighter", "Spotlighter", "embedded_maple", host="MaPLe"),
    Entry("PromptSRC w/ Spotlighter", "Spotlighter", "embedded_promptsrc", host="PromptSRC"),
    Entry("PromptKD w/ Spotlighter", "Spotlighter", "embedded_promptkd", host="PromptKD", teacher="PromptSRC"),
)
BY_LABEL = {entry.label: entry for entry in ENTRIES}


# --- runs ------------------------------------------------------------------------------------------------------


def run_of(root: str, output: Path, half: str, entry: Entry, set_name: str, seed: int, more: tuple = ()) -> Run:
    """Training and testing on the base classes, or testing that run on the new ones; `more` are KEY, VALUE, ..."""
    options = ("USE_CUDA", "False", "VERBOSE", "False", *more)
    if entry.host and not is_untrained(
        BY_LABEL[entry.host].method
    ):  # its run is there already: the same prompts, to the bit, as the plug-in's own host would learn
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


class Comparison:
    """The records of finished runs: `accuracy[label, set, seed]` is (base, new), in percent; new is None where the row has
    nothing to say about new classes.
    """

    def __init__(self, output: Path, entries, sets, seeds):
        self.entries, self.sets, self.seeds = entries, sets, seeds
        self.accuracy: dict = {}
        self.records: dict = {}
        self.missing: list[str] = []
        for entry in entries:
            for key in [(entry.label, name, seed) for name in sets for seed in seeds]:
                pair = [whole_record(run_folder(output, half, entry, *key[1:])) for half in entry.halves]
                if all(record is not None and record["state"] == "finished" for record in pair):
                    self.accuracy[key] = (*(record["accuracy"] for record in pair), None)[:2]
                    self.records[key] = pair
                else:
                    self.missing.append(f"{entry.label} on {key[1]}, seed {key[2]}")
        cells = [(name, seed) for name in sets for seed in seeds]
        self.whole = {entry.label for entry in entries if all((entry.label, *cell) in self.accuracy for cell in cells)}

    def mean(self, label: str, sets) -> Means:
        """Base, new and H, where there are new ones: seeds and sets are averaged first, then H is taken, as the field's tables do."""
        return self.average([self.accuracy[label, name, seed] for name in sets for seed in self.seeds])

    @staticmethod
    def average(pairs: list[tuple[float, float | None]]) -> Means:
        base = fmean(base for base, _ in pairs)
        if any(new is None for _, new in pairs):
            return base, None, None
        new = fmean(new for _, new in pairs)
        return base, new, harmonic_mean(base, new)

    def gain(self, label: str, other: str) -> tuple[float, float]:
        """H minus another's, paired by seed over all sets: mean, and half of Student's 95% interval over seeds."""
        h = lambda row, seed: self.average([self.accuracy[row, name, seed] for name in self.sets])[2]  # noqa: E731
        return paired_interval([h(label, seed) - h(other, seed) for seed in self.seeds])

    def cost(self, label: str) -> tuple[str, float, float]:
        """Trainable numbers (smallest and largest over the sets), median seconds of training, median images/s."""
        pairs = [pair for key, pair in self.records.items() if key[0] == label]
        counts = sorted({pair[0]["trainable_parameters"] for pair in pairs})
        seconds = median(pair[0]["train_seconds"] or 0.0 for pair in pairs)
        encoded = [record["test_images_per_second"] for pair in pairs for record in pair]
        speed = median([one for one in encoded if one is not None] or [math.nan])  # of runs that found no features
        return "-".join(f"{count:,}" for count in counts[:: max(1, len(counts) - 1)]), seconds, speed

    def is_transductive(self, label: str) -> bool:
        return any(pair[0].get("transductive") for key, pair in self.records.items() if key[0] == label)


def markdown(comparison: Comparison, command: str, versions: dict) -> str:
    entries = [entry for entry in comparison.entries if entry.label in comparison.whole]
    dashes = any(len(entry.halves) == 1 for entry in entries)
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
        "",
        *means(comparison, entries),
        "",
        *by_set(comparison, entries),
        *(f"\nMissing, and so left out with its row: {what}." for what in comparison.missing),
    ]
    return "\n".join(lines) + "\n"


def means(comparison: Comparison, entries: list[Entry]) -> list[str]:
    lines = ["| method | mean base | mean new | mean H | H − zero-shot | H − host | trained | s to train | images/s |"]
    lines += ["|---|---|---|---|---|---|---|---|---|"]
    for entry in entries:
        label = entry.label
        base, new, h = comparison.mean(label, comparison.sets)
        mark = " †" if comparison.is_transductive(label) else ""
        gains = [
            signed(comparison.gain(label, other))
            if other in comparison.whole and other != label and h is not None
            else ""
            for other in (REFERENCE, entry.host)
        ]
        trained, seconds, speed = comparison.cost(label)
        lines.append(
            f"| {label}{mark} | {base:.1f} | {shown(new)} | {shown(h, bold=True)} | {gains[0]} | {gains[1]} | {trained} | "
            f"{seconds:.1f} | {'' if math.isnan(speed) else f'{speed:.0f}'} |"
        )
    return lines


def by_set(comparison: Comparison, entries: list[Entry]) -> list[str]:
    lines = ["| method | " + " | ".join(comparison.sets) + " |", "|---" * (1 + len(comparison.sets)) + "|"]
    for entry in entries:
        cells = [comparison.mean(entry.label, [name]) for name in comparison.sets]
        lines.append(f"| {entry.label} | " + " | ".join(map(cell_of, cells)) + " |")
    return lines


def shown(percent: float | None, bold: bool = False) -> str:
    if percent is None:
        return DASH
    return f"**{percent:.1f}**" if bold else f"{percent:.1f}"


def cell_of(means: Means) -> str:
    base, new, h = means
    return f"{base:.1f}/{shown(new)}" + ("" if h is None else f" {shown(h, bold=True)}")


def as_json(comparison: Comparison, command: str) -> dict:
    content = {"command": command, "sets": list(comparison.sets), "seeds": list(comparison.seeds), "rows": {}}
    for entry in comparison.entries:
        keys = [key for key in comparison.accuracy if key[0] == entry.label]
        if keys:
            trained, seconds, speed = comparison.cost(entry.label)
            content["rows"][entry.label] = {
                "method": entry.method, "config": entry.config, "transductive": comparison.is_transductive(entry.label),
                "trained": trained, "train_seconds": seconds, "test_images_per_second": None if math.isnan(speed) else speed,
                "accuracies": {f"{name}/{seed}": comparison.accuracy[entry.label, name, seed] for _, name, seed in keys},
            }  # fmt: skip
    return content


def parse_arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare", description=__doc__.splitlines()[0])
    add_arguments(parser, seeds=[1, 2, 3])
    parser.add_argument("--methods", nargs="+", metavar="ROW", help=f"some of: {'; '.join(BY_LABEL)}")
    parser.add_argument("--output", default=str(ROOT / "output" / "compare"), help="folder of the runs")
    parser.add_argument("--out", default=str(RESULTS), help="folder of the table")
    parser.add_argument("--name", default="compare", help="of the table: <out>/<name>.md and .json")
    return parser.parse_args(argv)


def entries_of(labels: list[str] | None) -> tuple[Entry, ...]:
    """Those of the rows that are asked for, with the teachers that they need; all if none is named."""
    unknown = [label for label in labels or [] if label not in BY_LABEL]
    if unknown:
        raise InputError(f"{unknown[0]!r} is no row of the comparison: choose from {'; '.join(BY_LABEL)}.")
    wanted = set(labels or BY_LABEL)
    wanted |= {BY_LABEL[label].host for label in wanted}
    wanted |= {BY_LABEL[label].teacher for label in wanted if label}
    return tuple(entry for entry in ENTRIES if entry.label in wanted)


def compare(args: argparse.Namespace, command: str) -> int:
    entries, cells, output, failures = entries_of(args.methods), cells_of(args), Path(args.output), []
    work = partial(run_cell, root=args.root, output=output, entries=entries)
    for number, (name, seed), failed in in_processes(work, cells, args.workers):
        failures += failed
        print(f"{number} {name}, seed {seed}", flush=True)
    comparison = Comparison(output, entries, args.sets, args.seeds)
    text = markdown(comparison, command, versions())
    write_json(as_json(comparison, command), os.path.join(args.out, f"{args.name}.json"))
    replace_file(os.path.join(args.out, f"{args.name}.md"), lambda file: file.write(text.encode()))
    print(text)
    for failure in failures:
        print(f"error: {failure}", file=sys.stderr)
    return 1 if failures else 0


def main(argv: list[str] | None = None) -> int:
    """Exit code 0; 1 if a run failed; 2 for what the user can mend, in one sentence."""
    argv = sys.argv[1:] if argv is None else argv
    command = f"python -m benchmarks.compare {' '.join(argv)}".strip()
    return carry_out(
        lambda: compare(parse_arguments(argv), command), interrupted="the same command goes on where it stopped"
    )


if __name__ == "__main__":
    sys.exit(main())
