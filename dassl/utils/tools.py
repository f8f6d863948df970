"""Images, seeds and facts about the machine; the tools for files and names too, which upstream keeps here."""

import contextlib
import os
import platform
import random
import sys
from collections.abc import Iterator

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

from ..errors import InputError
from .files import check_isfile as check_isfile
from .files import listdir_nohidden as listdir_nohidden
from .files import mkdir_if_missing as mkdir_if_missing
from .files import read_json as read_json
from .files import replace_file as replace_file
from .files import write_json as write_json
from .registry import get_most_similar_str_to_a_from_b as get_most_similar_str_to_a_from_b

# Others are not tried, whatever a file is called: some of them are handed to other programs, as EPS is to Ghostscript.
FORMATS = ("JPEG", "PNG", "BMP", "DIB", "GIF", "TIFF", "WEBP", "AVIF", "JPEG2000", "PPM")
MOST_PIXELS = 178_956_970  # of an image, where Pillow refuses too: half a gigabyte in RGB
LONGEST = 1000  # times its width: its short side is enlarged, and its long side with it


def read_image(path: str) -> Image.Image:
    """An RGB picture, turned as its EXIF orientation says; a file that is no whole picture is named at once.

    Transparency is dropped, as everywhere in the field: a pixel keeps the colour that is stored beneath it.
    """
    with opened(path) as image:
        white, inverted = grey_range(image)
        image = ImageOps.exif_transpose(image)
        if white:  # PIL's conversion would make all above 255 white
            grey = (np.asarray(image).clip(0, white) / (white / 255)).round().astype(np.uint8)
            image = Image.fromarray(255 - grey if inverted else grey)
        return image.convert("RGB")


@contextlib.contextmanager
def opened(path: str) -> Iterator[Image.Image]:
    """A picture whose head is read; what fails here, or where it is decoded, is one sentence."""
    if os.path.exists(path) and not os.path.isfile(path):  # to open a pipe would be to wait for who writes into it
        raise InputError(f"The image {path} is no file: take it out of the list.")
    try:
        with Image.open(path, formats=FORMATS) as image:
            if image.width * image.height > MOST_PIXELS or max(image.size) > LONGEST * min(image.size):
                raise Image.DecompressionBombError
            grey_range(image)
            yield image
    except FileNotFoundError as error:
        raise InputError(f"The image {path} does not exist: restore it, or take it out of the list.") from error
    except UnidentifiedImageError as error:
        raise InputError(
            f"The image {path} cannot be read (it is none of {', '.join(FORMATS)}): fetch it again, or take it out of the list."
        ) from error
    except Image.DecompressionBombError as error:
        raise InputError(
            f"The image {path} has more than {MOST_PIXELS:,} pixels, or is more than {LONGEST:,} times as long as wide: save it smaller, "
            "or take it out of the list."
        ) from error
    except NoRange as error:
        raise InputError(f"The image {path} {error}: save it with 8 or 16 unsigned bits a pixel.") from error
    except Exception as error:  # decoders fail in many ways
        raise InputError(
            f"The image {path} cannot be read ({error}): fetch it again, or take it out of the list."
        ) from error


class NoRange(ValueError):
    """Pixels of which no file says what is black and what is white."""


def grey_range(image: Image.Image) -> tuple[int, bool]:
    """(white, whether 0 is white) of a grey picture of more than 8 bits; (0, False) of any other.

    16 bits are 0 to 65535, as the formats say. Of floats, and of signed or 32-bit integers, none says what is white;
    guessed from each picture's own pixels it would be another for each.
    """
    tags = getattr(image, "tag_v2", {})  # a TIFF's: 258 is bits a pixel, 262 is 0 where 0 is white
    if image.mode == "F" or (image.mode == "I" and image.format not in ("PPM", "PNG")):  # those two are of 16 bits
        kind = "floating-point" if image.mode == "F" else "signed or 32-bit integer"
        raise NoRange(f"has {kind} pixels, whose range it does not state")
    if not image.mode.startswith("I"):
        return 0, False
    return (4095 if tags.get(258) == (12,) else 65535), tags.get(262) == 0


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
