"""Captions of the embedded world: templates, synonyms and a random subset of what a picture shows."""

import re

import numpy as np

from .styles import STYLES
from .vocabulary import COLOUR_NAMES, SCENE_NAMES, SHAPE_NAMES, SPECIES_NAMES, SYNONYMS, TEXTURE_NAMES
from .world import KINDS, Scenes

OBJECT_TEMPLATES = (
    "a photo of a {}.", "a picture of a {}.", "a {}.", "an image of a {}.", "{}.", "there is a {}.", "a photo of the {}.", "a close up of a {}.",
)  # fmt: skip
TEXTURE_TEMPLATES = (
    "a {} texture.", "{} texture.", "a photo of a {} texture.", "a {} pattern.", "{}.", "a {} surface.", "a photo of something {}.",
)  # fmt: skip
SCENE_TEMPLATES = (
    "a photo of a {}.",
    "a photo of the {}.",
    "{}.",
    "a {} scene.",
    "a view of the {}.",
    "a landscape with a {}.",
)


def fill(template: str, words: str) -> str:
    """Put words into a template, with "an" where the article stands before a vowel sound."""
    article = "an" if words[0] in "aeiou" else "a"
    return re.sub(r"\ba \{\}", f"{article} {{}}", template).format(words)


def choose(rng: np.random.Generator, options):
    return options[rng.integers(len(options))]


def word(rng: np.random.Generator, name: str) -> str:
    """A name, or one time in four its synonym."""
    return SYNONYMS.get(name, name) if rng.random() < 0.25 else name


def caption(rng: np.random.Generator, scenes: Scenes, i: int) -> str:
    """One way to describe picture i."""
    kind = KINDS[scenes.kind[i]]
    if kind == "texture":
        text = fill(choose(rng, TEXTURE_TEMPLATES), texture_words(rng, scenes, i))
    elif kind == "scene":
        text = fill(choose(rng, SCENE_TEMPLATES), word(rng, SCENE_NAMES[scenes.scene[i]]))
    else:
        words = (
            species_words(rng, scenes, i) if kind == "species" and rng.random() < 0.75 else object_words(rng, scenes, i)
        )
        if rng.random() < 0.35:
            place = word(rng, SCENE_NAMES[scenes.scene[i]])
            words += choose(rng, (f" in the {place}", fill(" on a {}", place), fill(" with a {}", place)))
        text = fill(choose(rng, OBJECT_TEMPLATES), words)
    style = STYLES[scenes.style[i]]
    if style != "photo" and rng.random() < 0.7:
        text = text.replace("photo", style) if "photo" in text else f"a {style}: {text}"
    return text


def texture_words(rng, scenes: Scenes, i: int) -> str:
    texture, draw = word(rng, TEXTURE_NAMES[scenes.texture[i]]), rng.random()
    first, second = colour_words(rng, scenes, i)
    return texture if draw < 0.5 else f"{first} and {second} {texture}" if draw < 0.8 else f"{first} {texture}"


def species_words(rng, scenes: Scenes, i: int) -> str:
    name = SPECIES_NAMES[scenes.species[i]]
    return fill(name + ", a type of {}", word(rng, SHAPE_NAMES[scenes.shape[i]])) if rng.random() < 0.4 else name


def object_words(rng, scenes: Scenes, i: int) -> str:
    words = []
    first, second = colour_words(rng, scenes, i)
    if rng.random() < 0.15:
        words.append("large" if scenes.radius[i] > 22 else "small" if scenes.radius[i] < 17 else "medium")
    if rng.random() < 0.5:
        words.append(first if scenes.texture[i] == 0 or rng.random() < 0.6 else f"{first} and {second}")
    if rng.random() < 0.45:
        words.append(word(rng, TEXTURE_NAMES[scenes.texture[i]]))
    return " ".join([*words, word(rng, SHAPE_NAMES[scenes.shape[i]])])


def colour_words(rng, scenes: Scenes, i: int) -> tuple[str, str]:
    return word(rng, COLOUR_NAMES[scenes.colour[i]]), word(rng, COLOUR_NAMES[scenes.second[i]])
