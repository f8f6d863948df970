"""A run's folder: its record, and the lock of who works in it. No PyTorch here, so that a planner starts at once.

`results.json` alone says what is finished. The lock only keeps two processes from doing the same run at once. It is
flock's, which belongs to an open file: a process that inherits that file holds the lock exactly as long as it lives,
whoever started it and however it ends. (The filelock package keeps its file to itself.)
"""

import fcntl
import json
import os
from pathlib import Path

from dassl.errors import InputError

FILE = "results.json"
LOCK = ".lock"


class BrokenRecord(InputError):
    """A results.json that is no record of a run."""


def read_record(folder: str | os.PathLike) -> dict | None:
    """What the record in a run's folder says; None where there is none. A file that is no record is refused."""
    path = Path(folder, FILE)
    if not path.is_file():
        return None
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror}): make it readable, or choose another folder."
        ) from error
    except ValueError as error:
        raise BrokenRecord(f"{path} is not JSON ({error}): run it again.") from error
    if not isinstance(record, dict):
        raise BrokenRecord(f"{path} is no record of a run, which is a JSON object: run it again.")
    return record


def whole_record(folder: str | os.PathLike) -> dict | None:
    """The record, or None also where the file is no record: who writes there next replaces it."""
    try:
        return read_record(folder)
    except BrokenRecord:
        return None


def state_of(folder: str | os.PathLike) -> str | None:
    """What the record of a run says: running, finished, failed; None where there is none."""
    return (whole_record(folder) or {}).get("state")


def take_lock(folder: Path) -> int | None:
    """The descriptor of an open file that holds the run's lock; None if another process has it."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock
