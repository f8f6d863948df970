"""Where the host waits for a GPU, and what it may not read before it has waited.

CUDA works through what it is given while the host goes on, until the host asks for a value, for a shape that depends
on values, or for a copy that is not `non_blocking` (`torch.cuda.set_sync_debug_mode` tells the same of a real one).
"""

import sys
from collections import Counter
from pathlib import Path

import torch

aten = torch.ops.aten
HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent
ASKING = {  # operations whose result, or whose shape, the host needs at once
    "_local_scalar_dense": "item",
    "equal": "equal",
    "is_nonzero": "item",
    "nonzero": "nonzero",
    "masked_select": "nonzero",
    "_unique": "unique",
    "_unique2": "unique",
    "unique_dim": "unique",
    "unique_consecutive": "unique",
    "bincount": "bincount",
    "_linalg_check_errors": "linalg",
}
INDEXING = {
    aten.index.Tensor,
    aten._unsafe_index.Tensor,
    aten.index_put.default,
    aten.index_put_.default,
    aten._index_put_impl_.default,
}
MASKS = (torch.bool, torch.uint8)


def kind_of_wait(func, args: tuple, kwargs: dict, on_gpu, pinned) -> str | None:
    """Why the host waits for an operation, or None; `on_gpu` and `pinned` tell of a tensor whether it is."""
    name = func._schema.name.removeprefix("aten::")
    if name in ASKING:
        return ASKING[name] if on_gpu(args[0]) else None
    if name == "repeat_interleave":
        return "repeat_interleave" if on_gpu(args[0]) and kwargs.get("output_size") is None else None
    if func in INDEXING and on_gpu(args[0]):
        return kind_of_index([index for index in args[1] if index is not None], args[2:], on_gpu)
    if func is aten._to_copy.default:
        device = kwargs.get("device") or args[0].device
        return kind_of_copy(args[0], device.type != "cpu", kwargs.get("non_blocking", False), on_gpu, pinned)
    if func is aten.copy_.default:
        blocking = not (args[2] if len(args) > 2 else kwargs.get("non_blocking", False))
        return kind_of_copy(args[1], on_gpu(args[0]), not blocking, on_gpu, pinned)
    return None


def kind_of_index(indices: list[torch.Tensor], values: tuple, on_gpu) -> str | None:
    """A mask is turned into places, whose number the host needs, unless one number is put there; places on the CPU
    are copied.
    """
    fills = values and values[0].numel() == 1 and (not on_gpu(values[0]) or values[0].number)
    if any(index.dtype in MASKS for index in indices):
        return None if fills and all(index.dtype in MASKS and on_gpu(index) for index in indices) else "nonzero"
    return "copy to the GPU" if any(not on_gpu(index) for index in indices) else None


def kind_of_copy(source: torch.Tensor, to_gpu: bool, non_blocking: bool, on_gpu, pinned) -> str | None:
    """`non_blocking` holds if the memory on the CPU is pinned; what is made for a copy to the CPU is."""
    if on_gpu(source) == to_gpu:
        return None
    if to_gpu:
        return None if non_blocking and pinned(source) else "copy to the GPU"
    return None if non_blocking else "copy to the CPU"


def place() -> str:
    """The line of this repository that is at work; autograd's threads have none."""
    frame = sys._getframe()
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(REPOSITORY) and ".venv" not in path.parts and not is_machinery(path):
            return f"{path.relative_to(REPOSITORY)}:{frame.f_lineno}"
        frame = frame.f_back
    return "backward"


def is_machinery(path: Path) -> bool:
    return path.parent == HERE and path.stem in ("waits", "tensors", "pretend", "autocast", "refusals", "child")


class Waits:
    """What the host has waited for, and copies to the CPU that are under way until it waits."""

    def __init__(self):
        self.counted: Counter[tuple[str, str]] = Counter()  # (kind, place) -> how often
        self.under_way: list[tuple[torch.Tensor, torch.Tensor]] = []  # (where to, what), in their order
        self.arrived = 0  # of all copies that ever were under way

    def wait(self, kind: str, until: int | None = None) -> None:
        self.counted[kind, place()] += 1
        self.arrive(until)

    @property
    def begun(self) -> int:
        return self.arrived + len(self.under_way)

    def arrive(self, until: int | None = None) -> None:
        """Copies arrive in their order; `until` so many of all have, by default all."""
        while self.under_way and (until is None or self.arrived < until):
            target, value = self.under_way.pop(0)
            target.copy_(value)
            self.arrived += 1

    def send(self, target: torch.Tensor, value: torch.Tensor) -> None:
        """A copy to the CPU that does not block: who reads it before the host has waited reads garbage."""
        self.under_way.append((target, value.clone()))
        target.fill_(torch.nan if target.dtype.is_floating_point else garbage(target.dtype))


def garbage(dtype: torch.dtype) -> int:
    return 1 if dtype == torch.bool else torch.iinfo(dtype).max
