"""Tensors of the pretended GPU, and how an operation on them is carried out."""

import contextlib
import os
import traceback
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from .refusals import check
from .waits import Waits, kind_of_wait

aten = torch.ops.aten
NAME = "gpu"


class Backend:
    """What PyTorch asks of the module `torch.gpu`. Of several devices only the first one ever computes."""

    def __init__(self):
        self.devices = 1  # how many are visible
        self.generators = [torch.Generator() for _ in range(16)]
        self.asked: set[int] = set()  # devices whose random numbers somebody read or put back

    def is_available(self) -> bool:
        return True

    def is_initialized(self) -> bool:
        return True

    def device_count(self) -> int:
        return self.devices

    def current_device(self) -> int:
        return 0

    def _is_in_bad_fork(self) -> bool:
        return False

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.float16, torch.bfloat16]

    def generator(self, device=0) -> torch.Generator:
        index = device if isinstance(device, int) else torch.device(device).index or 0
        self.asked.add(index)
        return self.generators[: self.devices][index]  # an IndexError, as of torch.cuda, where it is not visible

    def get_rng_state(self, device=0) -> torch.Tensor:
        return self.generator(device).get_state()

    def set_rng_state(self, state: torch.Tensor, device=0) -> None:
        self.generator(device).set_state(state)

    def get_rng_state_all(self) -> list[torch.Tensor]:
        return [self.get_rng_state(i) for i in range(self.devices)]

    def set_rng_state_all(self, states) -> None:
        for i, state in enumerate(states):
            self.set_rng_state(state, i)

    def manual_seed(self, seed: int) -> None:
        self.generators[0].manual_seed(seed)

    def manual_seed_all(self, seed: int) -> None:
        for generator in self.generators[: self.devices]:
            generator.manual_seed(seed)


backend = Backend()
backend_registration._setup_privateuseone_for_python_backend(rename=NAME, backend_module=backend)
DEVICE = torch.device(NAME, 0)


class OnGPU(torch.Tensor):
    """A tensor that is on the GPU for all who ask; `inner` holds its numbers."""

    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner: torch.Tensor, number: bool = False):
        return torch.Tensor._make_wrapper_subclass(
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            layout=inner.layout,
            device=DEVICE,
        )

    def __init__(self, inner: torch.Tensor, number: bool = False):
        self.inner, self.number = inner, number  # `number`: the host knows it, as the value of x[mask] = 0.0

    def __repr__(self, **_):
        return f"OnGPU({self.inner!r})"

    def __reduce_ex__(self, protocol):
        """Saved as its numbers; `pretend` has their place written as a GPU's."""
        keep(record.on_gpu, self.inner)
        return self.inner.__reduce_ex__(protocol)

    def numpy(self, *_, **__):
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host memory first.")  # fmt: skip

    __array__ = numpy

    def tolist(self):
        return self.cpu().tolist()

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return carry_out(func, args, kwargs or {})


class Everywhere(TorchDispatchMode):
    """Sees operations without a tensor of the GPU too: those that make one, and copies to it."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return carry_out(func, args, kwargs or {})


class Seen(NamedTuple):
    """What happened while somebody watched."""

    waits: Counter[tuple[str, str]]  # (kind, "path:line") -> how often the host waited for the GPU
    operations: Counter[str]  # on the GPU, such as aten::add

    def shown(self) -> str:
        """The waits, a line each."""
        return "\n".join(f"{count} x {kind} in {place}" for (kind, place), count in sorted(self.waits.items()))


class Record:
    """What is known of the GPU while it is pretended."""

    def __init__(self):
        self.device, self.backend = DEVICE, backend
        self.waits, self.operations = Waits(), Counter()
        self.pinned: dict[int, torch.Tensor] = {}  # address -> a tensor, so that its memory is not given to another
        self.on_gpu: dict[int, torch.Tensor] = {}
        self.fault: Exception | None = None  # of a backward pass

    def raise_fault(self) -> None:
        fault, self.fault = self.fault, None
        if fault is not None:
            raise fault

    @contextlib.contextmanager
    def watched(self) -> Iterator[Seen]:
        """Counts what happens in a block."""
        seen, waits, operations = Seen(Counter(), Counter()), self.waits.counted.copy(), self.operations.copy()
        try:
            yield seen
        finally:
            seen.waits.update(self.waits.counted - waits)
            seen.operations.update(self.operations - operations)


record = Record()


def keep(tensors: dict[int, torch.Tensor], tensor: torch.Tensor) -> None:
    tensors[tensor.untyped_storage().data_ptr()] = tensor


def is_pinned(tensor: torch.Tensor) -> bool:
    return not on_gpu(tensor) and tensor.untyped_storage().data_ptr() in record.pinned


def on_gpu(x) -> bool:
    return isinstance(x, OnGPU)


def carry_out(func, args: tuple, kwargs: dict):
    """Refuse an operation as CUDA would, wait as the host would, and compute it on the CPU."""
    leaves = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
    target = any(map(on_gpu, leaves))
    if func is aten._to_copy.default:
        target = on_gpu(args[0])
    if kwargs.get("device") is not None:
        target = torch.device(kwargs["device"]).type == NAME
    if not target and not any(map(on_gpu, leaves)):
        return func(*args, **kwargs)
    refuse(func, args, kwargs, leaves, target)
    record.operations[func._schema.name] += 1
    if (kind := kind_of_wait(func, args, kwargs, on_gpu, is_pinned)) is not None:
        record.waits.wait(kind)
    out = compute(func, args, kwargs, target)
    if func in (aten._to_copy.default, aten.copy_.default) and kind is None and not target_of(func, args, target):
        source = args[0] if func is aten._to_copy.default else args[1]
        if on_gpu(source):
            keep(record.pinned, out)
            record.waits.send(out, out)
    return given_back(out, leaves, target)


def refuse(func, args: tuple, kwargs: dict, leaves: list[torch.Tensor], target: bool) -> None:
    """Raise what CUDA would; of a backward pass at the next operation after it, for an error within one would end the
    process (a device in Python has no streams, and autograd asks for them on its way out).
    """
    in_backward = torch._C._current_graph_task_id() != -1
    if not in_backward:
        record.raise_fault()
    try:
        check(func, args, kwargs, leaves, on_gpu, target)
    except (RuntimeError, IndexError) as error:
        if not in_backward:
            raise
        record.fault = record.fault or error


def target_of(func, args: tuple, target: bool) -> bool:
    """Whether a copy goes to the GPU."""
    return on_gpu(args[0]) if func is aten.copy_.default else target


def compute(func, args: tuple, kwargs: dict, target: bool):
    """On the CPU; with the GPU's random numbers where its own generator would draw them."""
    if kwargs.get("device") is not None:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    kwargs.pop("pin_memory", None)
    args, kwargs = tree_map(unwrapped, (args, kwargs))
    if torch._C._current_graph_task_id() != -1:
        return computed_in_backward(func, args, kwargs)
    draws = torch.Tag.nondeterministic_seeded in func.tags and kwargs.get("generator") is None
    if not (target and draws):
        return func(*args, **kwargs)
    ours = torch.get_rng_state()
    torch.set_rng_state(backend.get_rng_state())
    try:
        return func(*args, **kwargs)
    finally:
        backend.set_rng_state(torch.get_rng_state())
        torch.set_rng_state(ours)


def computed_in_backward(func, args: tuple, kwargs: dict):
    """An error ends the process there, so its words are written before."""
    try:
        return func(*args, **kwargs)
    except Exception:
        os.write(2, f"In a backward pass, {func}:\n{traceback.format_exc()}".encode())
        raise


def unwrapped(x):
    return x.inner if isinstance(x, OnGPU) else x


def given_back(out, leaves: list[torch.Tensor], target: bool):
    """What was written in place is the tensor that was given; any other result on the GPU is a new one."""

    def one(x):
        if not isinstance(x, torch.Tensor):
            return x
        same = next((leaf for leaf in leaves if unwrapped(leaf) is x), None)
        if same is not None and same.shape != x.shape:
            raise NotImplementedError(
                f"a tensor of the pretended GPU cannot change its shape: {same.shape} to {x.shape}"
            )
        return same if same is not None else OnGPU(x, number=not leaves and x.dim() == 0) if target else x

    return tree_map(one, out)
