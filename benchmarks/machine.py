"""What machine and which versions a measurement was made on, and the file that it goes to, which has not more already."""

import os
import platform
import re
from collections.abc import Iterable
from pathlib import Path

import torch
import torchvision

from dassl.errors import InputError
from dassl.utils import read_json

RESULTS = Path(__file__).resolve().parent / "results"


def versions(**more: str | None) -> dict[str, str | None]:
    """Of Python and of what every benchmark computes with, and what else is named."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        **more,
    }


def device_name(device: torch.device) -> str:
    """As its maker calls it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if os.path.isfile("/proc/cpuinfo"):
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            found = re.search(r"^model name\s*: (.+)$", file.read(), re.MULTILINE)
        if found:
            return found[1].strip()
    return platform.processor() or platform.machine()


def result_file(benchmark: str, device: torch.device, quick: bool = False) -> str:
    """Where a benchmark's figures of one device go: <benchmark>_cpu.json, or with the name of the GPU; those of a `quick`
    try into a folder of their own, as they are no results.
    """
    name = "cpu" if device.type == "cpu" else re.sub(r"[^a-z0-9]+", "_", device_name(device).lower()).strip("_")
    return str((RESULTS / "quick" if quick else RESULTS) / f"{benchmark}_{name}.json")


def check_not_smaller(path: str | os.PathLike, remedy: str, **here: Iterable) -> None:
    """Refuse to write over a table that has more than this run gives.

    path: the table as JSON; what it lists under "sets", "seeds" and such, or, where it has none, in its "cells".
    here: what this run gives, by those names; what the table says nothing of is not compared.
    remedy: what to do instead, as the end of a sentence.
    """
    if not os.path.isfile(path):
        return
    former = read_json(str(path))
    for what, given in here.items():
        of_cells = (cell.get(what, cell.get(what.removesuffix("s"))) for cell in former.get("cells", ()))
        there = former.get(what) or dict.fromkeys(each for each in of_cells if each is not None)
        kept = set(given)
        if lost := [str(each) for each in there if each not in kept]:
            raise InputError(f"{path} has {len(lost)} {what} that this run would lose, such as {lost[0]}: {remedy}.")
