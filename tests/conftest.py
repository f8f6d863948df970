"""Fixtures of all tests: threads, and a small benchmark on disk, in Caltech101's layout."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.helpers import CLASSES, COLOURS, COUNTS


@pytest.fixture(autouse=True)
def two_threads():
    torch.set_num_threads(2)


@pytest.fixture(scope="session")
def data_root(tmp_path_factory) -> Path:
    """A data root with a `caltech-101` of five classes: squares of a class's colour on noise, 64 x 64 pixels."""
    root = tmp_path_factory.mktemp("data")
    images = root / "caltech-101" / "101_ObjectCategories"
    rng = np.random.default_rng(0)
    split = {part: [] for part in COUNTS}
    for label, (name, colour) in enumerate(zip(CLASSES, COLOURS, strict=True)):
        (images / name).mkdir(parents=True)
        for part, count in COUNTS.items():
            for index in range(count):
                pixels = rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)
                x, y = rng.integers(4, 28, 2)
                pixels[y : y + 32, x : x + 32] = colour
                path = f"{name}/{part}_{index}.png"
                Image.fromarray(pixels).save(images / path)
                split[part].append([path, label, name])
    (root / "caltech-101" / "split_zhou_Caltech101.json").write_text(json.dumps(split))
    return root
