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
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from statistics import fmean, median, stdev
from typing import NamedTuple

import torch
from scipy.stats import t as student

import train
from dassl.utils import replace_file, write_json
from one_run.folder import whole_record
from parse_test_res import harmonic_mean
from sweep.protocols import Method, Run, Setting, absolute, build

REPOSITORY = Path(__file__).resolve().parent.parent
SETS = ("shapes", "textures", "compounds", "scenes", "species", "clutter", "small")
SHOTS = 16


class Row(NamedTuple):
    label: str
    method: str
    config: str = "embedded"
    host: str = ""  # label of the row that a plug-in stands on
    teacher: str = ""  # label of the row whose run it distils


# A teacher stands before its students: the rows of a set and seed run in this order.
ROWS = (
    Row("zero-shot CLIP", "ZeroshotCLIP"),
    Row("zero-shot CLIP, 8 templates", "ZeroshotCLIP2"),
    Row("CoOp", "CoOp"),
    Row("CoOp, 16 random tokens", "CoOp", "embedded_c16"),
    Row("CoCoOp", "CoCoOp"),
    Row("KgCoOp", "KgCoOp"),
    Row("ProGrad", "ProGrad"),
    Row("CLIPFit", "CLIPFit"),
    Row("TextRefiner", "TextRefiner"),
    Row("VPT, shallow", "VPT", "embedded_shallow"),
    Row("VPT, deep", "VPT"),
    Row("IVLP", "IVLP"),
    Row("MaPLe", "MaPLe"),
    Row("PromptSRC", "PromptSRC"),
    Row("PromptKD, inductive", "PromptKD", "embedded_inductive", teacher="PromptSRC"),
    Row("PromptKD", "PromptKD", teacher="PromptSRC"),
    Row("CoOp w/ Spotlighter", "Spotlighter", host="CoOp"),
    Row("CoOp, 16 random tokens w/ Spotlighter", "Spotlighter", "embedded_c16", host="CoOp, 16 random tokens"),
    Row("CoCoOp w/ Spotlighter", "Spotlighter", "embedded_cocoop", host="CoCoOp"),
    Row("KgCoOp w/ Spotlighter", "Spotlighter", "embedded_kgcoop", host="KgCoOp"),
    Row("MaPLe w/ Spotlighter", "Spotlighter", "embedded_maple", host="MaPLe"),
    Row("PromptSRC w/ Spotlighter", "Spotlighter", "embedded_promptsrc", host="PromptSRC"),
    Row("PromptKD w/ Spotlighter", "Spotlighter", "embedded_promptkd", host="PromptKD", teacher="PromptSRC"),
)
BY_LABEL = {row.label: row for row in ROWS}


# --- runs ------------------------------------------------------------------------------------------------------


def run_of(root: str, output: Path, half: str, row: Row, set_name: str, seed: int) -> Run:
    """Training and testing on the base classes, or testing that run on the new ones."""
    setting = Setting(absolute(root), absolute(output), options=("USE_CUDA", "False", "VERBOSE", "False"))
    phase = {"base": "base2new_train", "new": "base2new_test"}[half]
    return build(phase, Method(row.method, row.config), f"embedded_{set_name}", SHOTS, seed, setting)


def folder(output: Path, half: str, row: Row, set_name: str, seed: int) -> Path:
    return run_of("", output, half, row, set_name, seed).folder


def run_cell(root: str, output: Path, rows: tuple[Row, ...], set_name: str, seed: int) -> list[str]:
    """All rows of one set and seed; what failed is returned, in a sentence each."""
    torch.set_num_threads(1)
    failures = []
    for row in rows:
        for half in ("base", "new"):
            said = io.StringIO()
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
                code = train.main(list(run_of(root, output, half, row, set_name, seed).command[1:]))
            if code:
                last = said.getvalue().strip().splitlines()[-1:] or ["no reason given"]
                why = last[0].removeprefix("error: ")
                failures.append(f"{row.label} on {set_name}, seed {seed}, {half} classes: {why}")
                break
    return failures


# --- results -----------------------------------------------------------------------------------------------------


class Results:
    """The records of finished runs: `accuracy[label, set, seed]` is (base, new), in percent."""

    def __init__(self, output: Path, rows, sets, seeds):
        self.rows, self.sets, self.seeds = rows, sets, seeds
        self.accuracy: dict = {}
        self.records: dict = {}
        self.missing: list[str] = []
        for row in rows:
            for key in [(row.label, name, seed) for name in sets for seed in seeds]:
                pair = [whole_record(str(folder(output, half, row, *key[1:]))) for half in ("base", "new")]
                if all(record is not None and record["state"] == "finished" for record in pair):
                    self.accuracy[key] = tuple(record["accuracy"] for record in pair)
                    self.records[key] = pair
                else:
                    self.missing.append(f"{row.label} on {key[1]}, seed {key[2]}")
        cells = [(name, seed) for name in sets for seed in seeds]
        self.whole = {row.label for row in rows if all((row.label, *cell) in self.accuracy for cell in cells)}

    def mean(self, label: str, sets) -> tuple[float, float, float]:
        """Base, new and H: seeds and sets are averaged first, then H is taken, as the field's tables do."""
        pairs = [self.accuracy[label, name, seed] for name in sets for seed in self.seeds]
        base, new = (fmean(pair[half] for pair in pairs) for half in (0, 1))
        return base, new, harmonic_mean(base, new)

    def gain(self, label: str, other: str) -> tuple[float, float]:
        """H minus another row's, paired by seed over all sets: mean, and half of Student's 95% interval over seeds."""

        def h(row: str, seed: int) -> float:
            pairs = [self.accuracy[row, name, seed] for name in self.sets]
            return harmonic_mean(fmean(p[0] for p in pairs), fmean(p[1] for p in pairs))

        differences = [h(label, seed) - h(other, seed) for seed in self.seeds]
        if len(differences) < 2:
            return fmean(differences), math.nan
        half = student.ppf(0.975, len(differences) - 1) * stdev(differences) / math.sqrt(len(differences))
        return fmean(differences), half

    def cost(self, label: str) -> tuple[str, float, float]:
        """Trainable numbers (smallest and largest over the sets), median seconds of training, median images/s."""
        pairs = [pair for key, pair in self.records.items() if key[0] == label]
        counts = sorted({pair[0]["trainable_parameters"] for pair in pairs})
        seconds = median(pair[0]["train_seconds"] or 0.0 for pair in pairs)
        speed = median(record["test_images_per_second"] for pair in pairs for record in pair)
        return "-".join(f"{count:,}" for count in counts[:: max(1, len(counts) - 1)]), seconds, speed

    def is_transductive(self, label: str) -> bool:
        return any(pair[0].get("transductive") for key, pair in self.records.items() if key[0] == label)


def markdown(results: Results, command: str, versions: dict) -> str:
    rows = [row for row in results.rows if row.label in results.whole]
    reference = "zero-shot CLIP"
    lines = [
        "# All methods on the embedded world",
        "",
        "Embedded world: a test bed, no benchmark; its figures are not comparable with published ones. Base-to-new, "
        f"{SHOTS} shots, seeds {', '.join(map(str, results.seeds))}, last epoch, accuracies in percent on all test images. "
        "A cell is base/new **H**; seeds are averaged first, then H is taken, and the mean's H is that of the mean base and "
        "the mean new. Differences of H are paired by seed, ± half of Student's 95% interval over seeds (of all sets "
        "together). Seconds of training and test images/s are medians over all runs, on one core each, two at a time, "
        "decoding left out of images/s. † transductive: trains on unlabelled images of the new classes too.",
        "",
        f"Command: `{command}` (torch {versions['torch']}, CPU).",
        "",
        "| method | mean base | mean new | mean H | H − zero-shot | H − host | trained | s to train | images/s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        base, new, h = results.mean(row.label, results.sets)
        mark = " †" if results.is_transductive(row.label) else ""
        known = [other if other in results.whole and other != row.label else None for other in (reference, row.host)]
        over = ["{:+.1f} ± {:.1f}".format(*results.gain(row.label, other)) if other else "" for other in known]
        trained, seconds, speed = results.cost(row.label)
        lines.append(
            f"| {row.label}{mark} | {base:.1f} | {new:.1f} | **{h:.1f}** | {over[0]} | {over[1]} | {trained} | "
            f"{seconds:.1f} | {speed:.0f} |"
        )
    lines += ["", "| method | " + " | ".join(results.sets) + " |", "|---" * (1 + len(results.sets)) + "|"]
    for row in rows:
        cells = [results.mean(row.label, [name]) for name in results.sets]
        lines.append(f"| {row.label} | " + " | ".join(f"{b:.1f}/{n:.1f} **{h:.1f}**" for b, n, h in cells) + " |")
    lines += [f"\nMissing, and so left out with its row: {what}." for what in results.missing]
    return "\n".join(lines) + "\n"


def as_json(results: Results, command: str) -> dict:
    content = {"command": command, "sets": list(results.sets), "seeds": list(results.seeds), "rows": {}}
    for row in results.rows:
        keys = [key for key in results.accuracy if key[0] == row.label]
        if keys:
            trained, seconds, speed = results.cost(row.label)
            content["rows"][row.label] = {
                "method": row.method, "config": row.config, "transductive": results.is_transductive(row.label),
                "trained": trained, "train_seconds": seconds, "test_images_per_second": speed,
                "accuracies": {f"{name}/{seed}": results.accuracy[row.label, name, seed] for _, name, seed in keys},
            }  # fmt: skip
    return content


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", default="data", help="folder of the embedded sets (python -m datasets.embedded)")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS), metavar="SET", help=", ".join(SETS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--methods", nargs="+", metavar="ROW", help=f"some of: {'; '.join(BY_LABEL)}")
    parser.add_argument("--output", default=str(REPOSITORY / "output" / "compare"), help="folder of the runs")
    parser.add_argument("--out", default=str(REPOSITORY / "benchmarks" / "results"), help="folder of the table")
    parser.add_argument("--name", default="compare", help="of the table: <out>/<name>.md and .json")
    parser.add_argument(
        "--workers", type=int, default=max(1, os.cpu_count() or 1), help="processes, of one thread each"
    )
    args = parser.parse_args(argv)
    unknown = [label for label in args.methods or [] if label not in BY_LABEL]
    if unknown:
        parser.error(f"{unknown[0]!r} is no row of the comparison: choose from {'; '.join(BY_LABEL)}.")
    wanted = set(args.methods or BY_LABEL)
    wanted |= {BY_LABEL[label].teacher for label in wanted} - {""}
    rows = tuple(row for row in ROWS if row.label in wanted)
    for name in args.sets:
        if not (Path(args.root) / f"embedded_{name}").is_dir():
            parser.error(
                f"{args.root} has no embedded_{name}: write it with python -m datasets.embedded --root {args.root}."
            )
    output, failures = Path(args.output), []
    cells = [(name, seed) for seed in args.seeds for name in args.sets]
    with ProcessPoolExecutor(args.workers) as pool:
        jobs = {pool.submit(run_cell, args.root, output, rows, *cell): cell for cell in cells}
        for number, job in enumerate(as_completed(jobs), start=1):
            failures += job.result()
            print("[{}/{}] {}, seed {}".format(number, len(jobs), *jobs[job]), flush=True)
    results = Results(output, rows, args.sets, args.seeds)
    command = f"python -m benchmarks.compare {' '.join(sys.argv[1:] if argv is None else argv)}".strip()
    text = markdown(results, command, {"torch": torch.__version__})
    write_json(as_json(results, command), os.path.join(args.out, f"{args.name}.json"))
    replace_file(os.path.join(args.out, f"{args.name}.md"), lambda file: file.write(text.encode()))
    print(text)
    for failure in failures:
        print(f"error: {failure}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
