"""Which registered methods are this repository's own, and which file of a user's holds one that is not.

A user's file may be called as any of ours, and register any name of ours: it is the one that is taken then. What a run
was trained by is told by that file, whose hash its record states; this repository's own are told by its commit.
"""

import hashlib
import inspect
import sys
from collections.abc import Iterable
from pathlib import Path

from clip.download import sha256_of
from dassl.engine import TRAINER_REGISTRY

OURS = {  # registered name -> the module that it stands in
    "ATPrompt": "atprompt",
    "CLAP": "adapters.clap",
    "CLIPAdapter": "adapters.clip_adapter",
    "CLIPFit": "clipfit",
    "CLIPLoRA": "clip_lora",
    "CoCoOp": "cocoop",
    "CoOp": "coop",
    "DePT": "dept",
    "GDA": "adapters.gda",
    "IVLP": "ivlp",
    "KgCoOp": "kgcoop",
    "LinearProbe": "adapters.linear_probe",
    "MMA": "mma",
    "MMRL": "mmrl",
    "MMRLpp": "mmrlpp",
    "MaPLe": "maple",
    "ProGrad": "prograd",
    "PromptKD": "promptkd",
    "PromptSRC": "promptsrc",
    "Spotlighter": "spotlighter",
    "TCP": "tcp",
    "TaskRes": "adapters.taskres",
    "TextRefiner": "textrefiner",
    "TipAdapter": "adapters.tip_adapter",
    "TipAdapterF": "adapters.tip_adapter",
    "VPT": "vpt",
    "ZeroshotCLIP": "zsclip",
    "ZeroshotCLIP2": "zsclip",
}
PACKAGE = __name__.partition(".")[0]


def stands_where_ours_does(method) -> bool:
    return method.__module__ == f"{PACKAGE}.{OURS.get(method.__name__)}"


def gives_way(method, other) -> bool:
    """Whether a method leaves its name to another one: ours does, to a user's."""
    return stands_where_ours_does(method) and not stands_where_ours_does(other)


def is_ours(method) -> bool:
    """Of the two that may stand in a file of ours, the one that declares its config keys: a file written for Dassl that
    was put in its place declares none.
    """
    return stands_where_ours_does(method) and hasattr(method, "extend_cfg")


def file_of_user(name: str) -> dict[str, str] | None:
    """Of a registered method: {"file": its path in the repository, "sha256": of it, "brings": of the code in the
    folder of its name, if there is any}. None where it is ours, or was registered by code outside this package.
    """
    method = TRAINER_REGISTRY.get(name)
    if is_ours(method) or method.__module__.partition(".")[0] != PACKAGE:
        return None
    path = Path(inspect.getfile(sys.modules[method.__module__]))
    root = Path(inspect.getfile(sys.modules[PACKAGE])).parent
    said = {"file": path.relative_to(root.parent).as_posix(), "sha256": sha256_of(str(path))}
    folder = path.with_suffix("")
    if brought := code_below(folder) if folder.is_dir() else []:
        lines = [f"{file.relative_to(folder).as_posix()}\t{sha256_of(str(file))}\n" for file in brought]
        said["brings"] = hashlib.sha256("".join(lines).encode()).hexdigest()
    return said


def files_of_users(names: Iterable[str]) -> dict[str, dict[str, str]]:
    """Registered name -> its file, of those that are not ours: what a run's record states as `methods`."""
    found = {name: file_of_user(name) for name in names}
    return {name: file for name, file in found.items() if file is not None}


def other_files(now: dict, then) -> list[str]:
    """What of two such statements differs, in words; where `then` is none, as in an older record, nothing is known."""
    if not isinstance(then, dict):
        return []
    said = []
    for name in sorted(now.keys() | then.keys()):
        here, there = (file if isinstance(file := each.get(name), dict) else {} for each in (now, then))
        if any(here.get(part) != there.get(part) for part in ("sha256", "brings")):
            is_same = here.get("file") == there.get("file")
            said.append(
                f"{whose(here)} {name}, or what that file brings, has changed"
                if is_same
                else f"{name} is {whose(there)} there and {whose(here)} here"
            )
    return said


def whose(file: dict) -> str:
    return f"{file.get('file')}'s" if file else "this repository's own"


def code_below(folder: Path) -> list[Path]:
    """What a file brings in the folder of its name; of one that is a package of ours, what lies in its folders."""
    is_package = (folder / "__init__.py").is_file()
    return sorted(file for file in folder.rglob("*.py") if not (is_package and file.parent == folder))
