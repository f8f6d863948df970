"""What a method's authors set by protocol, shots and data set: the rows of `_SETTINGS_` in its config. No PyTorch here.

    _SETTINGS_:
      - {protocol: fewshot, shots: [2, 4], OPTIM.MAX_EPOCH: 100}
      - {dataset: ImageNet, OPTIM.MAX_EPOCH: 50}

A row has conditions, in small letters, and config keys by their full names, in capitals. All rows whose conditions hold
count, one after the other, over the file's other keys. A file that stands on another (`_BASE_`) counts over all of that
one, its rows too; so a key that is to be the same everywhere is stated, and options on the command line win over all.

Conditions, of one value or a list:
  protocol  base2new, fewshot or xd; domain generalisation tests the models of xd
  shots     DATASET.NUM_SHOTS
  dataset   DATASET.NAME, such as OxfordFlowers: of a test, the set that it tests on
  mode      strict or paper: what a publication did that chooses on validation images, which may be test images then (judges.py)
"""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from yacs.config import CfgNode

from dassl.config import merge_tree, overlaid
from dassl.errors import InputError

from .layout import PHASES

ROWS = "_SETTINGS_"
PROTOCOLS = tuple(dict.fromkeys(phase.protocol for phase in PHASES.values()))
MODES = ("strict", "paper")
DECIDING = ("DATASET.", "SETTINGS.", "TRAINER.NAME")  # keys that decide which rows hold, or whose rows they are

Layers = list[tuple[str, dict]]  # as `dassl.config.read_layers` gives them


class Asked(NamedTuple):
    """What a run is asked for, as far as settings depend on it."""

    protocol: str
    shots: int
    dataset: str
    mode: str = "strict"


# --- rows --------------------------------------------------------------------------------------------------------


def rows_of(path: str, layer: dict) -> list[dict]:
    rows = layer.get(ROWS, [])
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise InputError(f"{ROWS} in {path} must be a list of rows such as {{protocol: xd, OPTIM.MAX_EPOCH: 2}}.")
    return rows


def conditions_of(row: dict) -> dict[str, list]:
    return {key: value if isinstance(value, list) else [value] for key, value in row.items() if key in Asked._fields}


def keys_of(row: dict) -> dict:
    """The config keys that it sets -> their values."""
    return {key: value for key, value in row.items() if key not in Asked._fields}


def holds(row: dict, asked: Asked) -> bool:
    return all(getattr(asked, name) in values for name, values in conditions_of(row).items())


def in_words(row: dict) -> str:
    """ "protocol fewshot, shots 2 or 4: OPTIM.MAX_EPOCH 100" """
    when = ", ".join(f"{name} {' or '.join(map(str, values))}" for name, values in conditions_of(row).items())
    return f"{when}: {', '.join(f'{key} {value!r}' for key, value in keys_of(row).items())}"


def resolve(layers: Layers, asked: Asked | None) -> tuple[dict, list[dict]]:
    """The keys of a file and those it stands on, and the rows of which something is left; None: without any row."""
    tree: dict = {}
    held = []
    for path, layer in layers:
        tree = overlaid(tree, {key: value for key, value in layer.items() if key != ROWS})
        for row in rows_of(path, layer):
            if asked is not None and holds(row, asked):
                tree = overlaid(tree, tree_of(keys_of(row).items()))
                held.append(row)
    return tree, [row for row in held if any(value_of(tree, key) == value for key, value in keys_of(row).items())]


def alike(layers: Layers, first: Asked, second: Asked) -> bool:
    """Whether both are run with the same settings."""
    return resolve(layers, first)[0] == resolve(layers, second)[0]


# --- what is refused ---------------------------------------------------------------------------------------------


def check_asked(asked: Asked) -> None:
    if asked.protocol == "dg":
        raise InputError("Domain generalisation tests the models that cross-dataset trains: ask for the protocol xd.")
    for name, known in (("protocol", PROTOCOLS), ("mode", MODES)):
        value = getattr(asked, name)
        if value not in known:
            raise InputError(f"SETTINGS.{name.upper()} is {value!r}: choose one of {', '.join(known)}.")


def check_rows(layers: Layers, cfg: CfgNode, datasets: Iterable[str]) -> None:
    """All rows, those too that this run does not need: keys that nobody declares, conditions that never hold."""
    known = {"protocol": PROTOCOLS, "mode": MODES, "dataset": tuple(datasets)}
    for path, layer in layers:
        for row in rows_of(path, layer):
            check_row(row, f" (in a row of {ROWS} in {path})", cfg, known)


def check_row(row: dict, where: str, cfg: CfgNode, known: Mapping[str, Sequence[str]]) -> None:
    if not conditions_of(row) or not keys_of(row):
        raise InputError(f"A row needs a condition ({', '.join(Asked._fields)}) and a config key, unlike {row}{where}.")
    for name, values in conditions_of(row).items():
        if not values:
            raise InputError(f"The condition {name} names nothing, so that it never holds{where}.")
        for value in values:
            check_value(name, value, where, known.get(name))
    for key, value in keys_of(row).items():
        if str(key).islower():
            raise InputError(f"There is no condition {key}, only {', '.join(Asked._fields)}{where}.")
        if str(key).startswith(DECIDING):
            raise InputError(f"A row cannot set {key}, on which it depends whether the row holds{where}.")
        if isinstance(value, dict):
            raise InputError(f"A row names keys in full, such as OPTIM.LR, and {key} has keys below it{where}.")
    merge_tree(cfg.clone(), tree_of(keys_of(row).items()), where)


def check_value(name: str, value, where: str, known: Sequence[str] | None) -> None:
    """`known` are the values that there are; None: shots."""
    if known is None:
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise InputError(f"The condition {name} {value!r} never holds: give whole numbers from 1 on{where}.")
    elif value not in known:
        near = difflib.get_close_matches(str(value), known, n=1, cutoff=0)[0]
        raise InputError(f"The condition {name} {value!r} never holds; the nearest {name} is {near}{where}.")


# --- trees -------------------------------------------------------------------------------------------------------


def tree_of(pairs: Iterable[tuple]) -> dict:
    """(full name, value), ... -> the tree."""
    tree: dict = {}
    for key, value in pairs:
        for part in reversed(str(key).split(".")):
            value = {part: value}
        tree = overlaid(tree, value)
    return tree


def value_of(tree, key: str):
    """What stands under a full name, or None."""
    for part in str(key).split("."):
        tree = tree.get(part) if isinstance(tree, dict) else None
    return tree
