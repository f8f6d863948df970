"""The embedded sets on disk (../datasets/embedded/sets.py): boxes, broken-off runs, readers; and the shipped weights."""

import json
import math
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import clip
from dassl.config import get_cfg_default
from dassl.data.datasets import DATASET_REGISTRY, build_dataset
from datasets.embedded import sets
from datasets.embedded.__main__ import main
from tests.helpers import REPOSITORY

FEW = {"train": 4, "val": 2, "test": 3}


@pytest.fixture
def few(monkeypatch):
    """Three classes of `clutter`, a few pictures each: written in a moment."""
    facts = sets.SETS["clutter"]
    monkeypatch.setitem(sets.SETS, "clutter", replace(facts, names=facts.names[:3], images=FEW))
    return facts.names[:3]


def written(root) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(Path(root).rglob("*")) if p.is_file()}


def test_every_object_has_a_box(few, tmp_path):
    """The centre and radius that were drawn, for every picture of the split, inside the frame."""
    sets.write_set("clutter", str(tmp_path))
    folder = tmp_path / "embedded_clutter"
    boxes = json.loads((folder / "boxes.json").read_text())
    split = json.loads((folder / "split_zhou_EmbeddedClutter.json").read_text())
    assert set(boxes) == {path for rows in split.values() for path, _, _ in rows}
    for x, y, radius in boxes.values():
        assert 13 <= radius <= 15 and radius <= min(x, y) and max(x, y) + radius <= 64
    scenes = sets.draw_class("clutter", "test", few[1])[1]
    stem = few[1].replace(" ", "_")
    assert boxes[f"{stem}/test_0003.png"] == pytest.approx([scenes.x[2], scenes.y[2], scenes.radius[2]], abs=1e-3)


def test_no_box_without_an_object(monkeypatch, tmp_path):
    facts = sets.SETS["scenes"]
    monkeypatch.setitem(sets.SETS, "scenes", replace(facts, names=facts.names[:2], images=FEW))
    sets.write_set("scenes", str(tmp_path))
    assert not (tmp_path / "embedded_scenes" / "boxes.json").exists()


def test_two_runs_write_the_same(few, tmp_path):
    for root in ("a", "b"):
        (tmp_path / root).mkdir()
        sets.write_set("clutter", str(tmp_path / root))
    assert written(tmp_path / "a") == written(tmp_path / "b")


def test_a_killed_run_does_not_stand_in_the_way(few, monkeypatch, tmp_path):
    """Killed: its temporary folder stays. It is not taken for the set, and the next run writes the whole set."""

    def killed(folder, *args):
        (folder / "images" / few[0]).mkdir(parents=True)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(sets, "draw_into", killed)
        patch.setattr(sets.shutil, "rmtree", lambda *args, **kwargs: None)
        with pytest.raises(KeyboardInterrupt):
            sets.write_set("clutter", str(tmp_path))
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".")
    assert "27 images" in sets.write_set("clutter", str(tmp_path))
    assert len(list((tmp_path / "embedded_clutter").rglob("*.png"))) == 27


def test_two_writers_at_once(few, monkeypatch, tmp_path):
    """The slower of two finds the set in place when it is done, and leaves it there."""
    draw, said = sets.draw_into, []

    def slow(*args):
        monkeypatch.setattr(sets, "draw_into", draw)
        result = draw(*args)
        said.append(sets.write_set("clutter", str(tmp_path)))  # the faster one, start to end
        return result

    monkeypatch.setattr(sets, "draw_into", slow)
    said.append(sets.write_set("clutter", str(tmp_path)))
    assert len(said) == 2 and all("27 images" in line for line in said)
    assert [p.name for p in tmp_path.iterdir()] == ["embedded_clutter"]


@pytest.mark.parametrize("content", ["[]", "{}", "", '{"version": 0, "world": 0}'])
def test_another_drawing_is_not_taken_for_this_one(tmp_path, content):
    (tmp_path / "embedded_species").mkdir()
    (tmp_path / "embedded_species" / "world.json").write_text(content)
    with pytest.raises(sets.InputError, match="holds another drawing.*remove it"):
        sets.write_set("species", str(tmp_path))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--workers", "0"], "give 1 or more"),
        (["--world", "-1"], "give 0 or more"),
        (["--root", __file__], "cannot be made"),
        (["--sets", "specie"], "species"),
    ],
)
def test_bad_arguments(tmp_path, monkeypatch, capsys, options, message):
    monkeypatch.setattr(sys, "argv", ["datasets.embedded", "--root", str(tmp_path / "data"), *options])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2 and message in capsys.readouterr().err.splitlines()[-1]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["clutter", "embedded_clutter"])
def test_the_named_set_alone_with_the_same_bits(few, tmp_path, monkeypatch, name):
    monkeypatch.setattr("datasets.embedded.__main__.ProcessPoolExecutor", ThreadPoolExecutor)
    monkeypatch.setattr(
        sys, "argv", ["datasets.embedded", "--data", str(tmp_path / "named"), "--sets", name, "clutter"]
    )
    assert main() == 0
    sets.write_set("clutter", str(tmp_path / "whole"))
    assert [path.name for path in (tmp_path / "named").iterdir()] == ["embedded_clutter"]
    assert written(tmp_path / "named") == written(tmp_path / "whole") != {}


def test_a_run_that_misses_a_set_is_told_how_to_write_it(few, tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.embedded.__main__.ProcessPoolExecutor", ThreadPoolExecutor)
    cfg = get_cfg_default()
    cfg.DATASET.NAME, cfg.DATASET.ROOT = "EmbeddedClutter", str(tmp_path)
    with pytest.raises(sets.InputError, match=r"\(python -m datasets\.embedded .* clutter\)\.$") as error:
        build_dataset(cfg)
    monkeypatch.setattr(sys, "argv", re.search(r"\(python -m (.*)\)", str(error.value))[1].split())
    assert main() == 0
    assert build_dataset(cfg).classnames == few


def test_every_set_has_a_reader_and_a_config():
    for name in sets.SETS:
        reader = DATASET_REGISTRY.get(sets.camel(name))
        assert reader.dataset_dir == f"embedded_{name}" and reader.classes == len(sets.SETS[name].names)
        config = get_cfg_default()
        config.merge_from_file(str(REPOSITORY / f"configs/datasets/embedded_{name}.yaml"))
        assert sets.camel(name) == config.DATASET.NAME


def test_a_written_set_is_read_in_halves(few, tmp_path):
    sets.write_set("clutter", str(tmp_path))
    for half, names in (("base", few[:2]), ("new", few[2:])):
        cfg = get_cfg_default()
        cfg.DATASET.NAME, cfg.DATASET.ROOT, cfg.DATASET.SUBSAMPLE_CLASSES = "EmbeddedClutter", str(tmp_path), half
        dataset = build_dataset(cfg)
        assert dataset.classnames == names
        assert len(dataset.test) == len(names) * FEW["test"]


def test_the_shipped_weights():
    """Small, half precision, whole: exactly the tensors of the model that is built from them."""
    path = REPOSITORY / "clip" / "weights" / "vit_embedded_8.npz"
    assert path.stat().st_size < 5e6
    state = clip.load_state_dict(path)
    assert {value.dtype for value in state.values()} == {torch.float16}
    assert all(value.isfinite().all() for value in state.values())
    model = clip.build_model(dict(state))
    assert set(model.state_dict()) == set(state)
    assert model.visual.input_resolution == 64 and len(model.transformer.resblocks) == 4
    assert state["logit_scale"] >= math.log(40) - 1e-2


@pytest.mark.parametrize(
    ("failure", "code", "says"),
    [
        (sets.InputError("It holds another drawing: remove it."), 2, "error: It holds another drawing: remove it.\n"),
        (OSError(28, "No space left on device"), 2, "error: [Errno 28] No space left on device\n"),
        (KeyboardInterrupt(), 130, "error: interrupted; a set is whole or not there"),
    ],
)
def test_how_the_command_ends(tmp_path, monkeypatch, capsys, failure, code, says):
    def fail(*arguments):
        raise failure

    monkeypatch.setattr("datasets.embedded.__main__.ProcessPoolExecutor", ThreadPoolExecutor)
    monkeypatch.setattr("datasets.embedded.__main__.write_set", fail)
    monkeypatch.setattr(sys, "argv", ["datasets.embedded", "--root", str(tmp_path), "--sets", "clutter"])
    assert main() == code
    assert capsys.readouterr().err.startswith(says)
