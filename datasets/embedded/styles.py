"""How the embedded world's pictures may look: styles that pre-training has seen, and shifts that it has not.

Images are (n, 3, S, S) in [0, 1], before they are cut off and made uint8.
"""

import numpy as np

from .atlas import S

STYLES = ("photo", "sketch", "noisy photo", "dark photo", "blurry photo", "negative")


def mean_colour(image: np.ndarray) -> np.ndarray:
    """(n, 3, S, S) -> (n, 3); summed over integers, so that no order of summation shows."""
    return ((image * 1023).astype(np.int64).sum(axis=(2, 3)) / (1023 * S * S)).astype(np.float32)


def around_mean(image: np.ndarray, contrast) -> np.ndarray:
    mean = mean_colour(image)[:, :, None, None]
    return mean + (image - mean) * contrast


def uniform(rng, low, high, n: int) -> np.ndarray:
    """(n, 1, 1, 1) float32, to scale images with."""
    return rng.uniform(low, high, (n, 1, 1, 1)).astype(np.float32)


def blur(image: np.ndarray, times: int) -> np.ndarray:
    """A 1-2-1 filter along both sides, some times over."""
    for _ in range(times):
        for axis in (3, 2):
            pad = [(0, 0)] * 4
            pad[axis] = (1, 1)
            p = np.pad(image, pad, "edge")
            before, here, after = (np.take(p, range(o, o + S), axis=axis) for o in range(3))
            image = (before + 2 * here + after) * np.float32(0.25)
    return image


def sketch(image: np.ndarray) -> np.ndarray:
    """Dark lines on white where brightness changes."""
    grey = ((image[:, 0] + image[:, 1] + image[:, 2]) / np.float32(3))[:, None]
    gx = np.abs(np.diff(grey, axis=3, append=grey[..., -1:]))
    gy = np.abs(np.diff(grey, axis=2, append=grey[:, :, -1:]))
    return np.repeat(1 - np.clip((gx + gy) * np.float32(2.2), 0, 1), 3, axis=1)


def add_noise(rng, image: np.ndarray, amount: float) -> np.ndarray:
    return image + rng.standard_normal(image.shape, np.float32) * np.float32(amount)


def in_style(rng, image: np.ndarray, style: np.ndarray) -> np.ndarray:
    change = {
        "sketch": sketch,
        "noisy photo": lambda z: add_noise(rng, z, 0.12),
        "dark photo": lambda z: z * uniform(rng, 0.3, 0.5, len(z)),
        "blurry photo": lambda z: blur(z, 3),
        "negative": lambda z: 1 - z,
    }
    for index, name in enumerate(STYLES):
        rows = style == index
        if name in change and rows.any():
            image[rows] = change[name](image[rows])
    return image


def shift(tint=(1, 1, 1), blurred=0, noise=0.0, contrast=1.0, grey=0.0, light=0.0, spots=0, coarse=1):
    """A way to differ from pre-training, for `draw`: what was seen there in another light, through another lens.

    `light` is the strength of a brightness ramp in a random direction, `spots` a number of dark squares that
    cover a part, `coarse` the side in pixels of the blocks that remain.
    """

    def apply(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
        n = len(image)
        mean = ((image[:, 0] + image[:, 1] + image[:, 2]) / np.float32(3))[:, None]
        image = image * np.float32(1 - grey) + mean * np.float32(grey)
        image = image * np.asarray(tint, np.float32)[:, None, None]
        if contrast != 1:
            image = around_mean(image, np.float32(contrast))
        if light:
            ramp = np.linspace(-1, 1, S, dtype=np.float32)
            angle = rng.uniform(0, 2 * np.pi, n)
            cos, sin = (np.round(f(angle), 6).astype(np.float32)[:, None, None, None] for f in (np.cos, np.sin))
            image = image * (1 + np.float32(light) * (cos * ramp + sin * ramp[:, None]))
        for _ in range(spots):
            corner, side, tone = rng.integers(0, 52, (n, 2)), rng.integers(5, 10, n), rng.random((n, 3, 1, 1)) * 0.6
            for i in range(n):
                (x, y), s = corner[i], side[i]
                image[i, :, y : y + s, x : x + s] = tone[i]
        image = blur(image, blurred)
        if coarse > 1:
            image = image[:, :, ::coarse, ::coarse].repeat(coarse, axis=2).repeat(coarse, axis=3)
        return add_noise(rng, image, noise) if noise else image

    return apply
