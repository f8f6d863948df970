"""What the machine offers; no PyTorch here."""

import os


def cores() -> int:
    """Those that this process may use, where the system tells."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def visible_as(device: str, visible: list[str]) -> str:
    """CUDA_VISIBLE_DEVICES for one of the GPUs that are visible here, by its number among them; "" hides all, and is that of
    one that is not there.
    """
    if device == "cpu":
        return ""
    if not any(visible):
        return device
    return visible[int(device)] if int(device) < len(visible) else ""
