"""The pictures that the runs train on: a coloured square on noise, a class folder each, so that a run takes seconds."""

from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = {
    "red": (200, 30, 30),
    "green": (30, 160, 40),
    "blue": (40, 60, 200),
    "grey": (90, 90, 90),
    "yellow": (230, 220, 40),
    "brown": (120, 70, 30),
}
IMAGES = 16  # a class, of which datasets/folder.py trains on half
SIDE, SQUARE = 64, 24  # pixels


def draw(root: Path) -> Path:
    """Write them below `root`, which is returned; the same ones each time."""
    chance = np.random.default_rng(0)
    for name, colour in COLOURS.items():
        (root / name).mkdir(parents=True)
        for number in range(IMAGES):
            pixels = chance.integers(0, 255, (SIDE, SIDE, 3))
            x, y = chance.integers(0, SIDE - SQUARE, 2)
            pixels[y : y + SQUARE, x : x + SQUARE] = (pixels[y : y + SQUARE, x : x + SQUARE] + np.array(colour)) // 2
            Image.fromarray(pixels.astype(np.uint8)).save(root / name / f"{number}.png")
    return root
