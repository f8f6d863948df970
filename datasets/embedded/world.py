"""Drawing the embedded world: 64 x 64 RGB scenes of one main object among distractors, with numpy alone.

The same seed draws the same pixels on every machine: masks and textures are sampled off their edges, rounded
before they are compared and kept as uint8; objects are placed in fixed-point integers; blending is elementwise.

    n images      S = 64 pixels a side      A = 96 atlas pixels a side (8 of them margin)
"""

from dataclasses import dataclass, fields

import numpy as np

from .atlas import FOOTPRINTS, MARGIN, TEXTURE, VARIANTS, A, S, scene_bank, shape_atlas, texture_atlas
from .styles import add_noise, around_mean, in_style, mean_colour, uniform
from .vocabulary import COLOURS, SATURATED, SCENES, SHAPES, SPECIES_PARTS, TEXTURE_NAMES

KINDS = ("object", "texture", "scene", "species")
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
    style: np.ndarray  # into styles.STYLES

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
