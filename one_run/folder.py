"""A run's folder: its record, and the lock of who works in it. No PyTorch here, so that a planner starts at once.

`results.json` alone says what is finished. The lock only keeps two processes from doing the same run at once. It is
flock's, which belongs to an open file: a process that inherits that file holds the lock exactly as long as it lives,
whoever started it and however it ends. (The filelock package keeps its file to itself.)
"""

import contextlib
import fcntl
import os
import platform
import time
from pathlib import Path

from dassl.errors import InputError
from dassl.utils.files import NotJSON, read_json

FILE = "results.json"
LOCK = ".lock"
GIVEN = "SPOTLIGHTER_LOCK"  # environment variable with the number of a lock's open file
NONE = type(None)
KINDS: dict[str, tuple[type, ...]] = {  # of what others build on in a record; an older one may lack some
    "state": (str, NONE),
    "method": (str, NONE),
    "methods": (dict, NONE),
    "accuracy": (float, int, NONE),
    "config": (dict, NONE),
    "weights": (dict, NONE),
    "identity": (dict, NONE),
}
KINDS_OF_IDENTITY: dict[str, tuple[type, ...]] = {  # one_run/identity.py
    "dataset": (str,),
    "subsample": (str,),
    "shots": (int,),
    "seed": (int,),
    "classes": (list,),
    "all_classes": (list, NONE),
    "split": (str, NONE),
    "images": (dict,),
    "files": (dict,),
}


class BrokenRecord(InputError):
    """A results.json that is no record of a run."""


def read_record(folder: str | os.PathLike) -> dict | None:
    """What the record in a run's folder says; None where there is none. A file that is no record is refused."""
    path = Path(folder, FILE)
    if not path.is_file():
        return None
    try:
        record = read_json(path)
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror}): make it readable, or choose another folder."
        ) from error
    except NotJSON as error:
        raise BrokenRecord(f"{path} is not JSON ({error}): run it again.") from error
    if not isinstance(record, dict):
        raise BrokenRecord(f"{path} is no record of a run, which is a JSON object: run it again.")
    return record


def sound_record(folder: str | os.PathLike) -> dict | None:
    """The same, and refused too where something in it that others build on is of another kind than a run writes."""
    record = read_record(folder)
    if record is None:
        return None
    odd = [name for name, kinds in KINDS.items() if type(record.get(name)) not in kinds]
    if not odd and not 0 <= (record.get("accuracy") or 0) <= 100:
        odd = ["accuracy"]
    if not odd and not is_methods(record.get("methods") or {}):
        odd = ["methods"]
    if not odd and record.get("identity") is not None and not is_identity(record["identity"]):
        odd = ["identity"]
    if odd:
        raise BrokenRecord(f"{Path(folder, FILE)} has {odd[0]} as no run writes it ({record[odd[0]]!r}): run it again.")
    return record


def is_identity(value) -> bool:
    """Whether it is an identity as a record, or a checkpoint, holds it."""
    if not isinstance(value, dict) or not KINDS_OF_IDENTITY.keys() <= value.keys():
        return False
    if any(type(value[name]) not in kinds for name, kinds in KINDS_OF_IDENTITY.items()):
        return False
    names = [*value["classes"], *(value["all_classes"] or ()), *value["files"].values()]
    return all(isinstance(name, str) for name in names) and all(
        isinstance(part, dict) and type(part.get("count")) is int and isinstance(part.get("sha256"), str)
        for part in value["images"].values()
    )


def is_methods(value: dict) -> bool:
    """Whether it says as a record does by which files of a user's a run is trained."""
    return all(
        isinstance(file, dict)
        and {"file", "sha256"} <= file.keys()
        and all(isinstance(said, str) for said in file.values())
        for file in value.values()
    )


def whole_record(folder: str | os.PathLike) -> dict | None:
    """The record, or None also where it is not sound: who writes there next replaces it."""
    try:
        return sound_record(folder)
    except BrokenRecord:
        return None


def state_of(folder: str | os.PathLike) -> str | None:
    """What the record of a run says: running, finished, failed, stopped; None where there is none."""
    return (whole_record(folder) or {}).get("state")


def flatten(config: dict, prefix: str = "") -> dict:
    """A record's config: {"A": {"B": 1}} -> {"A.B": 1}"""
    flat = {}
    for key, value in config.items():
        flat.update(flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value})
    return flat


def is_same_folder(one: str | os.PathLike, other: str | os.PathLike) -> bool:
    """However they are written, and through links."""
    return os.path.realpath(one) == os.path.realpath(other)


# --- the lock ------------------------------------------------------------------------------------------------------


def take_lock(folder: str | os.PathLike) -> int | None:
    """The descriptor of an open file that holds the run's lock; None if another process has it (`holder` says who).

    Where a file system has no locks, that is said, and the run goes on without.
    """
    try:
        os.makedirs(folder, exist_ok=True)
        lock = os.open(Path(folder, LOCK), os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise InputError(
            f"{folder} cannot be made or written into ({error.strerror}): choose another output folder."
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    except OSError as error:
        print(
            f"{folder} is on a file system without locks ({error.strerror}): see to it that no other run works there."
        )
    sign(lock)
    return lock


def sign(lock: int) -> None:
    """Write into the lock who holds it now."""
    with contextlib.suppress(OSError):  # a full disk: it is only for people
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"process {os.getpid()} on {platform.node()}, since {time.strftime('%F %T')}\n".encode(), 0)


def holder(folder: str | os.PathLike) -> str:
    """Who holds the lock: "process 4711 on node3, since 2026-03-01 14:02:11"."""
    with contextlib.suppress(OSError):
        return Path(folder, LOCK).read_text(encoding="utf-8", errors="replace").strip() or "another process"
    return "another process"


def given_lock(folder: str | os.PathLike) -> int | None:
    """The lock that this process was started with (`to_give`), if it is of this folder."""
    number = os.environ.pop(GIVEN, "")
    with contextlib.suppress(OSError):
        if number.isdecimal() and os.path.samestat(os.fstat(int(number)), os.stat(Path(folder, LOCK))):
            sign(int(number))
            return int(number)
    return None


def to_give(lock: int) -> dict[str, str]:
    """What a process that inherits the lock's file finds in its environment."""
    return {GIVEN: str(lock)}


@contextlib.contextmanager
def alone_in(folder: str | os.PathLike):
    """Nobody else works in the run's folder meanwhile; refused where somebody does."""
    lock = given_lock(folder)
    if lock is None:
        lock = take_lock(folder)
    if lock is None:
        raise InputError(f"{folder} is at work already ({holder(folder)}): wait for it, or choose another folder.")
    try:
        yield
    finally:
        os.close(lock)
