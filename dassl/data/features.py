"""Tensors that many runs would compute alike, computed by the first and read by all others: `FeatureStore`.

A file holds what one model made of one list of images, or of texts. Its name is a hash of all that its bytes depend on,
which its head says in full. It is written whole or not at all, and its checksum is compared when it is read.
"""

import contextlib
import hashlib
import json
import os
import platform
import zlib
from collections.abc import Callable, Iterator, Sequence

import PIL
import torch
from filelock import FileLock
from PIL import features
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from dassl.utils import InputError, check_folder, mkdir_if_missing, replace_file

from .cache import READER, sha256_of_versions, source_of

Tensors = dict[str, Tensor]
KNOWN = ("torchvision.", "dassl.")  # whose steps of a transform say all that they depend on


class FeatureStore:
    """What has been computed for a data set, in a folder that all runs share; without a folder nothing is kept.

    The first that asks computes, while others that ask for the same wait. A folder that cannot be written to, or that is
    full, does not stop a run.
    """

    def __init__(self, folder: str, name: str, root: str, device: torch.device):
        """`name` and `root` are the data set's."""
        self.folder = os.path.abspath(os.path.expanduser(folder)) if folder else ""
        self.name, self.root, self.device = name, root, device
        if self.folder:
            check_folder("FEATURES.DIR", self.folder)

    def of(self, kind: str, facts: dict | None, compute: Callable[[], Tensors]) -> Tensors:
        """Named tensors on the CPU: `compute()`, or what that gave where `facts` and the machine were the same.

        facts: plain values, all that the tensors' bits depend on but for machine and libraries; None is not kept.
        """
        if not self.folder or facts is None:
            return compute()
        head = json.dumps({"kind": kind, **facts, **machine(self.device)}, sort_keys=True)
        digest = hashlib.sha256(head.encode()).hexdigest()[:20]
        path = os.path.join(self.folder, f"{self.name}-{kind}-{digest}.safetensors")
        if (found := read(path, head)) is not None:
            return found
        with alone(path):
            if (found := read(path, head)) is None:
                found = compute()
                keep(path, found, head)
            return found

    def of_images(self, kind: str, loader, facts: dict | None, compute: Callable[[], Tensors]) -> Tensors:
        """The same of a loader's images, in order; `facts` are those of what computes, as `made_by` gives them."""
        if not self.folder:
            return compute()
        paths = [item.impath for item in loader.dataset.data_source]
        of_images = facts and facts_of_images(paths, self.root, loader.dataset.transform)
        # Products over other batches may differ in their last bits.
        known = facts and of_images and {**of_images, **facts, "batch": loader.batch_size}
        return self.of(kind, known, compute)

    def made_by(self, tensors: Tensors, *sources, **more) -> dict | None:
        """What computes is known by: its tensors, as a module's state, the code of `sources`, and plain values. None where
        that code cannot be told.
        """
        code = sha256_of_sources(*sources)
        return code and {"weights": sha256_of_tensors(tensors), "code": code, **more}


def machine(device: torch.device) -> dict:
    """What else the bits depend on: where they are computed, and by which versions."""
    import torchvision  # takes nearly as long as PyTorch

    if device.type == "cpu":
        name, threads = f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}", torch.get_num_threads()
    else:
        name, threads = torch.cuda.get_device_name(device), 0
    return {
        "device": name,
        "threads": threads,
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "pillow": PIL.__version__,
        "libjpeg": features.version("jpg"),
    }


def facts_of_images(paths: Sequence[str], root: str, transform) -> dict | None:
    """What a list of images, as a transform shows them, is known by; None where an image, the transform or its code cannot be told."""
    from .transforms import steps, transforms  # torchvision comes with them

    all_steps = getattr(transform, "transforms", [transform])
    if not all(type(step).__module__.startswith(KNOWN) for step in all_steps):
        return None
    reader = sha256_of_sources(*READER, steps, transforms)
    try:
        images = sha256_of_versions(paths, os.path.abspath(os.path.expanduser(root)))
    except OSError:  # which its reader names
        return None
    return reader and {"images": images, "steps": [str(step) for step in all_steps], "reader": reader}


def sha256_of(pieces) -> str:
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


def sha256_of_sources(*of) -> str | None:
    """Of the code of functions and modules; None where it is not known what runs (`source_of`)."""
    try:
        return sha256_of(source_of(each).encode() for each in of)
    except OSError as error:
        print(f"What is computed is not kept for other runs (FEATURES.DIR): {error}", flush=True)
        return None


def sha256_of_tensors(tensors: Tensors) -> str:
    """Of names, types, shapes and bytes."""
    heads = (f"{name} {value.dtype} {tuple(value.shape)}\n".encode() for name, value in tensors.items())
    return sha256_of(
        piece for head, value in zip(heads, tensors.values(), strict=True) for piece in (head, bytes_of(value))
    )


def bytes_of(tensor: Tensor) -> memoryview:
    return memoryview(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())


def checksum(tensors: Tensors) -> str:
    crc = 0
    for name in sorted(tensors):
        crc = zlib.crc32(bytes_of(tensors[name]), zlib.crc32(name.encode(), crc))
    return f"{crc:08x}"


# --- files --------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def alone(path: str) -> Iterator[None]:
    """While nobody else makes a file, where that can be had; the system frees the lock of who is killed."""
    lock = FileLock(path + ".lock")
    try:
        mkdir_if_missing(os.path.dirname(path))
        lock.acquire()
    except (OSError, NotImplementedError, InputError):
        lock = None  # keeping the file will say why
    try:
        yield
    finally:
        if lock is not None:
            lock.release()


def read(path: str, head: str) -> Tensors | None:
    """What a file holds; None if it is not there, not whole, or of other facts than those of `head`."""
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            said = file.metadata() or {}
            is_whole = said.get("crc32") == checksum(tensors) and said.get("facts") == head
    except FileNotFoundError:
        return None
    except (OSError, SafetensorError, ValueError):
        is_whole = False
    if is_whole:
        return tensors
    print(f"{path} is damaged: what it held is computed again.", flush=True)
    return None


def keep(path: str, tensors: Tensors, head: str) -> None:
    content = save(
        {name: value.contiguous() for name, value in tensors.items()}, {"facts": head, "crc32": checksum(tensors)}
    )
    try:
        replace_file(path, lambda file: file.write(content))
        print(f"Features are kept for other runs: {path}", flush=True)
    except (OSError, InputError) as error:
        print(f"What was computed is not kept for other runs (FEATURES.DIR): {error}", flush=True)
