"""Before training: is every picture that a run will need whole? A broken one must not show after an hour.

The heads of all files are read. Then files are decoded, training images first, until 500 million pixels have been: some
5 s of one core, and 2,500 photographs of 500 x 400. Of those that are left, a JPEG or PNG file must have its end.
"""

import os
from concurrent.futures import ThreadPoolExecutor

from dassl.utils import InputError, read_image
from dassl.utils.tools import opened

DECODED = 500_000_000  # pixels
THREADS = 8  # they wait for the disk, and decoders let others run
A_TIME = 1024  # files that are handed to threads
ENDS = {"JPEG": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82"}
TAIL = 65536  # bytes in which the end is looked for: some cameras write more behind it
NAMED = 3  # broken images in the sentence


def pictures_needed(cfg, dataset) -> list[str]:
    """Paths of what a training run will open, training images first."""
    parts = set() if cfg.TEST.NO_TEST else {cfg.TEST.SPLIT}
    if cfg.TEST.FINAL_MODEL == "best_val":
        parts.add("val")
    if getattr(dataset, "introduce", False):
        parts.add("val" if dataset.val else "test")
    judging = (getattr(dataset, part) for part in ("val", "test") if part in parts)
    lists = (dataset.train_x, dataset.train_u, *judging)
    return list(dict.fromkeys(item.impath for items in lists for item in items or ()))


def check_pictures(paths: list[str]) -> None:
    """Refuse pictures of which one or more cannot be read."""
    broken = broken_pictures(paths)
    if len(broken) == 1:
        raise next(iter(broken.values()))
    if broken:
        first = next(iter(broken.values()))
        named = ", ".join(list(broken)[1 : NAMED + 1]) + (", ..." if len(broken) > NAMED + 1 else "")
        raise InputError(
            f"{len(broken)} of the {len(paths):,} images that this run needs cannot be read. {str(first)[:-1]}; likewise "
            f"{named}."
        )


def broken_pictures(paths: list[str], decoded: float = DECODED) -> dict[str, InputError]:
    """Path -> what is wrong, in the order of `paths`; `decoded` is how many pixels are decoded."""
    broken: dict[str, InputError] = {}
    with ThreadPoolExecutor(THREADS) as pool:
        for start in range(0, len(paths), A_TIME):
            some, to_decode = paths[start : start + A_TIME], []
            for path, head in zip(some, pool.map(head_of, some), strict=True):
                if isinstance(head, InputError):
                    broken[path] = head
                elif decoded > 0 or not has_end(path, head[0]):
                    to_decode.append(path)
                    decoded -= head[1]
            for path, error in zip(to_decode, pool.map(error_of, to_decode), strict=True):
                if error is not None:
                    broken[path] = error
    return {path: broken[path] for path in paths if path in broken}


def head_of(path: str) -> tuple[str, int] | InputError:
    """(format, pixels), without decoding; or what is wrong."""
    try:
        with opened(path) as image:
            return image.format, image.width * image.height
    except InputError as error:
        return error


def has_end(path: str, kind: str) -> bool:
    """Whether a file ends as its format does; where it does not, it may still be whole."""
    with open(path, "rb") as file:
        file.seek(-min(os.path.getsize(path), TAIL), os.SEEK_END)
        return ENDS.get(kind, b"") in file.read()


def error_of(path: str) -> InputError | None:
    try:
        read_image(path)
    except InputError as error:
        return error
    return None
