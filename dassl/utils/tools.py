"""Images, seeds and facts about the machine; the tools for files and names too, which upstream keeps here."""

import os
import platform
import random
import sys

import numpy as np
import torch
from PIL import Image, ImageOps

from ..errors import InputError
from .files import check_isfile as check_isfile
from .files import listdir_nohidden as listdir_nohidden
from .files import mkdir_if_missing as mkdir_if_missing
from .files import read_json as read_json
from .files import replace_file as replace_file
from .files import write_json as write_json
from .registry import get_most_similar_str_to_a_from_b as get_most_similar_str_to_a_from_b


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


def collect_env_info() -> str:
    """What decides numbers and speed, for the log."""
    lines = [
        f"Python {sys.version.split()[0]} on {platform.platform()}",
        f"PyTorch {torch.__version__}, {torch.get_num_threads()} CPU threads of {os.cpu_count()}",
    ]
    if torch.cuda.is_available():
        lines.append(f"CUDA {torch.version.cuda}, GPU {torch.cuda.get_device_name()}")
    return "\n".join(lines)
