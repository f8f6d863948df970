"""The context in which PyTorch finds a GPU, and the engine computes on it."""

import contextlib
import importlib
import time
from collections.abc import Iterator
from unittest import mock

import torch

from dassl.utils import torchtools

from . import autocast as autocast  # registers its kernels
from .tensors import NAME, Everywhere, OnGPU, Record, backend, is_pinned, keep, record

MEMORY = 3 * 2**20  # bytes, which `torch.cuda.max_memory_allocated` says
FREE, ALL = 10 * 2**30, 16 * 2**30  # bytes


class Event:
    """Of the one stream that there is."""

    def __init__(self, *_, **__):
        self.until = 0

    def record(self, *_) -> None:
        self.until, self.at = record.waits.begun, time.perf_counter()

    def elapsed_time(self, later: "Event") -> float:
        """In milliseconds."""
        return 1000 * (later.at - self.at)

    def query(self) -> bool:
        record.waits.arrive(self.until)
        return True

    def synchronize(self) -> None:
        """Waits for what was begun before the event; the host stands still until then, if that is not done yet."""
        record.waits.wait("event", self.until)


def synchronize(*_) -> None:
    record.waits.wait("synchronize")


@contextlib.contextmanager
def pretend() -> Iterator[Record]:
    """Within it `torch.cuda` says that there is a GPU, and runs that may use one do."""
    real_tensor, real_as_tensor, real_tag = torch.tensor, torch.as_tensor, torch.serialization.location_tag
    cuda = {
        "is_available": lambda: True,
        "_lazy_init": lambda: None,
        "get_device_name": lambda *_: "pretended GPU",
        "max_memory_allocated": lambda *_: MEMORY,
        "reset_peak_memory_stats": lambda *_: None,
        "mem_get_info": lambda *_: (FREE, ALL),
        "memory_reserved": lambda *_: MEMORY,
        "memory_allocated": lambda *_: MEMORY,
        "synchronize": synchronize,
        "Event": Event,
    }
    same = "device_count", "current_device", "get_rng_state", "set_rng_state", "get_rng_state_all", "set_rng_state_all"
    cuda |= {name: getattr(backend, name) for name in (*same, "manual_seed", "manual_seed_all")}

    def tensor(data, *args, device=None, **kwargs):
        made = real_tensor(data, *args, **kwargs)
        return made if device is None else made.to(device)

    def as_tensor(data, dtype=None, device=None):
        made = data if isinstance(data, OnGPU) else real_as_tensor(data, dtype=dtype)
        return made.to(device=device or made.device, dtype=dtype or made.dtype)

    def location_tag(storage):
        return "cuda:0" if storage.data_ptr() in record.on_gpu else real_tag(storage)

    def pin_memory(self, *_):
        if isinstance(self, OnGPU):
            raise RuntimeError("cannot pin 'torch.cuda.FloatTensor' only dense CPU tensors can be pinned")
        pinned = self.clone()
        keep(record.pinned, pinned)
        return pinned

    record.__init__()
    backend.__init__()
    with contextlib.ExitStack() as stack:
        for name, value in cuda.items():
            stack.enter_context(mock.patch.object(torch.cuda, name, value))
        stack.enter_context(mock.patch.object(torchtools, "GPU", NAME))
        stack.enter_context(mock.patch.object(torch, "tensor", tensor))
        stack.enter_context(mock.patch.object(torch, "as_tensor", as_tensor))
        stack.enter_context(mock.patch.object(torch.serialization, "location_tag", location_tag))
        stack.enter_context(mock.patch.object(torch.Tensor, "pin_memory", pin_memory))
        stack.enter_context(mock.patch.object(torch.Tensor, "is_pinned", lambda self, *_: is_pinned(self)))
        # A module's parameter cannot become a wrapper, so `Module.to` has to exchange it.
        before = torch.__future__.get_overwrite_module_params_on_conversion()
        stack.callback(torch.__future__.set_overwrite_module_params_on_conversion, before)
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        # Optimisers take all parameters at once on CUDA, if their tensors are of a kind that they know.
        kinds = importlib.import_module("torch.optim.optimizer")._foreach_supported_types
        kinds.append(OnGPU)
        stack.callback(kinds.remove, OnGPU)
        stack.enter_context(Everywhere())
        yield record
    record.raise_fault()
