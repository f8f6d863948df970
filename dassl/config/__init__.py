"""The config tree: defaults in `defaults.py`, then files, then KEY VALUE pairs. Unknown keys are refused."""

import functools
import itertools
import math
import os

from yacs.config import CfgNode

from ..errors import InputError
from .defaults import get_defaults
from .plain import evaluated, read_yaml

MOST_FILES = 20  # that stand on one another

__all__ = [
    "UnknownKey",
    "clean_cfg",
    "get_cfg_default",
    "merge_file",
    "merge_options",
    "merge_tree",
    "overlaid",
    "read_layers",
    "read_tree",
]


class UnknownKey(InputError):
    """A config key that nobody declares."""

    def __init__(self, sentence: str, key: str = "", where: str = ""):
        super().__init__(sentence)  # a pickle gives the sentence alone, then the rest
        self.key = key  # its full name
        self.where = where  # it stands, in words


def get_cfg_default() -> CfgNode:
    """A fresh copy of the defaults."""
    return get_defaults()


def clean_cfg(cfg: CfgNode, trainer: str) -> None:
    """Take out the nodes of all trainers but one, for a log that is easy to read."""
    for key in list(cfg.TRAINER):
        if key not in ("NAME", trainer.upper()):
            cfg.TRAINER.pop(key)


def merge_file(cfg: CfgNode, path: str, new_allowed: bool = False) -> None:
    """Merge a YAML file into `cfg`; with `new_allowed` it may also bring keys that are not there yet."""
    merge_tree(cfg, read_tree(path), f" (in {path})", new_allowed)


def read_tree(path: str) -> dict:
    """A YAML file's keys over those of the files that it stands on."""
    return functools.reduce(overlaid, (tree for _, tree in read_layers(path)))


def read_layers(path: str, read_by: tuple[str, ...] = ()) -> list[tuple[str, dict]]:
    """A YAML file and those it stands on, (path, keys) each, the lowest first.

    Its key `_BASE_` names the file that it stands on, relative to its own folder.
    """
    if not os.path.isfile(path):
        folder = os.path.dirname(path) or "."
        there = (
            sorted(name for name in os.listdir(folder) if name.endswith((".yaml", ".yml")))
            if os.path.isdir(folder)
            else []
        )
        raise InputError(f"The config file {path} does not exist; in {folder} there are: {', '.join(there) or 'none'}.")
    tree = read_yaml(path)
    tree = {} if tree is None else tree  # an empty file
    if not isinstance(tree, dict):
        raise InputError(f"The config file {path} holds a {type(tree).__name__}: it must hold keys with values.")
    base = tree.pop("_BASE_", None)
    if base is None:
        return [(path, tree)]
    if not isinstance(base, str):
        raise InputError(f"The config file {path} has a {type(base).__name__} as its _BASE_: name a file.")
    base = os.path.normpath(os.path.join(os.path.dirname(path), base))
    if base in (path, *read_by):
        raise InputError(
            f"The config file {path} has {base} as its _BASE_, which stands on it in turn: break the circle."
        )
    if len(read_by) >= MOST_FILES:
        raise InputError(f"The config file {path} stands on top of {MOST_FILES} files that stand on it: join some.")
    return [*read_layers(base, (*read_by, os.path.normpath(path))), (path, tree)]


def overlaid(below: dict, above: dict) -> dict:
    """Two trees as one; where both have a value, that of `above` counts."""
    both = {
        key: overlaid(below[key], above[key])
        for key in below.keys() & above.keys()
        if isinstance(below[key], dict) and isinstance(above[key], dict)
    }
    return {**below, **above, **both}


def merge_options(cfg: CfgNode, options: list) -> None:
    """Merge `[KEY, VALUE, KEY, VALUE, ...]`; keys are full names such as OPTIM.LR, string values are evaluated."""
    if len(options) % 2:
        raise InputError(f"Options come in pairs KEY VALUE, and {without_partner(cfg, options)}.")
    for key, value in zip(options[::2], options[1::2], strict=True):
        parts = str(key).split(".")
        node = cfg
        for part in parts[:-1]:
            if not isinstance(node.get(part), CfgNode):
                raise unknown_key(cfg, key, "")
            node = node[part]
        if parts[-1] not in node or isinstance(node[parts[-1]], CfgNode):
            raise unknown_key(cfg, key, "")
        node[parts[-1]] = coerced(value, node[parts[-1]], key, "")


def without_partner(cfg: CfgNode, options: list) -> str:
    """Which of an odd number of words has no partner: the first key before another key, or else what stands in a key's place."""
    known = set(all_keys(cfg))
    for key, value in itertools.zip_longest(options[::2], options[1::2]):
        if str(key) not in known:
            return f"{str(key)!r} stands where a key belongs"
        if value is None or str(value) in known:
            return f"{key} has no value"
    return f"{options[-1]} has no value"


def merge_tree(cfg: CfgNode, tree: dict, where: str = "", new_allowed: bool = False) -> None:
    """Merge a tree of keys, such as `read_tree` gives; `where` it comes from ends each complaint."""
    _merge(cfg, tree, "", where, new_allowed, cfg)


def _merge(cfg: CfgNode, tree: dict, prefix: str, where: str, new_allowed: bool, root: CfgNode) -> None:
    for key, value in tree.items():
        full = f"{prefix}{key}"
        known = key in cfg
        if not known and not new_allowed:
            raise unknown_key(root, full, where)
        if isinstance(value, dict):
            if not known:
                cfg[key] = CfgNode()
            if not isinstance(cfg[key], CfgNode):
                raise InputError(f"The config key {full} takes one value and no tree{where}.")
            _merge(cfg[key], value, full + ".", where, new_allowed, root)
        elif known and isinstance(cfg[key], CfgNode):
            raise InputError(f"The config key {full} is a tree of keys and takes no value of its own{where}.")
        else:
            cfg[key] = coerced(value, cfg[key], full, where) if known else evaluated(value)


def coerced(value, former, key: str, where: str):
    """`value` in the type of the key's former value; what does not fit is refused."""
    found = value if isinstance(former, str) and isinstance(value, str) else evaluated(value)
    if former is None or type(found) is type(former):
        return found
    if isinstance(former, tuple) and isinstance(found, list):
        return tuple(found)
    if isinstance(former, list) and isinstance(found, tuple):
        return list(found)
    if isinstance(former, float) and type(found) is int:
        return float(found) if abs(found) < 2**1023 else math.inf  # which no key may be
    kind = {int: "a whole number", float: "a number", bool: "True or False", str: "a text"}.get(type(former), "a list")
    raise InputError(f"The config key {key} takes {kind}, such as {former!r}, and got {value!r}{where}.")


def all_keys(cfg: CfgNode, prefix: str = "") -> list[str]:
    keys = []
    for key, value in cfg.items():
        keys += all_keys(value, f"{prefix}{key}.") if isinstance(value, CfgNode) else [prefix + key]
    return keys


def unknown_key(cfg: CfgNode, key: str, where: str) -> UnknownKey:
    import difflib

    near = difflib.get_close_matches(str(key)[:100], all_keys(cfg), n=1, cutoff=0)[0]
    return UnknownKey(f"The config key {key} is unknown{where}; the nearest is {near}.", str(key), where)
