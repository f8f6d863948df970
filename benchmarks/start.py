"""How long a start takes: CPU seconds of fresh processes that do nothing but import, beside `import torch`; and of the runs
of a sweep, each in a new process or forked from one that has imported everything.

    python -m benchmarks.start
    python -m benchmarks.start --rounds 9
    python -m datasets.embedded --root data --sets species && python -m benchmarks.start --runs 6 --root data

Every round starts every row once, in rotating order; ratios to `import torch` are taken within a round. A run that
learns needs torch._dynamo, which PyTorch itself imports with the first optimiser, and torchvision, as soon as a
transform is built; the row with an optimiser says what part of that is PyTorch's own.

With --runs, a round does every row's sweep once: that many runs of CoOp, one after another on one thread, which build
everything and stop there, or train for an epoch and test. CPU seconds are those of all its processes, from the first to
the last; what planning takes is not among them. A sweep without runs says what the one process takes that imports.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.statistics import quartiles, rotation
from one_run.arguments import add_data_root
from one_run.layout import ROOT
from one_run.request import Request
from sweep import start
from sweep.on_local import run_locally
from sweep.progress import Progress
from sweep.protocols import Method, Run, Setting, absolute, build
from sweep.start import NotYet, Starter

RUN = "from one_run import work; import dassl.engine.trainer"
OPTIMISER = "import torch; torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)"
ROWS = {  # what python is started with
    "import torch": ("-c", "import torch"),
    "import torch, an optimiser": ("-c", OPTIMISER),
    "train.py --help": ("train.py", "--help"),
    "a run's imports": ("-c", RUN),
    "and once it is built": ("-c", f"{RUN}; import dassl.data.transforms.steps; {OPTIMISER}"),
}


def cpu_seconds(arguments: tuple[str, ...]) -> float:
    """User and system time of one process."""
    process = subprocess.Popen([sys.executable, *arguments], cwd=ROOT, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"python {' '.join(arguments)} ended with exit code {process.returncode}.")
    return usage.ru_utime + usage.ru_stime


def measure(rows: dict[str, tuple[str, ...]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each row in each round; a first start of all, which may still compile modules, is not counted."""
    names = list(rows)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for name in names:
        cpu_seconds(rows[name])
    for round_ in range(rounds):
        for index in rotation(len(names), round_):
            seconds[names[index]].append(cpu_seconds(rows[names[index]]))
    return seconds


def lines_of(seconds: dict[str, list[float]]) -> list[str]:
    """Medians, and ratios to the first row with their quartiles."""
    first, base = next(iter(seconds.items()))
    lines = [f"{'':<28}CPU s  to {first} (quartiles)"]
    for name, values in seconds.items():
        ratios = [value / one for value, one in zip(values, base, strict=True)]
        low, high = quartiles(ratios)
        lines.append(
            f"{name:<28}{statistics.median(values):5.2f}  {statistics.median(ratios):.2f} ({low:.2f}-{high:.2f})"
        )
    return lines


# --- the runs of a sweep -------------------------------------------------------------------------------------------

SHORT = ("USE_CUDA", "False", "OPTIM.MAX_EPOCH", "1")
SLOT = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


@dataclass(frozen=True)
class BuiltAlone(Request):
    """A run that builds everything, and stops before its first batch."""

    @property
    def command(self) -> tuple[str, ...]:
        script, *arguments = super().command
        return (script, "--no-train", *arguments)


def sweep_of(runs: int, root: str, output: str, trains: bool) -> list[Run]:
    """So many runs of CoOp on one embedded set, of as many seeds."""
    setting = Setting(absolute(root), Path(output), options=SHORT)
    planned = [build("base2new_train", Method("CoOp"), "embedded_species", 2, seed, setting) for seed in range(runs)]
    return planned if trains else [Run(run.label, BuiltAlone(**vars(run.request))) for run in planned]


def do_sweep(runs: int, root: str, forks: bool, trains: bool) -> None:
    """In a process of its own, so that it begins without PyTorch; RuntimeError if a run does not end well."""
    start.FORKS = forks
    with tempfile.TemporaryDirectory() as output:
        progress = Progress(sweep_of(runs, root, output, trains), set())
        run_locally(progress, [SLOT], poll=0.02) if runs else import_for_none()
        for run, outcome in progress.outcomes.items():
            if outcome.state != "finished" and (trains or "It ended well" not in outcome.said):
                raise RuntimeError(f"{run.label} did not end well: {outcome.said}")


def import_for_none() -> None:
    with Starter() as starter:
        while starter.forks:
            try:
                return starter.check(dict(os.environ) | SLOT)
            except NotYet:
                time.sleep(0.02)


def rows_of_sweeps(runs: int, root: str) -> dict[str, tuple[str, ...]]:
    """What python is started with."""

    def row(*arguments) -> tuple[str, ...]:
        return "-c", f"from benchmarks.start import do_sweep; do_sweep(*{arguments!r})"

    return {
        f"{runs} built, new processes": row(runs, root, False, False),
        f"{runs} built, forked": row(runs, root, True, False),
        f"{runs} trained, new processes": row(runs, root, False, True),
        f"{runs} trained, forked": row(runs, root, True, True),
        "none, forked": row(0, root, True, False),
    }


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.start", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="how often every row is started")
    parser.add_argument("--runs", type=int, default=0, help="of a sweep; 0: single processes that import (0)")
    add_data_root(parser)
    args = parser.parse_args(argv)
    if args.rounds < 1 or args.runs < 0:
        parser.error("--rounds must be at least 1, and --runs no less than 0")
    rows = rows_of_sweeps(args.runs, str(absolute(args.root))) if args.runs else ROWS
    print("\n".join(lines_of(measure(rows, args.rounds))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
