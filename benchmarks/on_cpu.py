"""What the benchmarks of processor time and memory share: a process for each measurement, its peak, and the record."""

import resource
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from dassl.utils import cores, write_json
from dassl.utils.memory import peak_memory

from .machine import device_name, result_file, versions


def apart(measure: Callable, *arguments) -> Any:
    """`measure(*arguments)` in a process of its own, so that its peak of memory is its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(measure, *arguments).result()


def peak() -> float:
    """MiB that this process has held at most."""
    return peak_memory()[0]


def held() -> float:
    """MiB that it holds now, where Linux tells; what was held and is free again would hide a small step."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20
    except OSError:
        return peak()


def write_record(name: str, command: list[str], out: str | None, file: str = "", **facts) -> None:
    """The benchmark `name`'s figures, with the machine and the command that gave them, into `out` or its usual file, which
    is called as the benchmark or as `file`.
    """
    device = torch.device("cpu")
    record = {
        "versions": versions(),
        "processor": device_name(device),
        "processors": cores(),
        "command": " ".join([f"python -m benchmarks.{name}", *command]),
        **facts,
    }
    out = out or result_file(file or name, device, quick="--quick" in command)
    write_json(record, out)
    print(f"Results: {out}")
