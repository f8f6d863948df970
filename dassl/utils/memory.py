"""Memory of a process: how much it has taken at most, and whether an error says that there is none left."""

import errno
import sys

import torch

SAYING_SO = ("out of memory", "can't allocate memory", "not enough memory", "ALLOC_FAILED")  # PyTorch's own words


def peak_memory() -> tuple[float | None, float | None]:
    """MiB: of this process, and of its tensors on the GPU, where there is one."""
    gpu = torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else None
    try:
        import resource
    except ImportError:  # Windows
        return None, gpu
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10), gpu


def is_out_of_memory(error: BaseException) -> bool:
    """Of a GPU's, of PyTorch's on a CPU, of NumPy's or Python's."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    if isinstance(error, RuntimeError):
        return isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in SAYING_SO)
    return isinstance(error, MemoryError)
