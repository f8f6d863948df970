"""What a page shows of a run's images: one of each class that is asked for, and what a model looks at in some."""

import contextlib
import io
from collections.abc import Collection
from pathlib import Path

from PIL import ImageOps

from dassl.data.datasets import build_dataset
from dassl.errors import InputError
from dassl.utils import read_image
from trainers.spotlighter.gallery import gallery

from .rebuild import config_of_record, rebuild, record_of_training

METHOD = "Spotlighter"
KIND, QUALITY, SIDE = "image/webp", 70, 88  # pixels: twice what the page shows


def images_of_classes(run: Path, classes: Collection[str]) -> dict[str, bytes]:
    """Class -> a small test image of it, from where the run found its data set."""
    record = record_of_training(run)
    with contextlib.redirect_stdout(io.StringIO()):
        items = build_dataset(config_of_record(record, {})).test
    found: dict[str, bytes] = {}
    for item in items:
        for name in (item.classname, f"{item.classname} [{item.label}]"):  # as a record names classes that share one
            if name in classes and name not in found:
                found[name] = small(item.impath)
    return found


def small(path: str) -> bytes:
    """The middle of an image, as WebP."""
    out = io.BytesIO()
    ImageOps.fit(read_image(path), (SIDE, SIDE)).save(out, "WEBP", quality=QUALITY)
    return out.getvalue()


def check_spotlighter(run: Path, record: dict) -> None:
    """Refuse what is no run of Spotlighter, or one of another file that is called so."""
    method = record["method"]
    if other := (record.get("methods") or {}).get(method):
        method = f"{method}, as {other['file']} has it"
    if method != METHOD:
        raise InputError(f"{run} is a run of {method}, which selects no tokens: pass a training run of {METHOD}.")


def token_pictures(run: Path, number: int) -> list[tuple[str, bytes]]:
    """What the Spotlighter of a training run looks at in so many test images: (what it is, a picture)."""
    check_spotlighter(run, record_of_training(run))
    with contextlib.redirect_stdout(io.StringIO()):
        return list(gallery(rebuild(run), number))
