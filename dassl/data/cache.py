"""Pictures that are decoded once: `Kept` holds training images in memory, `OnDisk` a test set in a file.

Both hold uint8 pictures (H, W, 3) as they are after the first, chance-free steps of a transform, before its step to
float. The further steps get the very bytes that they would get from the image file, so the tensors are the same bits.
"""

import glob
import hashlib
import inspect
import io
import json
import math
import mmap
import os
import time
import zlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import PIL
import torch
from filelock import FileLock  # comes with torch
from PIL import features

from dassl.utils import InputError, mkdir_if_missing, read_image, replace_file, write_json
from dassl.utils.tools import grey_range, opened

if TYPE_CHECKING:
    from torchvision.transforms import Compose

OPENERS = 8  # threads that read the heads of files: they wait for the disk, not for a processor
READER = (read_image, grey_range)  # what decides a picture's bytes
A_TIME = 64  # files that are handed to threads: what comes of a million must not wait in memory
BEGAN = time.time_ns()


def split(transform) -> tuple["Compose", Callable | None, tuple[int, int] | None]:
    """(first, rest, size): `first` has no chance in it and ends in pictures of one `size` (H, W).

    Where a transform does not begin so, `first` has no steps and `size` is None.
    """
    from torchvision.transforms import CenterCrop, Compose, Resize  # takes nearly as long as PyTorch

    steps = transform.transforms if type(transform) is Compose else []
    count, size = 0, None
    for number, step in enumerate(steps, 1):
        if type(step) not in (Resize, CenterCrop):
            break
        if not isinstance(step.size, int) and len(step.size) == 2:  # one number is the short side's
            count, size = number, tuple(step.size)
    return Compose(steps[:count]), Compose(steps[count:]) if count else transform, size


def begins_with_tensor(transform: "Compose") -> bool:
    """Whether the first step takes a picture or its array (H, W, 3), and makes the same tensor of both."""
    from torchvision.transforms import ToTensor

    return bool(transform.transforms) and type(transform.transforms[0]) is ToTensor


def shared_zeros(count: int, dtype: torch.dtype) -> torch.Tensor:
    """(count,) in memory that forked processes write to as well; a spawned one does too, as PyTorch pickles tensors.

    Memory is used up as it is written to. OSError where there is not enough.
    """
    return torch.frombuffer(mmap.mmap(-1, count * dtype.itemsize), dtype=dtype)


class Kept:
    """Pictures in memory that worker processes share: the one that first decodes a picture puts it there.

    `room` bytes hold the first pictures of a list of files. Each has a place of its own, so no lock is needed: all
    that two processes can write there is the same. `size` (H, W) is that of every picture, or None for that of its file.
    """

    def __init__(self, paths: list[str], room: int, size: tuple[int, int] | None):
        self.paths, self.room, self.size = paths, room, size
        self.places: dict[str, int] | None = None  # of the pictures that there is room for
        self.ends: list[int] = []  # of the places, in bytes
        self.memory = self.shapes = None  # (bytes,) uint8, (2 * places,) int32: height and width, 0 until it is there

    def open(self) -> None:
        """Set the places apart; in the main process, before it starts workers. Nothing is decoded."""
        if self.places is not None:
            return
        paths = list(dict.fromkeys(self.paths))  # a file may be listed twice
        self.ends = np.cumsum(self._lengths(paths), dtype=np.int64).tolist()
        self.places = {path: place for place, path in enumerate(paths[: len(self.ends)])}
        if not self.ends or not self.ends[-1]:
            return
        try:
            self.memory = shared_zeros(self.ends[-1], torch.uint8)
            self.shapes = shared_zeros(2 * len(self.ends), torch.int32)
        except OSError as error:
            self._give_up(error)

    def _lengths(self, paths: list[str]) -> list[int]:
        """Bytes of the first pictures, as many as there is room for."""
        if self.size is not None:
            length = 3 * self.size[0] * self.size[1]
            return [length] * min(len(paths), self.room // length)
        lengths, left = [], self.room
        with ThreadPoolExecutor(OPENERS) as pool:
            for start in range(0, len(paths), A_TIME):
                for length in pool.map(decoded_bytes, paths[start : start + A_TIME]):
                    left -= length
                    if left < 0:
                        return lengths
                    lengths.append(length)
        return lengths

    def _place(self, path: str) -> tuple[torch.Tensor, torch.Tensor] | None:
        """The bytes of a picture, (bytes,), and its height and width, (2,)."""
        place = None if self.memory is None else self.places.get(path)
        if place is None:
            return None
        start = self.ends[place - 1] if place else 0
        return self.memory[start : self.ends[place]], self.shapes[2 * place : 2 * place + 2]

    def get(self, path: str) -> np.ndarray | None:
        """(H, W, 3) uint8, to be read only; None if it is not there."""
        place = self._place(path)
        if place is None:
            return None
        height, width = place[1].tolist()
        return place[0].numpy().reshape(height, width, 3) if width else None

    def put(self, path: str, pixels: np.ndarray) -> None:
        """Keep (H, W, 3) uint8, if there is a place for it."""
        place = self._place(path)
        if place is not None and len(place[0]) == pixels.size:
            place[0].numpy()[:] = pixels.reshape(-1)
            place[1].numpy()[:] = pixels.shape[:2]  # from now on it is there

    def _give_up(self, error: Exception) -> None:
        self.memory = None
        print(
            f"Training images are decoded each time, as memory for them is short ({error}); DATALOADER.KEEP_MB bounds it."
        )

    def __getstate__(self) -> dict:
        if self.memory is not None:
            try:
                self.memory.share_memory_()  # as a spawned worker needs it: in /dev/shm, which may be small
            except (OSError, RuntimeError) as error:
                self._give_up(error)
        return vars(self)


def decoded_bytes(path: str) -> int:
    """Of a picture in RGB, told by the head of its file; 0 for a file that cannot be read, which its reader names."""
    try:
        with opened(path) as image:
            return 3 * image.width * image.height
    except InputError:
        return 0


def version_of(path: str) -> str:
    """Bytes and times of change of a file; the last time is the system's own, which nobody sets back."""
    stat = os.stat(path)
    return f"{stat.st_size}\t{stat.st_mtime_ns}\t{stat.st_ctime_ns}"


def sha256_of_versions(paths: Iterable[str], root: str) -> str:
    """Of files, in their order: their paths from `root` on, bytes and times of change."""
    lines = (f"{os.path.relpath(path, root)}\t{version_of(path)}" for path in paths)
    return hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()


def source_of(code) -> str:
    """The text of a function or module, as it runs here. OSError if its file has been written to since, or is gone: what
    stands there then is other code, under whose name nothing may be kept.
    """
    path = inspect.getfile(code)
    if os.stat(path).st_ctime_ns >= BEGAN:
        raise OSError(f"{path} has changed since this program began")
    return inspect.getsource(code)


def files_of(name: str, folder: str) -> list[str]:
    """The files of a data set's lists of images that `OnDisk` has made in a folder."""
    folder = os.path.abspath(os.path.expanduser(folder))
    return glob.glob(os.path.join(glob.escape(folder), f"{glob.escape(name)}-*.npy"))


class OnDisk:
    """All pictures of a list in one file (N, H, W, 3) in `folder`, which the first run makes and all others map.

    The file's name says which list of images it is and how they were made; the JSON beside it says it in full.
    """

    def __init__(self, folder: str, name: str, paths: list[str], root: str, first: "Compose", size, threads: int):
        self.folder, self.root = (os.path.abspath(os.path.expanduser(path)) for path in (folder, root))
        self.rows = {path: row for row, path in enumerate(dict.fromkeys(paths))}
        self.name, self.first, self.shape, self.threads = name, first, (len(self.rows), *size, 3), max(1, threads)
        self.path = ""  # of the file, once it is there
        self.pixels: np.ndarray | None = None
        self.sums: list[int] = []  # of the pictures, by row
        self.tried, self.said, self.broken = False, False, []  # errors of images that cannot be read

    def open(self) -> None:
        """Map the file, made before if it is not there; in the main process, before it starts workers.

        An image that cannot be read is an InputError. A file that cannot be made is not: the run goes on without.
        """
        if self.tried:
            return
        self.tried = True
        try:
            facts = self.facts()
            digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
            self.path = os.path.join(self.folder, f"{self.name}-{digest}.npy")
            self.pixels = self._mapped()
            if self.pixels is None:
                mkdir_if_missing(self.folder)
                print(f"Test images are decoded once, into {self.path}, here or by a run that has begun", flush=True)
                with FileLock(self.path + ".lock"):  # the system frees it if its holder is killed
                    if self._mapped() is None:
                        self._make(facts)
                self.pixels = self._mapped()
        except (OSError, InputError) as error:
            if error in self.broken:
                raise
            print(f"The run goes on without a cache of the test images (DATALOADER.TEST.CACHE_DIR): {error}")
        finally:
            self.path = "" if self.pixels is None else self.path

    def facts(self) -> dict:
        """What the pictures' bytes depend on."""
        import torchvision

        return {
            "images_sha256": sha256_of_versions(self.rows, self.root),
            "shape": list(self.shape),
            "steps": [str(step) for step in self.first.transforms],  # with their sizes and interpolation
            "reader_sha256": hashlib.sha256("".join(map(source_of, READER)).encode()).hexdigest(),
            "pillow": PIL.__version__,
            "libjpeg": features.version("jpg"),
            "torchvision": torchvision.__version__,
            "checksums": "crc32",  # of each picture, little-endian, behind the last
        }

    def _mapped(self) -> np.ndarray | None:
        """The file's pixels if it begins as `_make` writes it and is as long, so that nothing in it needs reading."""
        head, count, size = self._head(), self.shape[0], math.prod(self.shape)
        try:
            with open(self.path, "rb") as file:
                if file.read(len(head)) != head or os.path.getsize(self.path) != len(head) + size + 4 * count:
                    return None
                file.seek(len(head) + size)
                self.sums = np.frombuffer(file.read(), "<u4").tolist()
            # Pages are shared; "c" rather than "r", which PyTorch warns of.
            return np.asarray(np.memmap(self.path, np.uint8, "c", len(head), self.shape))
        except (OSError, ValueError):
            return None

    def _head(self) -> bytes:
        """What NumPy writes before the pixels."""
        head = io.BytesIO()
        np.lib.format.write_array_header_1_0(head, {"descr": "|u1", "fortran_order": False, "shape": self.shape})
        return head.getvalue()

    def _read(self, path: str) -> bytes:
        try:
            return self.first(read_image(path)).tobytes()
        except InputError as error:
            self.broken.append(error)
            raise

    def _make(self, facts: dict) -> None:
        for left in glob.glob(os.path.join(glob.escape(self.folder), f".{os.path.basename(self.path)}.*")):
            os.unlink(left)  # by a run that was killed: nobody else writes while the lock is held

        def write(file) -> None:
            file.write(self._head())
            sums: list[int] = []
            with ThreadPoolExecutor(self.threads) as pool:  # Pillow lets other threads run while it decodes and resizes
                paths = list(self.rows)
                for start in range(0, len(paths), A_TIME):
                    for picture in pool.map(self._read, paths[start : start + A_TIME]):
                        sums.append(zlib.crc32(picture))
                        file.write(picture)
            file.write(np.array(sums, "<u4").tobytes())

        replace_file(self.path, write)
        write_json(facts, self.path.removesuffix(".npy") + ".json")

    def get(self, path: str) -> np.ndarray | None:
        """(H, W, 3) uint8, to be read only; None if it is not there."""
        if self.pixels is None and self.path:  # in a spawned worker
            self.pixels = self._mapped()
        row = self.rows.get(path)
        if self.pixels is None or row is None:
            return None
        if zlib.crc32(self.pixels[row]) != self.sums[row]:  # 0.03 ms for 224 x 224 pixels
            self._say_damaged(path)
            return None
        return self.pixels[row]

    def _say_damaged(self, path: str) -> None:
        if not self.said:
            self.said = True
            print(f"{self.path} is damaged, at {path} first: what is, is decoded again. Remove that file.", flush=True)

    def put(self, path: str, pixels: np.ndarray) -> None:
        """The file is made as a whole, and nothing is added to it."""

    def __getstate__(self) -> dict:
        return {**vars(self), "pixels": None, "sums": []}  # a map would be pickled as a copy
