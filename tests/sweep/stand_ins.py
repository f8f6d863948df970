"""What tests of sweeps share: runs of fake.py in the place of train.py, and its journal. No PyTorch here."""

import time
from pathlib import Path
from typing import NamedTuple

from sweep.protocols import Run
from sweep.start import NotYet, Starter
from sweep.work import Work
from tests.helpers import REPOSITORY

FAKE = str(REPOSITORY / "tests" / "sweep" / "fake.py")


class Fake(NamedTuple):
    """In the place of a Request."""

    output_dir: Path
    command: tuple[str, ...] = ()


def fake(folder, name, seconds=0.0, what="", after=None):
    return Run(name, Fake(folder / name, (FAKE, str(folder / name), str(seconds), what)), after)


def at_work(run: Run, starter: Starter, environment=()) -> Work:
    """A run that has begun."""
    deadline = time.monotonic() + 120
    while True:
        try:
            return Work(run, dict(environment), starter)
        except NotYet:
            assert time.monotonic() < deadline
            time.sleep(0.02)


def journal(folder):
    return [tuple(line.split()[:2]) for line in (folder / "journal").read_text().splitlines()]


def wait_until(is_so, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_gone(pid):
    """Whether a process has ended; one that nobody has waited for has too."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True
