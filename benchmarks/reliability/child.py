"""Processes that are killed. They are forked from one that has imported everything, so that a start costs nothing; that
one has a single thread, for a fork copies no other.
"""

import importlib
import itertools
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from one_run.interrupts import SIGNALS

FORK = multiprocessing.get_context("fork")
CHANGES = ("open", "os.mkdir", "os.remove", "os.rename")  # what Python says of files that a process changes
TRACEBACK = "Traceback (most recent call last)"


def import_all() -> None:
    """What a training imports only when it needs it."""
    torch.set_num_threads(1)
    importlib.import_module("torch.utils.tensorboard")
    importlib.import_module("dassl.data.transforms.steps")
    torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)  # which imports torch._dynamo


class Child:
    """A forked process at work, which prints into `console`.

    changes: counts its changes of files below a folder; see `on_changes`.
    """

    def __init__(self, action: Callable[[], int | None], console: Path, changes: Callable[[], None] | None = None):
        self.console = console

        def work():
            for number in SIGNALS:  # whatever this process does with them
                signal.signal(number, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            write_to(console)
            if changes is not None:
                changes()
            sys.exit(action() or 0)

        sys.stdout.flush()
        self.process = FORK.Process(target=work, daemon=True)
        self.begun = time.monotonic()
        self.process.start()

    def end_within(self, seconds: float | None) -> int | None:
        """The exit code, negative where a signal ended it; None: it is still at work."""
        self.process.join(seconds)
        return self.process.exitcode

    def send(self, number: signal.Signals) -> None:
        os.kill(self.process.pid, number)

    def kill_after(self, seconds: float) -> int:
        """SIGKILL so long after its start, unless it has ended; the exit code."""
        if self.end_within(max(0.0, self.begun + seconds - time.monotonic())) is None:
            self.process.kill()
        return self.end_within(None)


def write_to(console: Path) -> None:
    """Both streams of this process, appended."""
    with open(console, "ab", buffering=0) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)


def on_changes(folder: Path, act: Callable[[int], None]) -> Callable[[], None]:
    """What begins to call `act(number)` before each change of a file below `folder`, numbered from 1.

    A change is a file opened for writing, renamed or removed, or a folder made.
    """
    numbers, below = itertools.count(1), os.path.abspath(folder) + os.sep

    def look(event: str, arguments: tuple) -> None:
        if event not in CHANGES or not isinstance(arguments[0], str | os.PathLike):
            return
        if event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR):
            return
        if os.path.abspath(arguments[0]).startswith(below):
            act(next(numbers))

    return lambda: sys.addaudithook(look)


def dies_before(folder: Path, number: int) -> Callable[[], None]:
    """SIGKILL before that change of a file."""
    return on_changes(folder, lambda change: os.kill(os.getpid(), signal.SIGKILL) if change == number else None)


def counts(folder: Path):
    """A shared number of changes so far, and what begins to count."""
    count = FORK.Value("i", 0)
    return count, on_changes(folder, lambda number: setattr(count, "value", number))


def tracebacks_in(console: Path) -> int:
    return console.read_text(errors="replace").count(TRACEBACK) if console.exists() else 0


def last_line(console: Path) -> str:
    """Of what a process printed: the sentence that it ended with."""
    lines = [line for line in console.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else ""


def processes_of(folder: Path) -> list[int]:
    """Running processes that have a path below `folder` in their command line."""
    found, text = [], f"{folder}{os.sep}".encode()
    for path in Path("/proc").glob("[0-9]*"):
        try:
            dead = (path / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
            if text in (path / "cmdline").read_bytes() and not dead:
                found.append(int(path.name))
        except OSError:  # it has just ended
            continue
    return found
