"""Fetch a file from the places that have it, and see that it is whole.

HTTP (resuming, retries, the bar) is clip/download.py's, Google Drive is gdown's.
"""

import glob
import hashlib
import os
import shutil
import sys

from dassl.utils import InputError, mkdir_if_missing

from ..sources import Way


def fetch(way: Way, folder: str, by_hand: str, at_most: int) -> str:
    """The path in `folder` of what `way` leads to, whole; what has come of it so far is kept there as `.part`.

    `by_hand` is where the user may put it instead, `at_most` how many bytes it may have. Ways to the same bytes go on with each other's parts.
    """
    mkdir_if_missing(folder)
    path = path_of_download(way, folder)
    part = f"{path}.part"
    if os.path.isfile(path):
        return path
    if way.url.startswith("drive:"):
        receive_from_drive(way.url.removeprefix("drive:"), part, by_hand, at_most)
    else:
        receive_over_http(way.url, part, by_hand, at_most)
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


def receive_over_http(url: str, part: str, by_hand: str, at_most: int) -> None:
    import clip.download  # only here: PyTorch comes with it, which takes seconds

    try:
        clip.download.receive_all(url, part, by_hand, at_most)
    except clip.InputError as error:
        raise InputError(str(error)) from error


def receive_from_drive(file_id: str, part: str, by_hand: str, at_most: int) -> None:
    def check(size: int, total: int | None) -> None:
        if max(size, total or 0) > at_most:
            raise ValueError(f"it is more than {at_most:,} bytes")

    try:
        import gdown  # only here: few runs need it

        gdown.download(
            id=file_id, output=part, quiet=not sys.stderr.isatty(), resume=True, timeout=30, retries=4, progress=check
        )
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


def check_remembered(found: str, called: str) -> None:
    """Refuse a file of which nobody states a SHA-256, where another came before under its name."""
    if (kept := remembered_hash(called)) and kept != found:
        raise InputError(
            f"{os.path.basename(called)} came before with another SHA-256, which {called}.sha256 holds: remove that file if "
            f"the new one is right (it has {found})."
        )


def remember_hash(found: str, called: str) -> None:
    """Say the SHA-256 of such a file, and keep it as `called`.sha256, in the format of `sha256sum -c`."""
    name = os.path.basename(called)
    print(f"{name}: nobody states its SHA-256; it is {found}, kept in {name}.sha256", flush=True)
    with open(f"{called}.sha256", "w") as file:
        file.write(f"{found}  {name}\n")


def remembered_hash(called: str) -> str:
    """The SHA-256 that was kept when a file came; empty if none was."""
    try:
        with open(f"{called}.sha256", encoding="utf-8") as file:
            return file.read().split(maxsplit=1)[0]
    except (OSError, UnicodeDecodeError, IndexError):
        return ""


class NoRoom(InputError):
    """The disk is too full."""


def check_space(folder: str, needed: float, what: str) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise NoRoom(
            f"{what} needs {needed / 1e9:.1f} GB in {folder}, where {free / 1e9:.1f} GB are free: make room, or choose "
            "another --root."
        )
