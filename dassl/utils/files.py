"""Folders and files: made, listed, and replaced as a whole. Nothing here needs PyTorch, NumPy or Pillow."""

import json
import os
import tempfile
from collections.abc import Callable

from ..errors import InputError

__all__ = [
    "check_folder",
    "check_isfile",
    "is_picture",
    "listdir_nohidden",
    "mkdir_if_missing",
    "read_json",
    "replace_file",
    "write_json",
]


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


def listdir_nohidden(path: str, sort: bool = False) -> list[str]:
    names = [name for name in os.listdir(path) if not name.startswith(".")]
    return sorted(names) if sort else names


def replace_file(path: str, write: Callable) -> None:
    """Call `write(file)` on a temporary file beside `path`, then put it in place in one step.

    A kill or a full disk at any moment leaves the former file or the new one, never half of one.
    """
    folder = os.path.dirname(os.path.abspath(path))
    mkdir_if_missing(folder)
    try:
        handle, temporary = tempfile.mkstemp(dir=folder, prefix=f".{os.path.basename(path)}.")
    except OSError as error:
        raise InputError(f"Nothing can be written into {folder} ({error.strerror}): choose another folder.") from error
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:  # torch.save reports a full disk as a RuntimeError
        os.unlink(temporary)
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise InputError(
            f"{path} could not be written ({reason}): is the disk full? What was there before is untouched."
        ) from error
    except BaseException:
        os.unlink(temporary)
        raise


def write_json(obj, fpath: str) -> None:
    text = json.dumps(obj, indent=4, separators=(",", ": ")).encode()
    replace_file(fpath, lambda file: file.write(text))


def read_json(fpath: str):
    with open(fpath, encoding="utf-8") as file:
        return json.load(file)
