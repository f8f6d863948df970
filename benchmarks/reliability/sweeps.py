"""Sweeps on this machine's queue: killed and started again until all is done; and a long one.

Their runs are real ones, each a process of its own. A sweep that SIGKILL ends can say nothing to its runs, which notice
by themselves; after half of the kills these are waited for, after the others the sweep starts again at once.
"""

import contextlib
import itertools
import os
import random
import re
import shutil
import signal
import time
from collections import Counter
from pathlib import Path

from one_run import request
from one_run.folder import FILE, state_of
from sweep.__main__ import main as sweep

from .child import Child, last_line, processes_of, tracebacks_in
from .tally import Tally

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
PER_SWEEP = 4  # kills, at most
PATIENCE = 60.0  # seconds within which what was told to end is to have ended
POLL = 0.1
OPTIONS = ("USE_CUDA", "False", "TRAIN.CHECKPOINT_FREQ", "1", "DATALOADER.TRAIN_X.BATCH_SIZE", "8", "OPTIM.MAX_EPOCH")
HERE = ("--devices", "cpu", "--per-device", 2)  # two runs at a time


def arguments(root: Path, output: Path, where: tuple = HERE, seeds: int = 2, epochs: int = 6) -> list[str]:
    """Of `python -m sweep`: a training and a test for each seed."""
    parts = ["--methods", "CoOp:embedded", "--datasets", "folder", "--shots", "4", "--root", root, "--output", output]
    parts += ["--seeds", *range(1, seeds + 1), "--set", *OPTIONS, epochs, "--threads", 1]
    return [str(part) for part in (*parts, *where)]


def folders_in(output: Path) -> list[Path]:
    """Of the runs, relative to the sweep's."""
    return sorted(path.parent.relative_to(output) for path in output.rglob(FILE))


def finished_in(output: Path) -> dict[Path, int]:
    """Finished runs, and when their records were written."""
    return {
        name: (output / name / FILE).stat().st_mtime_ns
        for name in folders_in(output)
        if state_of(output / name) == "finished"
    }


def wait_until(is_so) -> bool:
    deadline = time.monotonic() + PATIENCE
    while not is_so():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL)
    return True


def consoles_in(output: Path) -> dict[Path, int]:
    """Tracebacks in what each run has printed since it was started last."""
    return {path: tracebacks_in(path) for path in output.rglob("console.txt")}


class KilledSweep:
    """One sweep, killed up to so many times."""

    def __init__(self, root: Path, output: Path, chance: random.Random):
        self.root, self.output, self.chance = root, output, chance
        self.console = output.with_suffix(".txt")
        self.tally = Tally()
        self.finished: dict[Path, int] = {}

    def start(self) -> Child:
        return Child(lambda: sweep(arguments(self.root, self.output)), self.console)

    def kill(self, seconds: float) -> bool:
        """Start it, and end it at a random moment; False: it was done before."""
        child, number = self.start(), self.chance.choice(SIGNALS)
        if child.end_within(self.chance.uniform(0, seconds)) is not None:
            return False
        self.tally.kills[number.name] += 1
        child.send(number)
        if child.end_within(PATIENCE) is None:
            self.tally.faults[f"sweeps that went on after {number.name}"] += 1
            child.process.kill()
            child.end_within(None)
        if self.chance.random() < 0.5 and not wait_until(lambda: not processes_of(self.output)):
            self.tally.faults[f"runs that outlived {number.name}"] += 1
        self.look(number.name)
        return True

    def look(self, after: str) -> None:
        """At what is not to be, whenever a sweep has ended."""
        now = finished_in(self.output)
        again = [name for name, written in self.finished.items() if now.get(name) != written]
        self.tally.faults["finished runs done again"] += len(again)
        self.tally.faults[f"tracebacks of runs, after {after}"] += sum(consoles_in(self.output).values())
        for path in consoles_in(self.output):
            os.truncate(path, 0)
        self.finished = now

    def conclude(self, whole: Path) -> Tally:
        """Let it finish, and compare its runs with those of the sweep that nothing killed."""
        code = self.start().end_within(None)
        self.look("the last start")
        if processes_of(self.output) and not wait_until(lambda: not processes_of(self.output)):
            self.tally.faults["runs that outlived the sweep"] += 1
        if code:
            self.tally.is_stuck(last_line(self.console))
        for name in folders_in(whole) if not code else []:
            self.tally.judge(self.output / name, whole / name)
        self.tally.faults["tracebacks of sweeps"] += tracebacks_in(self.console)
        self.tally.faults += Counter()  # without zeros
        return self.tally


def kill_sweeps(kills: int, seed: int, root: Path, folder: Path) -> dict[str, Tally]:
    """As many sweeps as it takes. Folders with a fault in them are kept."""
    chance, whole, tally = random.Random(seed), folder / "whole_sweep", Tally()
    child = Child(lambda: sweep(arguments(root, whole)), folder / "whole_sweep.txt")
    if child.end_within(None):
        raise RuntimeError(f"An uninterrupted sweep did not end well: {last_line(child.console)}")
    seconds = time.monotonic() - child.begun
    numbers = itertools.count()
    while tally.killed < kills:
        one = KilledSweep(root, folder / f"sweep{next(numbers)}", chance)
        for _ in range(min(chance.randint(1, PER_SWEEP), kills - tally.killed)):
            if not one.kill(seconds):
                break
        tally += (ended := one.conclude(whole))
        print(f"[{tally.killed}/{kills}] sweep: {ended}", flush=True)
        if ended.is_clean:
            shutil.rmtree(one.output)
    return {"CoOp, base to new": tally}


# --- a long one ----------------------------------------------------------------------------------------------------

STAND_IN = """import json, pathlib, sys
folder = pathlib.Path(sys.argv[sys.argv.index("--output-dir") + 1])
(folder / "results.json").write_text(json.dumps({"state": "finished"}))
"""


HELD = ("rss_mib", "open_files")


def usage(process: int) -> dict[str, float]:
    """Resident memory of a process in MiB, and its open files."""
    status = Path(f"/proc/{process}/status").read_text()
    return {
        "rss_mib": int(re.search(r"^VmRSS:\s+(\d+) kB", status, re.MULTILINE)[1]) / 2**10,
        "open_files": len(os.listdir(f"/proc/{process}/fd")),
    }


def sweep_stand_ins(folder: Path, line: list[str]) -> int:
    """The sweep itself, whose runs find another train.py: one that only says that it has finished."""
    request.ROOT = folder
    return sweep(line)


def most_held(seen: list[dict], runs: int) -> dict[str, dict]:
    """Of what was seen as runs had ended, in order; where nothing was seen in a tenth, what was seen nearest to it."""
    first, last = max(runs / 10, seen[0]["runs"]), min(runs * 9 / 10, seen[-1]["runs"])
    tenths = {
        "first_tenth": [each for each in seen if each["runs"] <= first],
        "last_tenth": [each for each in seen if each["runs"] >= last],
    }
    return {name: {key: max(each[key] for each in part) for key in HELD} for name, part in tenths.items()}


def long_sweep(runs: int, root: Path, folder: Path) -> dict:
    """So many runs in one sweep, and the most that its process holds during the first tenth of them, and the last."""
    (folder / "train.py").write_text(STAND_IN)
    output, seen = folder / "long", []
    line = arguments(root, output, seeds=runs // 2, epochs=1)
    child = Child(lambda: sweep_stand_ins(folder, line), folder / "long.txt")
    while child.end_within(2 * POLL) is None:
        ended = len(re.findall(r"^finished ", child.console.read_text(), re.MULTILINE))
        with contextlib.suppress(FileNotFoundError, ProcessLookupError, TypeError):  # it has just ended
            seen += [{"runs": ended, **usage(child.process.pid)}] if ended else []
    if child.end_within(None):
        raise RuntimeError(f"The long sweep did not end well: {last_line(child.console)}")
    most = most_held(seen, runs)
    print(f"long sweep: {most}", flush=True)
    return {"runs": runs, "finished": len(finished_in(output)), **most}
