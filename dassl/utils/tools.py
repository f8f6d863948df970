"""Files, images, seeds and facts about the machine."""

import difflib
import json
import os
import platform
import random
import sys
import tempfile
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image, ImageOps

from ..errors import InputError


def mkdir_if_missing(dirname: str) -> None:
    try:
        os.makedirs(dirname, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise InputError(
            f"The folder {dirname} cannot be made, because a file is in its way: choose another folder."
        ) from error
    except OSError as error:
        raise InputError(f"The folder {dirname} cannot be made ({error.strerror}): choose another folder.") from error


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


def read_image(path: str) -> Image.Image:
    """An RGB picture, turned as its EXIF orientation says; a file that is no whole picture is named at once.

    Transparency is dropped, as everywhere in the field: a pixel keeps the colour that is stored beneath it.
    """
    try:
        with Image.open(path) as image:
            image = ImageOps.exif_transpose(image)
            if image.mode.startswith("I"):  # 16-bit grey, in which PIL's conversion would make all above 255 white
                image = Image.fromarray((np.asarray(image).clip(0, 65535) / 257).round().astype(np.uint8))
            return image.convert("RGB")
    except FileNotFoundError as error:
        raise InputError(f"The image {path} does not exist: restore it, or take it out of the list.") from error
    except Exception as error:  # decoders fail in many ways
        raise InputError(
            f"The image {path} cannot be read ({error}): fetch it again, or take it out of the list."
        ) from error


def set_random_seed(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    torch.cuda.manual_seed_all(seed)


def tolist_if_not(x) -> list:
    return x if isinstance(x, list) else [x]


def get_most_similar_str_to_a_from_b(a: str, b) -> str:
    """The string among b that is nearest to a."""
    return difflib.get_close_matches(str(a), [str(item) for item in b], n=1, cutoff=0)[0]


def collect_env_info() -> str:
    """What decides numbers and speed, for the log."""
    lines = [
        f"Python {sys.version.split()[0]} on {platform.platform()}",
        f"PyTorch {torch.__version__}, {torch.get_num_threads()} CPU threads of {os.cpu_count()}",
    ]
    if torch.cuda.is_available():
        lines.append(f"CUDA {torch.version.cuda}, GPU {torch.cuda.get_device_name()}")
    return "\n".join(lines)
