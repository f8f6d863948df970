"""Fixtures of all tests: threads, a small benchmark on disk in Caltech101's layout, a GPU that is pretended."""

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.helpers import CLASSES, COLOURS, COUNTS
from tests.pretended_gpu.process import PretendedGPU

# Tests run side by side, and tensors this small are no work for two threads. What is compared to the bit, here or with
# another process, is computed by as many.
os.environ["OMP_NUM_THREADS"] = "1"  # of the processes that tests start
torch.set_num_threads(1)
os.environ["FEATURES_CACHE"] = ""  # a test computes what it tests
# Behind `nohup`, or in the background of a script, signals are ignored, and so they are by all processes that tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(autouse=True)
def one_thread():
    """Whatever a test before did to their number."""
    torch.set_num_threads(1)


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


@pytest.fixture(scope="session")
def pretended_gpu():
    """Calls functions on a GPU that is pretended, in a process of its own: see tests/pretended_gpu."""
    gpu = PretendedGPU()
    yield gpu
    gpu.stop()
