"""A finished run of another method that a method builds on: what its record says, and its last checkpoint.

Its folder may be one of the authors' code, which keeps no record; upstream Dassl keeps none either.
"""

import os

from clip import InputError
from dassl.utils import read_json


def record_in(directory: str) -> dict:
    """What `results.json` in a run's folder says; empty where there is none."""
    path = os.path.join(directory, "results.json")
    if not os.path.isfile(path):
        return {}
    try:
        record = read_json(path)
        record["state"], record["backbone"]
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path} is no record of a run ({error!r}): run it again.") from error
    return record


def check_finished(record: dict, directory: str, key: str) -> None:
    """Refuse a run, named by a config key, that a record says has not finished."""
    if record.get("state", "finished") != "finished":
        raise InputError(
            f"The run in {key} {directory} has not finished (its state is {record['state']!r}): run it again."
        )


def check_alike(record: dict, here: dict, run: str, remedy: str) -> None:
    """Refuse a run that a record says was another than `here`: of another method, say, or on other classes."""
    for what, now in here.items():
        then = (record.get("identity") or {}).get(what, record.get(what, now))
        if then != now:
            said = "of other classes" if what == "classes" else f"with {what} {then}, and this one has {now}"
            raise InputError(f"{run} was {said}: {remedy}.")


def last_checkpoint(directory: str, names: tuple[str, ...], key: str, remedy: str) -> str:
    """The checkpoint that a run ended with, in the first of its folders `names` that is there."""
    folders = [os.path.join(directory, name) for name in names]
    folder = next(filter(os.path.isdir, folders), folders[0])
    found = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    if "checkpoint" in found:  # it names the one written last
        with open(os.path.join(folder, "checkpoint"), encoding="utf-8", errors="replace") as file:
            named = file.readline().strip()
        found = [named] if named in found else found
    found = [name for name in found if name.startswith("model") and ".pth.tar" in name]
    if len(found) != 1:
        there = f"holds {len(found)} checkpoints, none named as the last" if found else "holds no checkpoint"
        raise InputError(f"{key} {directory}: {folder} {there}; {remedy}.")
    return os.path.join(folder, found[0])
