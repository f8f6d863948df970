"""Folders and files: made, listed, and replaced as a whole. Nothing here needs PyTorch, NumPy or Pillow."""

import contextlib
import json
import os
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO

from ..errors import InputError

__all__ = [
    "NotJSON",
    "check_folder",
    "check_isfile",
    "is_picture",
    "listdir_nohidden",
    "mkdir_if_missing",
    "read_json",
    "replace_file",
    "write_json",
]

TEMPORARY = ".part"  # the end of the name of a file that is being written

PICTURES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib", ".gif", ".tif", ".tiff", ".webp", ".avif", ".jp2", ".ppm",
    ".pgm", ".pbm", ".pnm",
)  # fmt: skip


def is_picture(name: str) -> bool:
    """Whether a file's name is that of a picture, which Pillow opens; hidden ones are none."""
    return name.lower().endswith(PICTURES) and not name.startswith(".")


def mkdir_if_missing(dirname: str) -> None:
    try:
        os.makedirs(dirname, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise InputError(
            f"The folder {dirname} cannot be made, because a file is in its way: choose another folder."
        ) from error
    except OSError as error:
        raise InputError(f"The folder {dirname} cannot be made ({error.strerror}): choose another folder.") from error


def check_folder(name: str, path: str | os.PathLike) -> None:
    """What is there of a folder's path is folders, and may be written to; `name` is the option that gives the path."""
    above = os.path.abspath(os.path.expanduser(path))
    while not os.path.lexists(above):
        above = os.path.dirname(above)
    if not os.path.isdir(above):
        raise InputError(f"{name} {path} cannot be a folder, because {above} is a file: choose another one.")
    if not os.access(above, os.W_OK | os.X_OK):
        raise InputError(f"{name} {path}: nothing may be written to {above}: choose another one.")


def check_isfile(fpath: str) -> bool:
    """Whether a file exists; says so if not."""
    found = os.path.isfile(fpath)
    if not found:
        print(f'No file found at "{fpath}"')
    return found


def real_paths(paths: Iterable[str]) -> Iterator[str]:
    """Where each file lies, through links; each folder is asked for once, as there may be a million files."""
    folders = {}
    for path in paths:
        above, name = os.path.split(path)
        if above not in folders:
            real = os.path.realpath(above)
            folders[above] = (os.path.join(real, ""), links_in(real))
        folder, links = folders[above]
        yield os.path.realpath(folder + name) if name in links else folder + name


def links_in(folder: str) -> set[str]:
    """The names of the links in a folder; none where it cannot be listed."""
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries if entry.is_symlink()}
    except OSError:
        return set()


def listdir_nohidden(path: str, sort: bool = False) -> list[str]:
    names = [name for name in os.listdir(path) if not name.startswith(".")]
    return sorted(names) if sort else names


def replace_file(path: str, write: Callable) -> None:
    """Call `write(file)` on a temporary file beside `path`, then put it in place in one step.

    A kill, a full disk or a power cut at any moment leaves the former file or the new one, never half of one.
    """
    folder = os.path.dirname(os.path.abspath(path))
    mkdir_if_missing(folder)
    try:
        remove_leftovers(folder, os.path.basename(path), older=3600.0)
        temporary, file = new_file(folder, os.path.basename(path))
    except OSError as error:
        raise InputError(f"Nothing can be written into {folder} ({error.strerror}): choose another folder.") from error
    try:
        with file:
            write(file)
            file.flush()
            os.fsync(file.fileno())  # the bytes are to be there before the name is
        os.replace(temporary, path)
        sync_folder(folder)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        if (interrupt := interrupt_in(error)) is not None:
            raise interrupt from None
        if not isinstance(error, OSError | RuntimeError):  # torch.save reports a full disk as a RuntimeError
            raise
        if isinstance(error, IsADirectoryError):
            raise InputError(f"{path} could not be written: a folder is in its place. Move it away.") from error
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise InputError(
            f"{path} could not be written ({reason}): is the disk full? What was there before is untouched."
        ) from error


def new_file(folder: str, name: str) -> tuple[str, BinaryIO]:
    """A file that nobody else writes, beside the one it is to become, with the rights that the user's umask leaves."""
    path = os.path.join(folder, f".{name}.{secrets.token_hex(4)}{TEMPORARY}")
    return path, os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666), "wb")


def sync_folder(folder: str) -> None:
    """So that a power cut does not take back the names that were put into it; some file systems cannot."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def remove_leftovers(folder: str, name: str = "", older: float = 0.0) -> None:
    """What killed processes have left of `replace_file` (of one file), if it is older than so many seconds."""
    with os.scandir(folder) as entries:
        left = [entry.path for entry in entries if is_temporary(entry.name, name)]
    for path in left:
        with contextlib.suppress(FileNotFoundError):
            if time.time() - os.stat(path).st_mtime >= older:
                os.unlink(path)


def is_temporary(entry: str, name: str = "") -> bool:
    return entry.startswith(f".{name}") and entry.endswith(TEMPORARY)


def interrupt_in(error: BaseException | None) -> BaseException | None:
    """The interrupt that an error came of: PyTorch's writer turns it into an error of its own."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt | SystemExit):
            return error
        error = error.__cause__ or error.__context__
    return None


def write_json(obj, fpath: str) -> None:
    text = json.dumps(obj, indent=4, separators=(",", ": ")).encode()
    replace_file(fpath, lambda file: file.write(text))


DEEPEST = 50  # levels of a JSON file


class NotJSON(ValueError):
    """Why a file is none that is read here, in a few words."""


def read_json(fpath: str | os.PathLike):
    """What a JSON file says. NotJSON where it is not UTF-8 or no JSON, has a name twice, or too many levels."""
    with open(fpath, "rb") as file:
        data = file.read()
    try:
        content = json.loads(data.decode(), object_pairs_hook=each_once)
    except RecursionError as error:
        raise NotJSON("it has too many levels") from error
    except UnicodeDecodeError as error:
        raise NotJSON(f"byte {error.start} is no UTF-8") from error
    except ValueError as error:
        raise NotJSON(str(error)) from error
    if levels_of(content) > DEEPEST:
        raise NotJSON(f"it has more than {DEEPEST} levels")
    return content


def each_once(pairs: list[tuple]) -> dict:
    """A JSON object; of a name that stands twice nobody knows which value was meant."""
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"it says {next(name for name in names if names.count(name) > 1)!r} twice")
    return content


def levels_of(content) -> int:
    """How deep its lists and objects are nested."""
    count, inside = 0, [content]
    while inside := [node for node in inside if isinstance(node, dict | list)]:
        count += 1
        inside = [inner for node in inside for inner in (node.values() if isinstance(node, dict) else node)]
    return count
