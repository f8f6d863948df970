"""What machine and which versions a measurement was made on, and the file that it goes to."""

import os
import platform
import re
from pathlib import Path

import torch
import torchvision

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
