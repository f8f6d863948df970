"""The words of the embedded world and what they look like: shapes, colours, textures, scenes, species.

Shapes are boolean masks over coordinates x, y in [-1, 1] (y down); colours are RGB in [0, 1].
"""

import math

import numpy as np

# --- shapes ----------------------------------------------------------------------------------------------------


class Canvas:
    """Coordinates of the samples of a square picture, and the primitives that shapes are put together from."""

    def __init__(self, size: int):
        axis = (np.arange(size) + 0.5) / size * 2 - 1  # centres, so that no sample lies on an axis of symmetry
        self.x, self.y = np.meshgrid(axis * 128 / 118, axis * 128 / 118)
        self.radius = np.sqrt(self.x**2 + self.y**2)
        self.angle = np.arctan2(self.y, self.x)

    def ellipse(self, cx, cy, rx, ry):
        return ((self.x - cx) / rx) ** 2 + ((self.y - cy) / ry) ** 2 <= 1

    def box(self, left, top, right, bottom):
        return (self.x >= left) & (self.x <= right) & (self.y >= top) & (self.y <= bottom)

    def polygon(self, *points):
        """Even-odd rule: inside is where a ray to the right crosses the outline an odd number of times."""
        inside = np.zeros(self.x.shape, bool)
        for (x0, y0), (x1, y1) in zip(points, points[1:] + points[:1], strict=True):
            if y0 == y1:
                continue
            crosses = (self.y > y0) != (self.y > y1)
            inside ^= crosses & (self.x < (x1 - x0) * (self.y - y0) / (y1 - y0) + x0)
        return inside

    def star(self, points: int, inner: float):
        tips = [(1 if i % 2 == 0 else inner, math.pi * i / points) for i in range(2 * points)]
        return self.polygon(*[(r * math.sin(a), -r * math.cos(a)) for r, a in tips])


SHAPES = {
    "circle": lambda c: c.ellipse(0, 0, 0.95, 0.95),
    "square": lambda c: c.box(-0.82, -0.82, 0.82, 0.82),
    "triangle": lambda c: c.polygon((0, -1), (0.95, 0.8), (-0.95, 0.8)),
    "star": lambda c: c.star(5, 0.4),
    "sun": lambda c: c.star(12, 0.66),
    "heart": lambda c: c.ellipse(-0.43, -0.4, 0.5, 0.48) | c.ellipse(0.43, -0.4, 0.5, 0.48) | c.polygon((-0.9, -0.25), (0.9, -0.25), (0, 0.95)),
    "cross": lambda c: c.box(-0.28, -0.95, 0.28, 0.95) | c.box(-0.95, -0.28, 0.95, 0.28),
    "ring": lambda c: (c.radius < 0.95) & (c.radius > 0.55),
    "moon": lambda c: c.ellipse(0, 0, 0.95, 0.95) & ~c.ellipse(0.45, -0.1, 0.8, 0.8),
    "arrow": lambda c: c.box(-0.95, -0.25, 0.2, 0.25) | c.polygon((0.1, -0.75), (0.95, 0), (0.1, 0.75)),
    "diamond": lambda c: c.polygon((0, -1), (0.62, 0), (0, 1), (-0.62, 0)),
    "leaf": lambda c: c.ellipse(-0.6, 0, 1.25, 1.25) & c.ellipse(0.6, 0, 1.25, 1.25),
    "flower": lambda c: c.radius < 0.62 + 0.33 * np.cos(5 * c.angle),
    "gear": lambda c: (c.radius < 0.72 + 0.2 * np.sign(np.cos(8 * c.angle))) & (c.radius > 0.28),
    "cloud": lambda c: c.ellipse(-0.5, 0.15, 0.45, 0.42) | c.ellipse(0.5, 0.18, 0.42, 0.4) | c.ellipse(0, -0.15, 0.5, 0.5) | c.box(-0.5, 0.1, 0.5, 0.57),
    "lightning": lambda c: c.polygon((0.2, -1), (-0.6, 0.15), (-0.05, 0.15), (-0.25, 1), (0.6, -0.25), (0.05, -0.25), (0.55, -1)),
    "house": lambda c: (c.box(-0.7, -0.15, 0.7, 0.9) | c.polygon((-1, -0.1), (0, -0.95), (1, -0.1))) & ~c.box(-0.2, 0.35, 0.2, 0.9),
    "tree": lambda c: c.polygon((0, -1), (0.6, 0), (-0.6, 0)) | c.polygon((0, -0.5), (0.8, 0.6), (-0.8, 0.6)) | c.box(-0.15, 0.55, 0.15, 0.98),
    "fish": lambda c: (c.ellipse(-0.2, 0, 0.72, 0.48) | c.polygon((0.35, 0), (0.98, -0.55), (0.98, 0.55))) & ~c.ellipse(-0.6, -0.1, 0.1, 0.1),
    "key": lambda c: (c.ellipse(-0.55, 0, 0.42, 0.42) & ~c.ellipse(-0.55, 0, 0.2, 0.2)) | c.box(-0.2, -0.12, 0.98, 0.12) | c.box(0.6, 0.1, 0.75, 0.45) | c.box(0.85, 0.1, 0.98, 0.4),
    "cup": lambda c: c.polygon((-0.75, -0.7), (0.4, -0.7), (0.3, 0.8), (-0.65, 0.8)) | (c.ellipse(0.42, -0.05, 0.45, 0.42) & ~c.ellipse(0.42, -0.05, 0.25, 0.24)),
    "bottle": lambda c: c.box(-0.2, -0.98, 0.2, -0.3) | c.ellipse(0, -0.15, 0.45, 0.35) | c.box(-0.45, -0.15, 0.45, 0.95),
    "mushroom": lambda c: (c.ellipse(0, 0.05, 0.92, 0.92) & (c.y < 0.05)) | c.box(-0.27, 0, 0.27, 0.9),
    "umbrella": lambda c: ((c.radius < 0.95) & (c.y < 0)) | c.box(-0.07, -0.1, 0.07, 0.85) | (c.ellipse(0.2, 0.75, 0.27, 0.27) & (c.y > 0.7) & ~c.ellipse(0.2, 0.75, 0.13, 0.13)),
    "anchor": lambda c: (c.ellipse(0, -0.75, 0.23, 0.23) & ~c.ellipse(0, -0.75, 0.1, 0.1)) | c.box(-0.1, -0.6, 0.1, 0.9) | c.box(-0.45, -0.4, 0.45, -0.22) | ((c.radius < 0.95) & (c.radius > 0.7) & (c.y > 0.2)),
    "crown": lambda c: c.polygon((-0.95, -0.6), (-0.45, -0.05), (0, -0.85), (0.45, -0.05), (0.95, -0.6), (0.8, 0.75), (-0.8, 0.75)),
    "bow": lambda c: c.polygon((-0.95, -0.7), (0, -0.08), (0.95, -0.7), (0.95, 0.7), (0, 0.08), (-0.95, 0.7)) | c.ellipse(0, 0, 0.22, 0.25),
    "boat": lambda c: c.polygon((-0.95, 0.35), (0.95, 0.35), (0.6, 0.9), (-0.6, 0.9)) | c.box(-0.06, -0.95, 0.06, 0.4) | c.polygon((0.1, -0.9), (0.75, 0.2), (0.1, 0.2)),
    "rocket": lambda c: c.ellipse(0, -0.1, 0.35, 0.88) | c.polygon((-0.3, 0.2), (-0.8, 0.85), (-0.25, 0.65)) | c.polygon((0.3, 0.2), (0.8, 0.85), (0.25, 0.65)),
    "car": lambda c: (c.box(-0.95, -0.1, 0.95, 0.4) | c.polygon((-0.6, -0.1), (-0.35, -0.6), (0.4, -0.6), (0.65, -0.1)) | c.ellipse(-0.5, 0.42, 0.28, 0.28) | c.ellipse(0.5, 0.42, 0.28, 0.28)) & ~c.ellipse(-0.5, 0.42, 0.12, 0.12) & ~c.ellipse(0.5, 0.42, 0.12, 0.12),
    "bell": lambda c: (c.ellipse(0, -0.2, 0.55, 0.74) & (c.y < 0.3)) | c.polygon((-0.5, 0.1), (0.5, 0.1), (0.8, 0.6), (-0.8, 0.6)) | c.ellipse(0, 0.72, 0.2, 0.2),
    "butterfly": lambda c: c.ellipse(-0.5, -0.4, 0.45, 0.5) | c.ellipse(0.5, -0.4, 0.45, 0.5) | c.ellipse(-0.4, 0.45, 0.35, 0.4) | c.ellipse(0.4, 0.45, 0.35, 0.4) | c.ellipse(0, 0, 0.1, 0.75),
}  # fmt: skip
SHAPE_NAMES = list(SHAPES)

# --- colours ---------------------------------------------------------------------------------------------------

COLOURS = {
    "red": (0.85, 0.12, 0.12), "orange": (0.95, 0.5, 0.08), "yellow": (0.95, 0.87, 0.15), "green": (0.15, 0.65, 0.2),
    "cyan": (0.15, 0.8, 0.85), "blue": (0.13, 0.25, 0.85), "purple": (0.5, 0.15, 0.7), "pink": (0.97, 0.55, 0.72),
    "brown": (0.45, 0.27, 0.1), "white": (0.96, 0.96, 0.96), "black": (0.06, 0.06, 0.06), "gray": (0.5, 0.5, 0.5),
}  # fmt: skip
COLOUR_NAMES = list(COLOURS)
SATURATED = [
    COLOUR_NAMES.index(name) for name in ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink")
]

# --- textures: fields in [0, 1] on a torus; 0 shows the first colour, 1 the second -------------------------------

TEXTURE_NAMES = [
    "plain", "striped", "checkered", "dotted", "zigzag", "wavy", "grid", "bricked", "spotted", "marbled", "cracked", "cellular",
    "woven", "scaly", "speckled", "swirled", "plaid", "crosshatched", "starry", "ringed", "blotchy",
]  # fmt: skip


def textures(size: int, noise, points: np.ndarray) -> dict[str, np.ndarray]:
    """Every texture as (size, size). `noise(k)` is periodic noise of about k waves a side; `points` (n, 2) are cell centres."""
    axis = (np.arange(size) + 0.5) / size
    u, v = np.meshgrid(axis, axis)
    wave = lambda t: np.sin(2 * np.pi * t)  # noqa: E731
    within = lambda t: np.mod(t, 1) - 0.5  # place inside its cell, -0.5 .. 0.5  # noqa: E731
    large, middle, fine = noise(2), noise(6), noise(12)
    a4, b4, a2, b2 = within(4 * u), within(4 * v), within(2 * u), within(2 * v)
    r2, turn2 = np.hypot(a2, b2), np.arctan2(b2, a2)
    shifted = 4 * u + 0.5 * np.mod(np.floor(8 * v), 2)  # every other row moved by half a cell
    gap = np.abs(u[..., None] - points[:, 0]), np.abs(v[..., None] - points[:, 1])
    distance = np.sort(np.hypot(*(np.minimum(g, 1 - g) for g in gap)), axis=-1)  # to the nearest centres, on the torus
    return {
        "plain": 0 * u,
        "striped": wave(4 * u) > 0,
        "checkered": (np.floor(6 * u) + np.floor(6 * v)) % 2,
        "dotted": np.hypot(a4, b4) < 0.27,
        "zigzag": wave(4 * (v + 0.48 * np.abs(a4))) > 0,
        "wavy": wave(4 * (v + 0.06 * wave(2 * u))) > 0,
        "grid": (np.abs(a4) > 0.38) | (np.abs(b4) > 0.38),
        "bricked": (np.mod(8 * v, 1) < 0.16) | (np.mod(shifted, 1) < 0.09),
        "spotted": large + 0.4 * middle > 0.9,
        "marbled": np.abs(np.sin(4 * np.pi * u + 2.2 * large)) < 0.35,
        "cracked": distance[..., 1] - distance[..., 0] < 0.02,
        "cellular": distance[..., 0] < 0.075,
        "woven": np.where((np.floor(8 * u) + np.floor(8 * v)) % 2 > 0, wave(16 * u), wave(16 * v)) > 0,
        "scaly": np.abs(np.hypot(within(shifted), np.mod(8 * v, 1)) - 0.5) < 0.13,
        "speckled": fine > 1.1,
        "swirled": np.sin(12 * np.pi * r2 + turn2) > 0,
        "plaid": 0.5 * (wave(3 * u) > 0.3) + 0.5 * (wave(3 * v) > 0.3),
        "crosshatched": (wave(6 * (u + v)) > 0.6) | (wave(6 * (u - v)) > 0.6),
        "starry": (np.minimum(np.abs(a4), np.abs(b4)) < 0.05) & (np.maximum(np.abs(a4), np.abs(b4)) < 0.3),
        "ringed": wave(5 * r2) > 0,
        "blotchy": large > 0,
    }


# --- scenes ----------------------------------------------------------------------------------------------------

# name: colour of the sky, the middle, the ground; where the middle and the ground begin; what is drawn over them
SCENES = {
    "beach": ((0.45, 0.75, 0.95), (0.2, 0.5, 0.8), (0.9, 0.82, 0.6), 0.35, 0.6, "sand"),
    "forest": ((0.35, 0.55, 0.35), (0.1, 0.35, 0.12), (0.2, 0.25, 0.08), 0.2, 0.75, "trunks"),
    "desert": ((0.95, 0.8, 0.5), (0.85, 0.6, 0.3), (0.8, 0.55, 0.25), 0.4, 0.5, "dunes"),
    "night": ((0.03, 0.03, 0.12), (0.05, 0.05, 0.2), (0.02, 0.02, 0.06), 0.7, 0.9, "stars"),
    "city": ((0.6, 0.65, 0.75), (0.35, 0.35, 0.4), (0.25, 0.25, 0.28), 0.3, 0.85, "blocks"),
    "sea": ((0.6, 0.8, 0.95), (0.1, 0.35, 0.65), (0.05, 0.2, 0.5), 0.3, 0.6, "waves"),
    "mountain": ((0.65, 0.8, 0.95), (0.5, 0.5, 0.55), (0.3, 0.4, 0.3), 0.5, 0.8, "peaks"),
    "field": ((0.55, 0.8, 0.98), (0.45, 0.7, 0.2), (0.3, 0.6, 0.15), 0.4, 0.6, "blades"),
    "sunset": ((0.5, 0.15, 0.4), (0.95, 0.45, 0.15), (0.15, 0.08, 0.12), 0.45, 0.75, "nothing"),
    "wall": ((0.65, 0.3, 0.22), (0.65, 0.3, 0.22), (0.6, 0.28, 0.2), 0.4, 0.6, "bricks"),
    "floor": ((0.8, 0.75, 0.65), (0.75, 0.7, 0.6), (0.6, 0.5, 0.4), 0.4, 0.6, "tiles"),
    "snow": ((0.85, 0.88, 0.95), (0.93, 0.95, 0.98), (0.98, 0.98, 1.0), 0.4, 0.6, "flakes"),
    "cave": ((0.12, 0.1, 0.1), (0.35, 0.25, 0.18), (0.15, 0.12, 0.1), 0.45, 0.6, "lumps"),
    "studio": ((0.75, 0.75, 0.78), (0.7, 0.7, 0.72), (0.62, 0.62, 0.65), 0.5, 0.75, "nothing"),
}
SCENE_NAMES = list(SCENES)

# --- species: a fixed shape, texture and two colours with a name of their own ------------------------------------

SPECIES = {
    "tetra": ("fish", "striped", "blue", "red"), "guppy": ("fish", "dotted", "orange", "yellow"),
    "carp": ("fish", "scaly", "brown", "yellow"), "perch": ("fish", "zigzag", "green", "black"),
    "koi": ("fish", "spotted", "white", "orange"), "angelfish": ("fish", "checkered", "yellow", "black"),
    "monarch": ("butterfly", "grid", "orange", "black"), "swallowtail": ("butterfly", "striped", "yellow", "black"),
    "morpho": ("butterfly", "plain", "cyan", "blue"), "peacock": ("butterfly", "dotted", "red", "blue"),
    "skipper": ("butterfly", "speckled", "brown", "orange"), "emperor": ("butterfly", "wavy", "purple", "white"),
    "rose": ("flower", "swirled", "red", "pink"), "daisy": ("flower", "dotted", "white", "yellow"),
    "tulip": ("flower", "striped", "pink", "yellow"), "iris": ("flower", "marbled", "purple", "yellow"),
    "lily": ("flower", "speckled", "white", "pink"), "poppy": ("flower", "blotchy", "red", "black"),
    "maple": ("leaf", "cracked", "red", "orange"), "oak": ("leaf", "plain", "brown", "green"),
    "birch": ("leaf", "striped", "yellow", "green"), "ivy": ("leaf", "marbled", "green", "white"),
    "fern": ("leaf", "zigzag", "green", "yellow"), "willow": ("leaf", "wavy", "green", "gray"),
}  # fmt: skip
SPECIES_NAMES = list(SPECIES)
SPECIES_PARTS = np.array(
    [
        (SHAPE_NAMES.index(shape), TEXTURE_NAMES.index(texture), COLOUR_NAMES.index(one), COLOUR_NAMES.index(two))
        for shape, texture, one, two in SPECIES.values()
    ]
)

# --- synonyms in captions ----------------------------------------------------------------------------------------

SYNONYMS = {
    "circle": "disc", "square": "box", "triangle": "wedge", "star": "five pointed star", "sun": "sunburst", "heart": "love heart",
    "cross": "plus sign", "ring": "hoop", "moon": "crescent", "arrow": "pointer", "diamond": "rhombus", "leaf": "frond",
    "flower": "blossom", "gear": "cog", "lightning": "bolt", "house": "home", "tree": "pine", "cup": "mug", "boat": "ship",
    "car": "automobile", "bell": "chime", "bow": "ribbon", "key": "door key", "bottle": "flask", "rocket": "spaceship",
    "crown": "tiara", "mushroom": "toadstool", "umbrella": "parasol", "cloud": "cumulus", "butterfly": "moth",
    "red": "crimson", "orange": "tangerine", "yellow": "golden", "green": "emerald", "cyan": "turquoise", "blue": "azure",
    "purple": "violet", "pink": "rose", "brown": "chestnut", "white": "ivory", "black": "ebony", "gray": "silver",
    "plain": "solid", "striped": "lined", "checkered": "chequered", "dotted": "polka dot", "zigzag": "chevron", "wavy": "rippled",
    "grid": "gridded", "bricked": "brick", "spotted": "spotty", "marbled": "veined", "woven": "knitted", "speckled": "grainy",
    "swirled": "spiral", "plaid": "tartan", "blotchy": "patchy", "ringed": "concentric",
    "beach": "shore", "forest": "woods", "desert": "dunes", "night": "night sky", "city": "skyline", "sea": "ocean",
    "mountain": "hills", "field": "meadow", "sunset": "dusk", "wall": "brick wall", "floor": "tiled floor", "snow": "winter",
    "cave": "cavern", "studio": "plain backdrop",
}  # fmt: skip
