"""What the embedded world's pictures are made of: shapes, textures and backgrounds, drawn once and then sampled.

S = 64 pixels a side of an image      A = 96 atlas pixels a side (8 of them margin)
"""

from functools import cache

import numpy as np

from .vocabulary import SCENES, SHAPES, TEXTURE_NAMES, Canvas, textures

S, A, MARGIN = 64, 96, 4
TEXTURE = 64  # pixels a side of a texture's tile
VARIANTS = 24  # drawings of each scene to cut from
FOOTPRINTS = (1, 2, 3, 4, 5, 6, 8, 10)  # atlas pixels under one image pixel, for anti-aliasing


@cache
def shape_atlas() -> np.ndarray:
    """(footprints, shapes, A, A) coverage in [0, 1], each averaged over one image pixel's footprint."""
    fine = 4 * (A - 2 * MARGIN)
    canvas = Canvas(fine)
    masks = np.zeros((len(SHAPES), A, A), np.float64)
    for index, draw in enumerate(SHAPES.values()):
        mask = draw(canvas).reshape(A - 2 * MARGIN, 4, A - 2 * MARGIN, 4)
        masks[index, MARGIN:-MARGIN, MARGIN:-MARGIN] = mask.sum(axis=(1, 3)) / 16
    levels = [box_filter(box_filter(masks, width, 1), width, 2) for width in FOOTPRINTS]
    return (np.round(np.stack(levels) * 255).astype(np.uint8) / np.float32(255)).astype(np.float32)


def box_filter(x: np.ndarray, width: int, axis: int) -> np.ndarray:
    return sum(np.roll(x, offset - width // 2, axis) for offset in range(width)) / width


def periodic_noise(rng: np.random.Generator, size: int, wave, rolloff: bool = False) -> np.ndarray:
    """Noise on a torus, standard deviation 1: around `wave` waves a side, or falling off beyond them."""
    fy, fx = np.fft.fftfreq(size)[:, None] * size, np.fft.fftfreq(size)[None] * size
    frequency = np.hypot(fx, fy)
    gain = (
        1 / (1 + (frequency / wave) ** 2.2) if rolloff else np.exp(-((frequency - wave) ** 2) / (2 * (wave / 4) ** 2))
    )
    noise = np.real(np.fft.ifft2(np.fft.fft2(rng.standard_normal((size, size))) * gain))
    return np.round(noise / noise.std(), 6)


@cache
def texture_atlas() -> np.ndarray:
    """(textures, TEXTURE, TEXTURE) shares of the second colour in [0, 1]."""
    rng = np.random.default_rng(7)
    drawn = textures(TEXTURE, lambda wave: periodic_noise(rng, TEXTURE, wave), rng.random((22, 2)))
    return np.stack([np.asarray(drawn[name], np.float32) for name in TEXTURE_NAMES])


@cache
def scene_bank() -> np.ndarray:
    """(scenes, VARIANTS, 3, A, A) uint8 backgrounds, to be cut to S x S."""
    rng = np.random.default_rng(3)
    drawn = [[draw_background(rng, *facts) for _ in range(VARIANTS)] for facts in SCENES.values()]
    return np.asarray(drawn, np.uint8)


def draw_background(rng, sky, middle, ground, horizon, edge, pattern) -> np.ndarray:
    """One background, (3, A, A) uint8: three bands that melt into each other, under the scene's pattern."""
    axis = (np.arange(A) + 0.5) / A
    x, y = np.meshgrid(axis, axis)
    horizon, edge = horizon + rng.uniform(-0.12, 0.12), edge + rng.uniform(-0.1, 0.1)
    sky, middle, ground = (
        np.clip(np.array(c) + rng.uniform(-0.08, 0.08, 3), 0, 1)[:, None, None] for c in (sky, middle, ground)
    )
    below, ground_share = 1 / (1 + np.exp(-14 * (y - horizon))), 1 / (1 + np.exp(-20 * (y - edge)))
    image = (sky * (1 - below) + middle * below) * (1 - ground_share) + ground * ground_share
    image = image + draw_pattern(rng, pattern, x, y, horizon, edge) + 0.03 * periodic_noise(rng, A, 8, rolloff=True)
    return np.floor(np.round(np.clip(image, 0, 1) * 255, 4)).astype(np.uint8)


def draw_pattern(rng, pattern: str, x, y, horizon: float, edge: float) -> np.ndarray:
    """What is drawn over a background's bands: (A, A), added to all channels."""
    noise = lambda wave: periodic_noise(rng, A, wave, rolloff=True)  # noqa: E731
    phase = rng.uniform(0, 2 * np.pi)
    if pattern == "sand":
        return 0.15 * noise(40) * (y > edge)
    if pattern == "trunks":
        return 0.25 * np.sign(np.sin(x * rng.uniform(30, 60) + phase + 0.6 * noise(3))) * (y < 0.9)
    if pattern == "dunes":
        return 0.12 * np.sin(30 * y + 3 * np.sin(5 * x + phase)) * (y > horizon)
    if pattern == "stars":
        return 0.8 * (noise(60) > 2.7) * (y < edge)
    if pattern == "blocks":
        count = rng.integers(6, 10)
        tops, tones = rng.uniform(0.2, 0.65, count), rng.uniform(-0.25, 0.1, count)
        house = np.minimum((x * count).astype(int), count - 1)
        windows = 0.2 * (np.sin(120 * x) * np.sin(90 * y) > 0.4)
        return np.where((y > tops[house]) & (y < edge), tones[house] + windows, 0)
    if pattern == "waves":
        return 0.13 * np.sin(60 * y + 3 * np.sin(9 * x + phase)) * (y > horizon)
    if pattern == "peaks":
        ridge = horizon + 0.1 - 0.6 * np.abs(np.mod(x * rng.uniform(2, 4) + phase, 1) - 0.5)
        return np.where((y > ridge) & (y < edge), -0.25, 0) + np.where((y > ridge) & (y < ridge + 0.1), 0.5, 0)
    if pattern == "blades":
        return 0.12 * np.sin(150 * x + 10 * noise(4)) * (y > horizon)
    if pattern == "bricks":
        column = np.mod(6 * x + 0.5 * np.mod(np.floor(12 * y), 2), 1)
        return 0.22 * ((np.mod(12 * y, 1) < 0.18) | (column < 0.08))
    if pattern == "tiles":
        return -0.25 * ((np.mod((x - 0.5) * 6 / (0.5 + y) + phase, 1) < 0.1) | (np.mod(7 * y, 1) < 0.1))
    if pattern == "flakes":
        return -0.2 * (noise(30) > 1.3)
    if pattern == "lumps":
        return 0.12 * np.sign(noise(4))
    return np.zeros_like(x)
