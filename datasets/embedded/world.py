"""Drawing the embedded world: 64 x 64 RGB scenes of one main object among distractors, with numpy alone.

The same seed draws the same pixels on every machine: masks and textures are sampled off their edges, rounded
before they are compared and kept as uint8; objects are placed in fixed-point integers; blending is elementwise.

    n images      S = 64 pixels a side      A = 96 atlas pixels a side (8 of them margin)
"""

from dataclasses import dataclass, fields
from functools import cache

import numpy as np

from .vocabulary import COLOURS, SATURATED, SCENES, SHAPES, SPECIES_PARTS, TEXTURE_NAMES, Canvas, textures

S, A, MARGIN = 64, 96, 4
TEXTURE = 64  # pixels a side of a texture's tile
VARIANTS = 24  # drawings of each scene to cut from
KINDS = ("object", "texture", "scene", "species")
STYLES = ("photo", "sketch", "noisy photo", "dark photo", "blurry photo", "negative")
FOOTPRINTS = (1, 2, 3, 4, 5, 6, 8, 10)  # atlas pixels under one image pixel, for anti-aliasing
PALETTE = np.array(list(COLOURS.values()), np.float32)
LATTICE = 8  # positions in eighths of a pixel
SHIFT = 16  # fixed-point bits of a rotation


@dataclass
class Scenes:
    """What n pictures show; every field has n entries (indices into the vocabulary, pixels for places)."""

    kind: np.ndarray  # into KINDS
    shape: np.ndarray
    texture: np.ndarray
    colour: np.ndarray
    second: np.ndarray  # the texture's other colour
    scene: np.ndarray
    species: np.ndarray
    radius: np.ndarray
    x: np.ndarray
    y: np.ndarray
    distractors: np.ndarray  # how many
    style: np.ndarray  # into STYLES

    def __len__(self):
        return len(self.kind)

    def __getitem__(self, rows):
        return Scenes(*(getattr(self, f.name)[rows] for f in fields(self)))

    def name_species(self) -> "Scenes":
        """Give the pictures of species the shape, texture and colours of theirs."""
        rows = self.kind == KINDS.index("species")
        parts = SPECIES_PARTS[self.species[rows]]
        self.shape[rows], self.texture[rows], self.colour[rows], self.second[rows] = parts.T
        return self


def sample_scenes(rng: np.random.Generator, n: int) -> Scenes:
    """The mixture of pre-training: mostly objects, some of them species, some full-frame textures and empty scenes."""
    kind = rng.choice(4, n, p=[0.64, 0.12, 0.07, 0.17])
    texture = rng.integers(0, len(TEXTURE_NAMES), n)
    texture[(rng.random(n) < 0.6) & (kind == 0)] = 0  # most objects are plain
    texture[kind == 1] = rng.integers(1, len(TEXTURE_NAMES), int((kind == 1).sum()))
    colour = rng.integers(0, len(PALETTE), n)
    return Scenes(
        kind=kind,
        shape=rng.integers(0, len(SHAPES), n),
        texture=texture,
        colour=colour,
        second=(colour + rng.integers(1, len(PALETTE), n)) % len(PALETTE),
        scene=rng.integers(0, len(SCENES), n),
        species=rng.integers(0, len(SPECIES_PARTS), n),
        radius=rng.uniform(14, 26, n),
        x=rng.uniform(22, 42, n),
        y=rng.uniform(22, 42, n),
        distractors=rng.integers(0, 4, n),
        style=rng.choice(6, n, p=[0.8, 0.04, 0.04, 0.04, 0.04, 0.04]),
    ).name_species()


# --- atlases ---------------------------------------------------------------------------------------------------


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


# --- drawing ---------------------------------------------------------------------------------------------------


def jittered(rng, colour: np.ndarray, amount: float = 0.09) -> np.ndarray:
    """(n,) colour indices -> (n, 3), each a little off its palette entry."""
    return np.clip(PALETTE[colour] + rng.uniform(-amount, amount, (len(colour), 3)), 0, 1).astype(np.float32)


def turned(angle, scale) -> tuple[np.ndarray, np.ndarray]:
    """Fixed-point cosine and sine times a scale, for offsets in eighths of a pixel; (n, 1, 1)."""
    one = (1 << SHIFT) / LATTICE
    return tuple(np.round(f(angle) * scale * one).astype(np.int64)[:, None, None] for f in (np.cos, np.sin))


def paint(image, shape, texture, first, second, x, y, radius, angle, grain, grain_angle, alpha) -> None:
    """Blend one textured shape into every image (n, 3, S, S), in place. `grain` is texture pixels per image pixel."""
    axis = (np.arange(S) * LATTICE + LATTICE // 2).astype(np.int64)
    dx = axis[None, None, :] - np.round(x * LATTICE).astype(np.int64)[:, None, None]
    dy = axis[None, :, None] - np.round(y * LATTICE).astype(np.int64)[:, None, None]
    half = A // 2 - MARGIN
    cos, sin = turned(angle, half / radius)
    u = np.clip(((dx * cos + dy * sin) >> SHIFT) + A // 2, 0, A - 1)
    v = np.clip(((dy * cos - dx * sin) >> SHIFT) + A // 2, 0, A - 1)
    level = np.abs(np.array(FOOTPRINTS)[None] - (half / radius)[:, None]).argmin(axis=1)
    plane = ((level * len(SHAPES) + shape) * A * A)[:, None, None]
    cover = shape_atlas().reshape(-1).take(plane + v * A + u) * np.asarray(alpha, np.float32)[:, None, None]
    cos, sin = turned(grain_angle, grain)
    u, v = ((dx * cos + dy * sin) >> SHIFT) & (TEXTURE - 1), ((dy * cos - dx * sin) >> SHIFT) & (TEXTURE - 1)
    mix = texture_atlas().reshape(-1).take((texture * TEXTURE * TEXTURE)[:, None, None] + v * TEXTURE + u)
    for channel in range(3):
        tone = first[:, channel, None, None] + mix * (second - first)[:, channel, None, None]
        image[:, channel] += cover * (tone - image[:, channel])


def cut_backgrounds(rng, scene: np.ndarray) -> np.ndarray:
    """(n, 3, S, S) in [0, 1]: a random cut of a random drawing of each scene, mirrored half of the time."""
    bank, n = scene_bank(), len(scene)
    variant, top, left, mirror = (
        rng.integers(0, VARIANTS, n),
        rng.integers(0, A - S + 1, n),
        rng.integers(0, A - S + 1, n),
        rng.random(n) < 0.5,
    )
    image = np.empty((n, 3, S, S), np.float32)
    for i in range(n):
        cut = bank[scene[i], variant[i], :, top[i] : top[i] + S, left[i] : left[i] + S]
        image[i] = cut[:, :, ::-1] if mirror[i] else cut
    return image / np.float32(255)


def mean_colour(image: np.ndarray) -> np.ndarray:
    """(n, 3, S, S) -> (n, 3); summed over integers, so that no order of summation shows."""
    return ((image * 1023).astype(np.int64).sum(axis=(2, 3)) / (1023 * S * S)).astype(np.float32)


def around_mean(image: np.ndarray, contrast) -> np.ndarray:
    mean = mean_colour(image)[:, :, None, None]
    return mean + (image - mean) * contrast


def uniform(rng, low, high, n: int) -> np.ndarray:
    """(n, 1, 1, 1) float32, to scale images with."""
    return rng.uniform(low, high, (n, 1, 1, 1)).astype(np.float32)


def draw(rng: np.random.Generator, scenes: Scenes, shift=None) -> np.ndarray:
    """(n, 3, S, S) uint8. `shift(rng, image)` is the way a data set differs from pre-training."""
    n = len(scenes)
    full_frame, empty = scenes.kind == KINDS.index("texture"), scenes.kind == KINDS.index("scene")
    image = around_mean(cut_backgrounds(rng, scenes.scene), uniform(rng, 0.35, 0.8, n)) * uniform(rng, 0.75, 1.15, n)
    for number in range(3):
        paint_distractor(rng, image, np.flatnonzero((scenes.distractors > number) & ~full_frame))
    paint_main(rng, image, scenes, np.flatnonzero(~empty), full_frame)
    image = in_style(rng, image, scenes.style)
    image = shift(rng, image) if shift else image * rng.uniform(0.85, 1.1, (n, 3, 1, 1)).astype(np.float32)
    return (np.clip(image, 0, 1) * 255).astype(np.uint8)


def paint_distractor(rng, image, rows) -> None:
    """A small, faint object anywhere in the pictures `rows`."""
    k = len(rows)
    part = image[rows]
    paint(
        part, rng.integers(0, len(SHAPES), k), rng.integers(0, len(TEXTURE_NAMES), k),
        jittered(rng, rng.integers(0, len(PALETTE), k)), jittered(rng, rng.integers(0, len(PALETTE), k)),
        rng.uniform(2, 62, k), rng.uniform(2, 62, k), rng.uniform(4, 8, k), rng.uniform(-3.1, 3.1, k),
        rng.uniform(2, 4, k), rng.uniform(0, 6.28, k), rng.uniform(0.35, 0.85, k),
    )  # fmt: skip
    image[rows] = part


def paint_main(rng, image, scenes: Scenes, rows, full_frame) -> None:
    """The main object (or the full-frame texture: a square far larger than the picture)."""
    k, whole, main = len(rows), full_frame[rows], scenes[rows]
    radius = np.where(whole, 120.0, main.radius)
    grain = np.where(whole, rng.uniform(0.6, 2.2, k), rng.uniform(0.9, 1.6, k) * np.clip(18 / radius, 0.6, 1.6))
    first, second = jittered(rng, main.colour), jittered(rng, main.second)
    part = image[rows]
    background = mean_colour(part)
    close = np.abs(first - background).max(axis=1) < 0.3  # the background makes way for the object's colour
    light = (background.sum(axis=1) > 1.5)[:, None, None, None]
    part = np.where(
        close[:, None, None, None],
        np.where(light, part * np.float32(0.45), part * np.float32(0.5) + np.float32(0.5)),
        part,
    )
    paint(
        part, np.where(whole, list(SHAPES).index("square"), main.shape), main.texture, first, second,
        np.where(whole, S / 2, main.x), np.where(whole, S / 2, main.y), radius,
        rng.uniform(-0.35, 0.35, k), grain, rng.uniform(-0.5, 0.5, k), rng.uniform(0.85, 1, k),
    )  # fmt: skip
    image[rows] = part


# --- styles and shifts -------------------------------------------------------------------------------------------


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


def draw_crowd(rng: np.random.Generator, scenes: Scenes, grey: bool) -> np.ndarray:
    """(n, 3, S, S) uint8: the main object anywhere among others about as large, on half-desaturated ground.

    The others (`scenes.distractors` of them) are saturated as the main object is, or grey.
    """
    n = len(scenes)
    image = cut_backgrounds(rng, scenes.scene)
    mean = ((image[:, 0] + image[:, 1] + image[:, 2]) / np.float32(3))[:, None]
    image = around_mean(mean + (image - mean) * np.float32(0.4), uniform(rng, 0.8, 1.1, n)) * uniform(rng, 0.6, 0.95, n)
    for number in range(int(scenes.distractors.max())):
        paint_neighbour(rng, image, scenes, np.flatnonzero(scenes.distractors > number), grey)
    grain = rng.uniform(0.9, 1.6, n) * np.clip(18 / scenes.radius, 0.6, 1.6)
    paint(
        image, scenes.shape, scenes.texture, jittered(rng, scenes.colour), jittered(rng, scenes.second), scenes.x, scenes.y,
        scenes.radius, rng.uniform(-0.35, 0.35, n), grain, rng.uniform(-0.5, 0.5, n), rng.uniform(0.9, 1, n),
    )  # fmt: skip
    image = add_noise(rng, image * rng.uniform(0.85, 1.1, (n, 3, 1, 1)).astype(np.float32), 0.04)
    return (np.clip(image, 0, 1) * 255).astype(np.uint8)


def paint_neighbour(rng, image, scenes: Scenes, rows, grey: bool) -> None:
    """An object nearly as large as the main one, where it leaves most of that one free, if six tries find such a place."""
    k, main = len(rows), scenes[rows]
    radius = main.radius * rng.uniform(0.7, 1, k)
    x, y = rng.uniform(4, 60, (6, k)), rng.uniform(4, 60, (6, k))
    apart = (x - main.x) ** 2 + (y - main.y) ** 2 > (0.85 * (radius + main.radius)) ** 2
    place = apart.argmax(axis=0), np.arange(k)
    if grey:
        tone = rng.uniform(0.15, 0.85, k)
        first = (tone[:, None] + rng.uniform(-0.05, 0.05, (k, 3))).astype(np.float32)
        second = np.mod(tone + rng.uniform(0.25, 0.6, k), 1)[:, None].repeat(3, axis=1).astype(np.float32)
    else:
        first, second = (jittered(rng, rng.choice(SATURATED, k)) for _ in range(2))
    texture = np.where(rng.random(k) < 0.6, 0, rng.integers(0, len(TEXTURE_NAMES), k))
    part = image[rows]
    paint(
        part, rng.integers(0, len(SHAPES), k), texture, first, second, x[place], y[place], radius,
        rng.uniform(-0.5, 0.5, k), rng.uniform(0.9, 1.6, k) * 1.6, rng.uniform(-0.5, 0.5, k), rng.uniform(0.6, 0.9, k),
    )  # fmt: skip
    image[rows] = part
