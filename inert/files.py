"""The two formats of `torch.save`: a zip archive, and before PyTorch 1.6 a row of pickles with the numbers behind them."""

import functools
import io
import os
import struct
import zipfile
import zlib

import torch

from . import scripts
from .pickles import RecordUnpickler, Stored, Values, check_program

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # what the older format begins with
LONGEST_CODE = 2**24  # bytes
AGAIN = "fetch or copy it again"


class Unreadable(ValueError):
    """Why a file is not read, to be put behind its name (`reason`), and what helps (`remedy`)."""

    def __init__(self, reason: str, remedy: str = AGAIN):
        super().__init__(f"{reason}: {remedy}")
        self.reason, self.remedy = reason, remedy


CUT_SHORT = "is cut short"


def load(path: str | os.PathLike):
    """What `torch.save` wrote, on the CPU; `Inert` stands for every object but tensors and plain values.

    The numbers are those of `torch.load`, bit by bit. A TorchScript archive gives its module's state dict. Raises Unreadable.
    """
    try:
        with open(path, "rb") as file:
            return read(file, os.path.getsize(path))
    except Unreadable:
        raise
    except OSError as error:
        raise Unreadable(f"cannot be opened ({error.strerror or error})", "correct its path or its rights") from error
    except Exception as error:  # a file can be wrong in any way
        raise Unreadable(f"is damaged ({type(error).__name__}: {' '.join(str(error).split())[:120]})") from error


def read(file, size: int):
    start = file.read(512)
    file.seek(0)
    if start.startswith(b"PK\x03\x04"):
        return read_archive(file, size)
    if start.startswith(b"\x80"):
        return read_row(file, size)
    raise Unreadable(*what_it_is(start))


def what_it_is(start: bytes) -> tuple[str, ...]:
    """Reason and remedy for the files that are taken for a checkpoint."""
    if not start:
        return ("is empty",)
    if start.lstrip().startswith(b"<"):
        return "is a web page and no checkpoint", "download the file itself"
    if start.startswith(b"version https://git-lfs"):
        return "is a Git LFS pointer and not the file that it stands for", "run `git lfs pull` where it comes from"
    if start[257:262] == b"ustar":
        return "is a tar file, the format of PyTorch before 0.1.10 or a packed folder", "unpack it, or save it anew"
    return "is no file of torch.save", "give one that is"


# --- the zip archive --------------------------------------------------------------------------------------------


class Archive:
    """The parts of a `torch.save` archive by name. They are stored as they are, so they are read without unpacking."""

    def __init__(self, file, size: int):
        if not zipfile.is_zipfile(file):  # its table of contents comes last
            raise Unreadable(CUT_SHORT)
        self.file, self.size, self.unread = file, size, size
        self.zip = zipfile.ZipFile(file)
        self.parts = {info.filename: info for info in self.zip.infolist()}
        pickles = [name for name in self.parts if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise Unreadable("is a zip archive that torch.save did not write", "give one that it wrote")
        self.folder = pickles[0].removesuffix("data.pkl")

    def __contains__(self, name: str) -> bool:
        return self.folder + name in self.parts

    def find(self, name: str) -> int:
        """Go to where a part begins; how many bytes it has."""
        info = self.parts[self.folder + name]
        if info.compress_type != zipfile.ZIP_STORED:
            raise Unreadable("has been packed anew, compressed", "take the file as it was, or save it anew")
        self.file.seek(info.header_offset)
        header = self.file.read(30)  # two of its fields, the last, are the lengths of what follows it
        self.file.seek(sum(struct.unpack("<HH", header[26:])), os.SEEK_CUR)
        self.unread -= info.file_size
        if self.file.tell() + info.file_size > self.size or self.unread < 0:
            raise Unreadable("is damaged (its parts are larger than it is)")
        return info.file_size

    def check(self, name: str, content) -> None:
        """Compare a part with its checksum, which torch.save writes unless it is told not to: it is 0 then."""
        stated = self.parts[self.folder + name].CRC
        if stated not in (0, zlib.crc32(content)):
            raise Unreadable(f"is damaged (the checksum of its part {name} is another)")

    def bytes(self, name: str) -> bytes:
        content = self.file.read(self.find(name))
        self.check(name, content)
        return content

    def text(self, name: str) -> str:
        """A part that is packed: code, which is short."""
        with self.zip.open(self.parts[self.folder + name]) as part:
            return part.read(LONGEST_CODE).decode()

    def storage(self, name: str) -> torch.UntypedStorage:
        numbers = read_numbers(self.file, self.find(f"data/{name}"))
        self.check(f"data/{name}", numbers.numpy())
        return numbers.untyped_storage()


def read_archive(file, size: int):
    archive = Archive(file, size)
    if "byteorder" in archive and archive.bytes("byteorder") != b"little":
        raise Unreadable("was written on a machine with the other byte order", "save it anew on this one")
    data = archive.bytes("data.pkl")
    tree, _ = next_pickle(io.BytesIO(data), len(data))
    values = Values(functools.cache(archive.storage))
    if "constants.pkl" in archive:
        return scripts.state_dict(tree, values, functools.cache(archive.text))
    return values.value(tree)


# --- the older format -------------------------------------------------------------------------------------------


def read_row(file, size: int):
    """Magic number, protocol, machine, the object, the names of its storages, and each one's length and numbers."""
    try:
        if next_pickle(file, size)[0] != MAGIC or next_pickle(file, size)[0] != PROTOCOL:
            raise Unreadable("is a pickle that torch.save did not write", "give a file that it wrote")
        next_pickle(file, size)
        tree, stored = next_pickle(file, size)
        widths = {name: dtype.itemsize for name, dtype, _ in (one.parts() for one in stored)}
        storages = {name: next_storage(file, size, widths[name]) for name in next_pickle(file, size)[0]}
    except (EOFError, struct.error) as error:
        raise Unreadable(CUT_SHORT) from error
    return Values(storages.__getitem__).value(tree)


def next_storage(file, size: int, width: int) -> torch.UntypedStorage:
    (count,) = struct.unpack("<q", file.read(8))
    if not 0 <= count * width <= size - file.tell():
        raise EOFError
    return read_numbers(file, count * width).untyped_storage()


# --- both -------------------------------------------------------------------------------------------------------


def next_pickle(file, size: int) -> tuple[object, list[Stored]]:
    """The next pickle's tree of records, and the storages that it refers to; EOFError if the file ends before it."""
    try:
        check_program(file, size)
        unpickler = RecordUnpickler(file)
        return unpickler.load(), unpickler.stored
    except Exception as error:
        if file.tell() >= size:
            raise EOFError from error
        raise


def read_numbers(file, nbytes: int) -> torch.Tensor:
    """(nbytes,) uint8"""
    numbers = torch.empty(nbytes, dtype=torch.uint8)
    if file.readinto(numbers.numpy()) != nbytes:
        raise EOFError
    return numbers
