"""A run at work: its lock, its process, its outcome. No PyTorch here, so that a worker elsewhere starts at once.

`results.json` alone says what is finished: train.py skips a finished run and goes on with one that broke off, so a
run may be handed out again at any time. The training inherits the lock of its run (one_run/folder.py), so the lock
lives exactly as long as the training, whoever started it and however either ends.
"""

import contextlib
import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from dassl.errors import InputError
from one_run.command import BY_SIGNAL
from one_run.folder import state_of, take_lock
from one_run.interrupts import SIGNALS

from .protocols import Run
from .start import NotYet, Starter

LAST_LINES = 5  # that are shown of a run that failed
ENDED_BY_SIGNAL = [BY_SIGNAL + number for number in SIGNALS]  # exit codes of a training that was told to end
GRACE = 10.0  # seconds that a process has to end by itself once it was interrupted


@dataclass
class Outcome:
    state: str  # finished, failed, skipped (what it needs is not finished)
    seconds: float = 0.0
    said: str = ""  # why it is not finished
    killed: bool = False  # by a signal


class Busy(Exception):
    """Another process is doing this run."""


class Work:
    """The process of a run. Its output goes to `console.txt` in the run's folder. Raises Busy, NotYet, OSError, InputError."""

    def __init__(self, run: Run, environment: dict[str, str], starter: Starter):
        self.run, self.begun = run, time.monotonic()
        environment = {**os.environ, **environment}
        starter.check(environment)
        lock = take_lock(run.folder)
        if lock is None:
            raise Busy
        try:
            with open(run.folder / "console.txt", "wb") as console:
                self.process = starter.start(run.command, environment, lock, console, run.folder)
        finally:
            os.close(lock)  # the process has it now

    def outcome(self) -> Outcome | None:
        """None while it works."""
        code = self.process.poll()
        if code is None:
            return None
        seconds = time.monotonic() - self.begun
        if code == 0 and state_of(self.run.folder) == "finished":
            return Outcome("finished", seconds)
        why = [] if code else [f"It ended well, and its record says {state_of(self.run.folder)}."]
        if code < 0:
            why = [f"It was killed by {signal.Signals(-code).name}."]
        said = "\n".join([*tail(self.run.folder / "console.txt"), *why])
        return Outcome("failed", seconds, said, killed=code < 0 or code in ENDED_BY_SIGNAL)

    def interrupt(self) -> None:
        self.process.terminate()  # SIGINT is ignored in what a script has put into the background

    def end(self, patience: float) -> None:
        """Wait until the interrupted process has ended; kill it, and what it started, after `patience` seconds."""
        try:
            self.process.wait(max(0.0, patience))
        except subprocess.TimeoutExpired:
            self.process.kill_all()
            self.process.wait()


def tail(path: Path) -> list[str]:
    """The last lines of a file that may be long."""
    with contextlib.suppress(OSError), open(path, "rb") as file:
        file.seek(max(0, os.path.getsize(path) - 8192))
        lines = file.read().decode(errors="replace").splitlines()
        return [line for line in lines if line.strip()][-LAST_LINES:]
    return []


def complete(run: Run, environment: dict[str, str], starter: Starter) -> Outcome:
    """Do a run to its end, on a machine where somebody else decides what is done when.

    If its lock is held, that is an earlier attempt on a machine thought lost: it is waited for, then train.py sees
    whether it has finished.
    """
    while True:
        try:
            work = Work(run, environment, starter)
            break
        except (Busy, NotYet) as reason:
            time.sleep(1 if isinstance(reason, Busy) else 0.1)
        except (OSError, InputError) as error:
            return Outcome("failed", said=str(error))
    try:
        while (outcome := work.outcome()) is None:
            time.sleep(0.1)
        return outcome
    except BaseException:
        work.interrupt()
        work.end(GRACE)
        raise


def left_out(run: Run) -> Outcome:
    needed = run.after.label if run.after else "another run"
    return Outcome("skipped", said=f"It needs {needed}, which is not finished.")
