"""How long a start takes: CPU seconds of fresh processes that do nothing but import, beside `import torch`.

    python -m benchmarks.start
    python -m benchmarks.start --rounds 9

Every round starts every row once, in rotating order; ratios to `import torch` are taken within a round. A run that
learns needs torch._dynamo, which PyTorch itself imports with the first optimiser, and torchvision, as soon as a
transform is built; the row with an optimiser says what part of that is PyTorch's own.
"""

import argparse
import os
import statistics
import subprocess
import sys

from benchmarks.statistics import quartiles, rotation
from one_run.layout import ROOT

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
    base = next(iter(seconds.values()))
    lines = [f"{'':<28}CPU s  to import torch (quartiles)"]
    for name, values in seconds.items():
        ratios = [value / torch for value, torch in zip(values, base, strict=True)]
        low, high = quartiles(ratios)
        lines.append(
            f"{name:<28}{statistics.median(values):5.2f}  {statistics.median(ratios):.2f} ({low:.2f}-{high:.2f})"
        )
    return lines


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.start", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="how often every row is started")
    args = parser.parse_args(argv)
    if args.rounds < 1:
        parser.error("--rounds must be at least 1")
    print("\n".join(lines_of(measure(ROWS, args.rounds))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
