"""Fetch a file from the places that have it, see that it is whole, unpack it where nothing can escape.

HTTP (resuming, retries, the bar) is clip/download.py's, Google Drive is gdown's, unpacking is the standard library's.
"""

import glob
import gzip
import hashlib
import os
import shutil
import stat
import sys
import tarfile
import zipfile
import zlib

from tqdm import tqdm

from dassl.utils import InputError, mkdir_if_missing

from ..sources import Way

BROKEN = (tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, EOFError, zlib.error)
BROKEN += (RuntimeError, ValueError, KeyError)  # encrypted, nonsense, a link to nothing


def fetch(way: Way, folder: str, by_hand: str) -> str:
    """The path in `folder` of what `way` leads to, whole; what has come of it so far is kept there as `.part`.

    `by_hand` is where the user may put it instead. Ways to the same bytes go on with each other's parts.
    """
    mkdir_if_missing(folder)
    path = path_of_download(way, folder)
    part = f"{path}.part"
    if os.path.isfile(path):
        return path
    if way.url.startswith("drive:"):
        receive_from_drive(way.url.removeprefix("drive:"), part, by_hand)
    else:
        receive_over_http(way.url, part, by_hand)
    if wrong := what_is_wrong(part, way):
        os.unlink(part)
        raise InputError(f"{web_address(way)} gave a wrong file ({wrong}), which was thrown away.")
    os.replace(part, path)
    return path


def path_of_download(way: Way, folder: str) -> str:
    return os.path.join(folder, hashlib.sha256((way.digest or way.url).encode()).hexdigest()[:8])


def come_so_far(way: Way, folder: str) -> int:
    """Bytes; gdown's parts have a few letters more in their names."""
    return sum(map(os.path.getsize, glob.glob(f"{glob.escape(path_of_download(way, folder))}*")))


def receive_over_http(url: str, part: str, by_hand: str) -> None:
    import clip.download  # only here: PyTorch comes with it, which takes seconds

    try:
        clip.download.receive_all(url, part, by_hand)
    except clip.InputError as error:
        raise InputError(str(error)) from error


def receive_from_drive(file_id: str, part: str, by_hand: str) -> None:
    try:
        import gdown  # only here: few runs need it

        gdown.download(id=file_id, output=part, quiet=not sys.stderr.isatty(), resume=True, timeout=30, retries=4)
        if not os.path.isfile(part):
            raise FileNotFoundError("nothing came")
    except Exception as error:  # the network, quotas, permissions, a changed page: gdown fails in many ways
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"Google Drive did not give {web_address(Way(f'drive:{file_id}'))} ({reason}): try again later, or fetch it "
            f"with a browser and put it there as {by_hand}."
        ) from error


def web_address(way: Way) -> str:
    """What a browser opens."""
    if way.url.startswith("drive:"):
        return f"https://drive.google.com/file/d/{way.url.removeprefix('drive:')}/view"
    return way.url


def what_is_wrong(path: str, way: Way) -> str:
    """How a file differs from what is known of it; empty if it does not."""
    size = os.path.getsize(path)
    if way.size and size != way.size:
        return f"{size:,} bytes in place of {way.size:,}"
    kind, _, wanted = way.digest.partition(":")
    if wanted and digest_of(path, kind) != wanted:
        return f"its {kind.upper()} is wrong"
    return ""


def digest_of(path: str, kind: str = "sha256") -> str:
    digest = hashlib.new(kind)
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


class NoRoom(InputError):
    """The disk is too full."""


def check_space(folder: str, needed: float, what: str) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise NoRoom(
            f"{what} needs {needed / 1e9:.1f} GB in {folder}, where {free / 1e9:.1f} GB are free: make room, or choose "
            "another --root."
        )


def unpack(archive: str, folder: str) -> None:
    """Unpack a .zip, .tar, .tar.gz or .tgz (told by its bytes) into an empty folder; refuse what would leave it."""
    if not hasattr(tarfile, "data_filter"):
        raise InputError("This Python cannot unpack a tar archive safely: use 3.10.12, 3.11.4, 3.12 or a newer one.")
    os.makedirs(folder)
    with open(archive, "rb") as file:  # zipfile.is_zipfile would find a zip at the end of a tar
        zipped = file.read(2) == b"PK"
    try:
        if zipped:
            unpack_zip(archive, folder)
        else:
            with (
                open(archive, "rb") as file,
                tqdm.wrapattr(file, "read", os.path.getsize(archive), desc="unpacking", disable=None) as bytes_read,
                tarfile.open(fileobj=bytes_read, mode="r:*") as tar,
            ):
                tar.extractall(folder, filter="data")  # refuses paths and links that lead outside, and devices
    except InputError:
        raise
    except BROKEN as error:
        raise InputError(f"{archive} cannot be unpacked ({' '.join(str(error).split())}): fetch it again.") from error


def unpack_zip(archive: str, folder: str) -> None:
    with zipfile.ZipFile(archive) as file:
        entries = file.infolist()
        for entry in entries:  # zipfile would put them inside under another name
            pieces = entry.filename.replace("\\", "/").split("/")
            link = stat.S_ISLNK(entry.external_attr >> 16)
            if link or ".." in pieces or not pieces[0] or ":" in pieces[0]:
                raise ValueError(f"{entry.filename} is a link, or leads outside")
        check_space(folder, sum(entry.file_size for entry in entries), archive)
        for entry in tqdm(entries, desc="unpacking", unit="file", disable=None):
            file.extract(entry, folder)
