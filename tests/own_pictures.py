"""Folders and lists of one's own pictures, and train.py's arguments for them."""

import csv

import numpy as np
from PIL import Image

from tests.helpers import REPOSITORY

COLOURS = {
    "Crimson thing": (200, 20, 20),
    "grass_green": (30, 160, 40),
    "n01": (40, 60, 200),
    "über grey": (90, 90, 90),
}


def picture(path, colour=(0, 0, 0), chance=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = (chance or np.random.default_rng(0)).integers(0, 60, (64, 64, 3)) + np.array(colour)
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)


def folders(root, count=10, parts=("",), names=COLOURS):
    chance = np.random.default_rng(0)
    for part in parts:
        for name in names:
            for index in range(count):
                picture(root / part / name / f"{index}.{'JPG' if index % 2 else 'png'}", COLOURS[name], chance)
    return root


def write_csv(path, *rows):
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


def line(root, output=None, trainer="CoOp", **options):
    config = REPOSITORY / f"configs/trainers/{trainer}/embedded.yaml"
    parts = ["--root", root, "--seed", 1, "--trainer", trainer, "--config-file", config]
    parts += ["--dataset-config-file", REPOSITORY / "configs/datasets/folder.yaml"]
    parts += ["--output-dir", output] if output else []
    parts += [part for key, value in options.items() for part in (key.replace("__", "."), value)]
    return [str(part) for part in parts]
