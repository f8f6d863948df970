"""The embedded world (../datasets/embedded): drawing, captions, sets on disk, and the tiny CLIP made from it."""

import hashlib
import json
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import clip
from datasets.embedded import captions, sets, world
from datasets.embedded.vocabulary import SCENE_NAMES, SHAPES, SPECIES_NAMES, TEXTURE_NAMES
from pretraining.pretrain import KeepSome, normalise
from tests.helpers import REPOSITORY

# The first 16 hex digits of the SHA-256 of one class's validation pictures, world 0, version 1.
PINNED = {
    "shapes": "8378d602f04610c8",
    "textures": "cc7ee7b8cb49bea5",
    "compounds": "18e6ae0f3a4a7dcd",
    "scenes": "87155028a3b667b3",
    "species": "590f5a1f296ce80e",
    "clutter": "351c79a0c1dfbaad",
    "small": "b400b66e84ac085e",
    "shapes_sketch": "5bc83ab4d7b8447b",
    "shapes_dark": "53e798db71344341",
    "shapes_negative": "b67c1a723ba4723e",
    "shapes_lowres": "272fae4b10483328",
}


def digest(pixels) -> str:
    return hashlib.sha256(pixels.tobytes()).hexdigest()[:16]


def test_vocabulary():
    assert (len(SHAPES), len(TEXTURE_NAMES), len(SCENE_NAMES), len(SPECIES_NAMES)) == (32, 21, 14, 24)


@pytest.mark.parametrize("name", sets.SETS)
def test_the_same_pixels_everywhere(name):
    pixels, _ = sets.draw_class(name, "val", sets.SETS[name].names[0])
    assert pixels.shape[1:] == (3, 64, 64) and pixels.dtype == np.uint8
    assert digest(pixels) == PINNED[name]


def test_pictures_do_not_depend_on_the_order_of_drawing():
    facts = sets.SETS["species"]
    first = digest(sets.draw_class("species", "val", facts.names[0])[0])
    sets.draw_class("clutter", "test", facts.names[3])
    assert digest(sets.draw_class("species", "val", facts.names[0])[0]) == first
    parts = {
        digest(sets.draw_class("species", part, facts.names[0], w)[0])
        for part in ("train", "val", "test")
        for w in (0, 1)
    }
    assert len(parts) == 6


def test_sets():
    counts = {name: len(facts.names) for name, facts in sets.SETS.items()}
    assert counts == {
        "shapes": 32, "textures": 20, "compounds": 24, "scenes": 14, "species": 24, "clutter": 24, "small": 36,
        "shapes_sketch": 32, "shapes_dark": 32, "shapes_negative": 32, "shapes_lowres": 32,
    }  # fmt: skip
    for facts in sets.SETS.values():
        assert len(set(facts.names)) == len(facts.names) and facts.images["test"] >= 100
    for variant in ("sketch", "dark", "negative", "lowres"):
        assert sets.SETS[f"shapes_{variant}"].names == sets.SETS["shapes"].names


def test_each_class_shows_what_it_says():
    _, scenes = sets.draw_class("compounds", "val", "red star")
    assert {world.PALETTE[c].tolist()[0] for c in scenes.colour} == {world.PALETTE[0][0]}
    assert {list(SHAPES)[s] for s in scenes.shape} == {"star"}
    _, scenes = sets.draw_class("species", "val", "koi")
    assert len({*zip(scenes.shape, scenes.texture, scenes.colour, scenes.second, strict=True)}) == 1


@pytest.mark.parametrize("name", ["clutter", "small"])
def test_crowds(name):
    """The object lies inside the frame, among four to eight others."""
    for label in (0, 5):
        _, scenes = sets.draw_class(name, "test", sets.SETS[name].names[label])
        low, high = sets.SETS[name].radius
        assert low <= scenes.radius.min() and scenes.radius.max() <= high
        assert set(scenes.distractors) == {4, 5, 6, 7, 8}
        for place in (scenes.x, scenes.y):
            assert (place - scenes.radius).min() >= 0 and (place + scenes.radius).max() <= 64


def test_an_object_is_where_its_box_says():
    """Drawn alone on black: the lit pixels' centre and extent."""
    one = lambda value: np.array([value])  # noqa: E731
    image = np.zeros((1, 3, 64, 64), np.float32)
    white = np.ones((1, 3), np.float32)
    square = list(SHAPES).index("square")
    world.paint(
        image,
        one(square),
        one(0),
        white,
        white,
        one(40.0),
        one(20.0),
        one(10.0),
        one(0.0),
        one(1.0),
        one(0.0),
        one(1.0),
    )
    rows, columns = np.nonzero(image[0, 0] > 0.5)
    assert abs(columns.mean() + 0.5 - 40) < 0.6 and abs(rows.mean() + 0.5 - 20) < 0.6
    assert abs((columns.max() - columns.min() + 1) - 16.4) < 1.5  # the square's half side is 0.82 of its radius
    assert ((image > 0.05) & (image < 0.95)).any()  # its edge is anti-aliased


# --- captions ------------------------------------------------------------------------------------------------------


def test_articles():
    assert captions.fill("a photo of a {}.", "orange fish") == "a photo of an orange fish."
    assert captions.fill("a {} texture.", "plain") == "a plain texture."
    assert captions.fill(" with a {}", "ocean") == " with an ocean"


def test_captions_say_what_is_there():
    rng = np.random.default_rng(0)
    scenes = world.sample_scenes(rng, 400)
    texts = [captions.caption(rng, scenes, i) for i in range(len(scenes))]
    assert len(set(texts)) > 300
    for i, text in enumerate(texts):
        assert "{" not in text and not any(f" a {vowel}" in f" {text}" for vowel in "aeiou"), text
        if world.KINDS[scenes.kind[i]] == "scene":
            name = SCENE_NAMES[scenes.scene[i]]
            assert name in text or captions.SYNONYMS[name] in text


# --- on disk ---------------------------------------------------------------------------------------------------------


def write(root, *more):
    line = [sys.executable, "-m", "datasets.embedded", "--root", str(root), "--sets", "scenes", *map(str, more)]
    return subprocess.run(line, cwd=REPOSITORY, capture_output=True, text=True)


def test_written_whole_and_once(tmp_path):
    assert "2352 images" in write(tmp_path).stdout
    folder = tmp_path / "embedded_scenes"
    split = json.loads((folder / "split_zhou_EmbeddedScenes.json").read_text())
    assert {part: len(rows) for part, rows in split.items()} == {"train": 14 * 48, "val": 14 * 20, "test": 14 * 100}
    path, label, name = split["test"][150]
    assert (label, name) == (1, sets.SETS["scenes"].names[1])
    from PIL import Image

    pixels = np.asarray(Image.open(folder / "images" / path)).transpose(2, 0, 1)
    assert np.array_equal(pixels, sets.draw_class("scenes", "test", name)[0][50])
    assert "there already" in write(tmp_path).stdout
    assert [p.name for p in tmp_path.iterdir()] == ["embedded_scenes"]
    other = write(tmp_path, "--world", 1)
    assert other.returncode == 2 and "another drawing" in other.stderr and "Traceback" not in other.stderr


def test_a_half_written_set_is_not_taken_for_whole(tmp_path, monkeypatch):
    def broken(folder, *args):
        (folder / "images").mkdir(parents=True)
        raise KeyboardInterrupt

    monkeypatch.setattr(sets, "draw_into", broken)
    with pytest.raises(KeyboardInterrupt):
        sets.write_set("scenes", str(tmp_path))
    assert not list(tmp_path.iterdir())


# --- the tiny CLIP -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model():
    return clip.load("ViT-Embedded/8", device="cpu")[0]


@pytest.mark.parametrize(
    ("name", "at_least"), [("species", 60), ("scenes", 60), ("shapes", 50), ("textures", 45), ("compounds", 45)]
)
@torch.no_grad()
def test_zero_shot_is_far_above_chance(model, name, at_least):
    """On validation pictures of the base half; chance is 6 to 14%."""
    facts = sets.SETS[name]
    names = facts.names[: math.ceil(len(facts.names) / 2)]
    template = "{} texture." if name == "textures" else "a photo of a {}."
    text = F.normalize(model.encode_text(clip.tokenize([template.format(n) for n in names])), dim=1)
    right = [
        (F.normalize(model.encode_image(normalise(sets.draw_class(name, "val", n)[0])), dim=1) @ text.t()).argmax(1)
        == i
        for i, n in enumerate(names)
    ]
    assert 100 * torch.cat(right).float().mean() > at_least


def test_unused_words_have_no_weights(model):
    rows = model.token_embedding.weight.abs().sum(dim=1)
    assert (rows > 0).sum() < 1024 and rows[clip.tokenize("a photo of a koi.")[0, :8]].min() > 0


def test_keep_some(model):
    """The edit of pre-training: with all patches, in order, nothing changes."""
    images = normalise(sets.draw_class("species", "val", "koi")[0][:2])
    with torch.no_grad():
        everything = torch.arange(64).expand(2, -1)
        assert torch.equal(model.encode_image(images, edits=(KeepSome(everything),)), model.encode_image(images))
        assert model.encode_image(images, edits=(KeepSome(everything[:, :5]),), tokens=True)[1].shape == (2, 5, 128)
