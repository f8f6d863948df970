"""A small benchmark on disk, in Caltech101's layout, and one way to call train.py in this process."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

REPOSITORY = Path(__file__).resolve().parent.parent
CLASSES = ["red", "green", "blue", "dark_grey", "yellow"]  # base: the first three
COLOURS = [(200, 30, 30), (30, 160, 40), (40, 60, 200), (60, 60, 60), (230, 220, 40)]
COUNTS = {"train": 6, "val": 4, "test": 4}


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


def arguments(root, output, trainer="CoOp", seed=1, subsample="base", options=(), **flags) -> list[str]:
    """train.py's arguments for a short run on the small benchmark; `flags` are further --name value pairs."""
    parts = ["--root", root, "--seed", seed, "--trainer", trainer, "--output-dir", output]
    parts += ["--dataset-config-file", REPOSITORY / "configs/datasets/caltech101.yaml"]
    if "config_file" not in flags:
        parts += ["--config-file", REPOSITORY / f"configs/trainers/{trainer}/embedded.yaml"]
    for name, value in flags.items():
        parts += [f"--{name.replace('_', '-')}"] + ([] if value is True else [value])
    if trainer != "ZeroshotCLIP":
        parts += ["DATALOADER.TRAIN_X.BATCH_SIZE", 4, "OPTIM.MAX_EPOCH", 3]
    parts += ["DATASET.NUM_SHOTS", 4, "DATASET.SUBSAMPLE_CLASSES", subsample, *options]
    return [str(part) for part in parts]


def results(output) -> dict:
    return json.loads((Path(output) / "results.json").read_text())
