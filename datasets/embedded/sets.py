"""The data sets of the embedded world, as facts, and how they are written to disk in CoOp's layout.

Every set differs from pre-training in size, light or lens, so that few-shot tuning has something to learn.
`clutter` and `small` are where what surrounds the object matters: there it is known where the object is.
"""

import hashlib
import json
import os
import shutil
import uuid
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from dassl.utils import InputError, read_json

from .atlas import S
from .styles import STYLES, shift
from .vocabulary import COLOUR_NAMES, SATURATED, SCENE_NAMES, SHAPE_NAMES, SPECIES_NAMES, TEXTURE_NAMES
from .world import KINDS, Scenes, draw, draw_crowd, sample_scenes

VERSION = 1  # of the pixels; a change to any drawing raises it
PREFIX = "embedded_"  # of folders and configs
TUNING_IMAGES = {"train": 48, "val": 20, "test": 100}  # of each class
SHIFTED_IMAGES = {"train": 16, "val": 4, "test": 100}
COMPOUND_SHAPES = ("star", "heart", "circle", "cup", "tree", "car")
COMPOUNDS = [f"{colour} {shape}" for shape in COMPOUND_SHAPES for colour in ("red", "yellow", "green", "blue")]


def in_fixed_order(names) -> list[str]:
    """Class names in an order that has nothing to do with their meaning: base and new halves are alike."""
    return sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())


def part_of_each(*groups: list[str], count: int) -> list[str]:
    return [name for group in groups for name in in_fixed_order(group)[:count]]


@dataclass(frozen=True)
class Facts:
    """A set: its classes, where its pictures differ from pre-training, and how many there are."""

    names: list[str]
    radius: tuple[float, float] = (14, 26)  # pixels
    distractors: tuple[int, int] = (3, 3)  # at least, at most
    style: str = "photo"
    shift: dict = field(default_factory=dict)  # for world.shift
    crowd: str = ""  # "saturated" or "grey" neighbours about as large as the object
    images: dict = field(default_factory=lambda: TUNING_IMAGES)
    template: str = "a photo of a {}."  # the hand-written prompt


shapes = Facts(in_fixed_order(SHAPE_NAMES), (12, 20), shift=dict(tint=(1.1, 0.9, 0.7), blurred=1, noise=0.06, spots=1))
shifted = dict(names=shapes.names, radius=(13, 22), distractors=(2, 2), images=SHIFTED_IMAGES)
SETS = {
    "shapes": shapes,
    "textures": Facts(in_fixed_order(TEXTURE_NAMES[1:]), shift=dict(contrast=0.6, light=0.3, noise=0.07, spots=2), template="{} texture."),
    "compounds": Facts(in_fixed_order(COMPOUNDS), (10, 16), shift=dict(tint=(0.7, 0.85, 1.2), grey=0.5, noise=0.07, blurred=2)),
    "scenes": Facts(in_fixed_order(SCENE_NAMES), shift=dict(grey=0.6, tint=(1.05, 0.95, 0.85), contrast=0.6, noise=0.05, spots=2)),
    "species": Facts(in_fixed_order(SPECIES_NAMES), (11, 17), (2, 2), shift=dict(tint=(1.05, 1.0, 0.85), noise=0.08, grey=0.6, blurred=2)),
    "clutter": Facts(in_fixed_order(SPECIES_NAMES), (13, 15), (4, 8), crowd="saturated"),
    # Twelve of each kind, no class part of another: no shape that compounds or species are made of.
    "small": Facts(
        in_fixed_order(part_of_each([s for s in SHAPE_NAMES if s not in (*COMPOUND_SHAPES, "fish", "butterfly", "flower", "leaf")], COMPOUNDS, SPECIES_NAMES, count=12)),
        (9, 12), (4, 8), crowd="grey",
    ),
    "shapes_sketch": Facts(**shifted, style="sketch", shift=dict(noise=0.03)),
    "shapes_dark": Facts(**shifted, style="dark photo", shift=dict(noise=0.03)),
    "shapes_negative": Facts(**shifted, style="negative", shift=dict(noise=0.03)),
    "shapes_lowres": Facts(**shifted, shift=dict(coarse=2, noise=0.03)),
}  # fmt: skip


def class_scenes(rng: np.random.Generator, facts: Facts, name: str, n: int) -> Scenes:
    """n pictures of one class: what the class says is fixed, the rest is drawn."""
    scenes = sample_scenes(rng, n)
    scenes.style[:] = STYLES.index(facts.style)
    scenes.texture[:] = np.where(rng.random(n) < 0.6, 0, rng.integers(0, len(TEXTURE_NAMES), n))
    scenes.colour[:] = rng.choice(SATURATED, n) if facts.crowd else rng.integers(0, len(COLOUR_NAMES), n)
    kind = "object"
    if name in SPECIES_NAMES:
        kind = "species"
        scenes.species[:] = SPECIES_NAMES.index(name)
    elif name in SCENE_NAMES:
        kind = "scene"
        scenes.scene[:] = SCENE_NAMES.index(name)
    elif name in TEXTURE_NAMES:
        kind = "texture"
        scenes.texture[:] = TEXTURE_NAMES.index(name)
    else:  # "star", or "red star"
        *colour, shape = name.split()
        scenes.shape[:] = SHAPE_NAMES.index(shape)
        if colour:
            scenes.colour[:] = COLOUR_NAMES.index(colour[0])
    scenes.kind[:] = KINDS.index(kind)
    scenes.second[:] = (scenes.colour + rng.integers(1, len(COLOUR_NAMES), n)) % len(COLOUR_NAMES)
    scenes.radius[:] = rng.uniform(*facts.radius, n)
    scenes.distractors[:] = rng.integers(facts.distractors[0], facts.distractors[1] + 1, n)
    if facts.crowd:  # anywhere in the frame
        scenes.x[:], scenes.y[:] = (rng.uniform(scenes.radius + 1, S - 1 - scenes.radius) for _ in range(2))
    return scenes.name_species()


def draw_class(set_name: str, part: str, name: str, world: int = 0) -> tuple[np.ndarray, Scenes]:
    """All pictures (n, 3, S, S) of one class in one part of a set; their random numbers are their own."""
    facts = SETS[set_name]
    rng = np.random.default_rng([world, *(zlib.crc32(text.encode()) for text in (set_name, part, name))])
    scenes = class_scenes(rng, facts, name, facts.images[part])
    if facts.crowd:
        return draw_crowd(rng, scenes, grey=facts.crowd == "grey"), scenes
    return draw(rng, scenes, shift(**facts.shift)), scenes


def has_box(scenes: Scenes) -> bool:
    return KINDS[scenes.kind[0]] in ("object", "species")


def camel(set_name: str) -> str:
    """shapes_dark -> EmbeddedShapesDark, the registered name"""
    return "Embedded" + "".join(word.capitalize() for word in set_name.split("_"))


def folder_of(set_name: str) -> str:
    """Under the data root; its config in configs/datasets/ is called so too."""
    return PREFIX + set_name


def split_file_of(set_name: str) -> str:
    return f"split_zhou_{camel(set_name)}.json"


def write_set(set_name: str, root: str, world: int = 0) -> str:
    """Write one set as `<root>/embedded_<set>/`, whole or not at all; a line on what was done is returned."""
    target = Path(root) / folder_of(set_name)
    made_from = {"version": VERSION, "world": world}
    if target.exists():
        former = read_world(target)
        if {key: former.get(key) for key in made_from} != made_from:
            raise InputError(
                f"{target} holds another drawing ({former or 'unfinished or not ours'}): remove it, or choose another --root."
            )
        return f"{target}: there already"
    work = target.with_name(f".{target.name}.{uuid.uuid4().hex}")  # nobody else's, nor what a killed run left
    try:
        count, digest = draw_into(work, set_name, world)
        (work / "world.json").write_text(json.dumps({**made_from, "images": count, "sha256": digest}))
        os.rename(work, target)
    except OSError:
        if not read_world(target):  # else another process was faster, with the same pixels
            raise
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return f"{target}: {count} images"


def read_world(folder: Path) -> dict:
    """What a finished set was made from; empty if it is unfinished or not ours."""
    try:
        made_from = read_json(folder / "world.json")
    except (OSError, ValueError):
        return {}
    return made_from if isinstance(made_from, dict) else {}


def draw_into(folder: Path, set_name: str, world: int) -> tuple[int, str]:
    """Images, split file and boxes of a set; the number of images and the SHA-256 of all pixels."""
    facts, digest, boxes = SETS[set_name], hashlib.sha256(), {}
    split = {part: [] for part in facts.images}
    for label, name in enumerate(facts.names):
        stem = name.replace(" ", "_")
        (folder / "images" / stem).mkdir(parents=True)
        for part in facts.images:
            pixels, scenes = draw_class(set_name, part, name, world)
            digest.update(pixels.tobytes())
            for index, picture in enumerate(pixels):
                path = f"{stem}/{part}_{index + 1:04d}.png"
                Image.fromarray(picture.transpose(1, 2, 0)).save(folder / "images" / path, compress_level=1)
                split[part].append([path, label, name])
                if has_box(scenes):
                    boxes[path] = [round(float(getattr(scenes, key)[index]), 3) for key in ("x", "y", "radius")]
    (folder / split_file_of(set_name)).write_text(json.dumps(split))
    if boxes:  # centre x, centre y, radius in pixels: for controls that know where the object is
        (folder / "boxes.json").write_text(json.dumps(boxes))
    return sum(map(len, split.values())), digest.hexdigest()
