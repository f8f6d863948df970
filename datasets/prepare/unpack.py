"""Unpack an archive so that nothing gets outside, fills the disk or takes another's place.

All lands in a folder that is made for it. Files and folders alone are made there, under names that are checked piece by
piece, and never over one that is there: without a link, no name leads elsewhere. What an archive is, its first bytes say.
"""

import bz2
import contextlib
import errno
import gzip
import lzma
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from typing import BinaryIO

from tqdm import tqdm

from dassl.utils import InputError

from .download import check_space

GROWS = 10  # times its own size, that an archive may have unpacked: pictures hardly shrink, lists of names by five
SMALL = 100_000_000  # bytes that any archive may have unpacked
DEEPEST = 50  # folders in folders
SHOWN = 100  # letters of a name in a sentence
A_TIME = 1 << 20  # bytes

BROKEN = (tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, lzma.LZMAError, EOFError, zlib.error)
BROKEN += (RuntimeError, ValueError, KeyError, NotImplementedError)  # encrypted, nonsense, an unknown compression
BROKEN += (OverflowError, MemoryError)  # sizes that are none
COMPRESSED = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}
ZIP = (b"PK\x03\x04", b"PK\x05\x06")  # its first bytes, with and without files


class Refused(InputError):
    """An archive that would do harm; not to be fetched again from the same place."""

    def __init__(self, archive: str, why: str):
        super().__init__(f"{archive} cannot be unpacked, as {why}: take it from another place.")


def unpack(archive: str, folder: str) -> None:
    """Unpack a .zip, or a .tar that may be compressed, into a folder that does not exist yet."""
    os.makedirs(folder)
    with open(archive, "rb") as file:
        head = file.read(8)
    target = Target(archive, folder)
    try:
        if head.startswith(ZIP):
            unpack_zip(archive, target)
        else:
            unpack_tar(
                archive, target, next((opens for magic, opens in COMPRESSED.items() if head.startswith(magic)), None)
            )
    except (*BROKEN, OSError) as error:
        if isinstance(error, InputError) or (isinstance(error, OSError) and error.errno):  # bz2's have no number
            raise
        raise InputError(f"{archive} cannot be unpacked ({' '.join(str(error).split())}): fetch it again.") from error


def unpack_tar(archive: str, target: "Target", decompress: Callable | None) -> None:
    with (
        open(archive, "rb") as file,
        tqdm.wrapattr(file, "read", os.path.getsize(archive), desc="unpacking", disable=None) as bytes_read,
        decompress(bytes_read) if decompress else contextlib.nullcontext(bytes_read) as plain,
        tarfile.open(fileobj=Counted(plain, target), mode="r|", bufsize=A_TIME) as tar,
    ):
        for member in tar:
            if member.isdir():
                target.make_folder(member.name)
            elif member.isreg() and not member.issparse():
                target.write(member.name, member.size, tar.extractfile(member))
            else:
                target.refuse(member.name, "is a link" if member.issym() or member.islnk() else NO_FILE)


def unpack_zip(archive: str, target: "Target") -> None:
    with zipfile.ZipFile(archive) as file:
        entries = file.infolist()
        target.count(sum(entry.file_size for entry in entries))
        for entry in tqdm(entries, desc="unpacking", unit="file", disable=None):
            kind = stat.S_IFMT(entry.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                target.refuse(entry.filename, "is a link" if kind == stat.S_IFLNK else NO_FILE)
            if entry.is_dir():
                target.make_folder(entry.filename)
            else:
                with file.open(entry) as content:
                    target.write(entry.filename, entry.file_size, content)


NO_FILE = "is neither a file nor a folder"


class Target:
    """The new folder that one archive is unpacked to."""

    def __init__(self, archive: str, folder: str):
        self.archive, self.folder = archive, os.path.realpath(folder)
        self.room = max(GROWS * os.path.getsize(archive), SMALL)

    def refuse(self, name: str, why: str):
        raise Refused(self.archive, f"{name[:SHOWN]!r} in it {why}")

    def count(self, size: int) -> None:
        """Take note of bytes that come out of the archive."""
        self.room -= size
        if self.room < 0:
            times = f"{GROWS} times its size and more than {SMALL / 1e6:.0f} MB"
            raise Refused(self.archive, f"it is more than {times} when unpacked")

    def pieces(self, name: str) -> list[str]:
        """A member's name as folders and a name, whichever way the slashes go."""
        pieces = name.replace("\\", "/").split("/")
        if not pieces[0] or ":" in pieces[0] or ".." in pieces or "\0" in name:
            self.refuse(name, "leads outside")
        pieces = [piece for piece in pieces if piece not in ("", ".")]
        if len(pieces) > DEEPEST:
            self.refuse(name, f"lies in more than {DEEPEST} folders")
        return pieces

    def make_folder(self, name: str) -> None:
        self._make(name, self.pieces(name))

    def _make(self, name: str, pieces: list[str]) -> str:
        path = os.path.join(self.folder, *pieces)
        try:
            with self.named(name):
                os.makedirs(path, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            self.refuse(name, "lies in a file, or is one too")
        if os.path.realpath(path) != path:
            self.refuse(name, "leads outside")
        return path

    @contextlib.contextmanager
    def named(self, name: str):
        """Refuse a name that is too long for the disk."""
        try:
            yield
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            self.refuse(name, "has too long a name")

    def write(self, name: str, size: int, content: BinaryIO) -> None:
        """Make a file of `size` bytes that no other member has made."""
        *folders, last = self.pieces(name) or [""]
        check_space(self.folder, size, os.path.basename(self.archive))
        try:
            path = os.path.join(self._make(name, folders), last)
            with self.named(name), open(path, "xb") as file:
                while block := content.read(A_TIME):
                    file.write(block)
        except FileExistsError:
            self.refuse(name, "is there twice, or under two names that this disk cannot tell apart")
        except IsADirectoryError:
            self.refuse(name, "has no name")


class Counted:
    """A stream whose bytes, heads of members among them, are counted for a target."""

    def __init__(self, stream: BinaryIO, target: Target):
        self.stream, self.target = stream, target

    def read(self, size: int) -> bytes:
        block = self.stream.read(size)
        self.target.count(len(block))
        return block
