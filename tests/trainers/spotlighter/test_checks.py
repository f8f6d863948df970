"""What Spotlighter's config keys may be (trainers/spotlighter/__init__.py, checks.py): refused at start, in one sentence."""

import pytest
import torch

import train
from tests.clip_weights import SMALL, random_state
from tests.trainers.spotlighter.runs import line, one_sentence


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"KEEP": 0.05}, ["R is 5", "leaves 3 tokens", "from 1 to 3"]),
        ({"KEEP": 0.2, "DROP_AFTER": "(1, 3)", "R": 4}, ["R is 4", "leaves 3 tokens", "from 1 to 3"]),
        ({"R": 65}, ["R is 65", "leaves 64 tokens", "from 1 to 64"]),
        ({"R": 0}, ["R is 0", "at least 1"]),
        ({"K": 0}, ["K is 0", "at least 1"]),
        ({"KEEP": 0}, ["KEEP is 0", "above 0 and at most 1"]),
        ({"KEEP": 1.5}, ["KEEP is 1.5", "above 0 and at most 1"]),
        ({"KEEP": -1}, ["KEEP is -1", "above 0 and at most 1"]),
        ({"KEEP": "half"}, ["KEEP takes a number", "'half'"]),
        ({"DROP_AFTER": "(0,)"}, ["DROP_AFTER", "block 0", "blocks 1 to 3"]),
        ({"DROP_AFTER": "(1, 4)"}, ["DROP_AFTER", "block 4", "blocks 1 to 3"]),
        ({"DROP_AFTER": "()"}, ["DROP_AFTER is ()", "at least one"]),
        ({"DROP_AFTER": "(2, 2)"}, ["DROP_AFTER is (2, 2)", "different blocks"]),
        ({"ZOOM": 2}, ["ZOOM is 2", "one of 0, 1, 3"]),
        ({"GRID": 2}, ["GRID is 2", "at least 0 and at most 1"]),
        ({"GRID": -0.5}, ["GRID is -0.5", "at least 0 and at most 1"]),
        ({"SCORE": "foo"}, ["SCORE is 'foo'", "probe, attention, prototypes, random"]),
        ({"HEAD": "huge"}, ["HEAD is 'huge'", "one of lite, full"]),
        ({"LEVELS": 3}, ["LEVELS is 3", "one of 1, 2"]),
        ({"HOST": "Spotlighter"}, ["HOST cannot be Spotlighter itself"]),
    ],
)
def test_impossible_settings(data_root, tmp_path, capsys, keys, says):
    """At start, in one sentence that names the key and what it may be."""
    assert train.main(line(data_root, tmp_path, **keys)) == 2
    sentence = one_sentence(capsys)
    assert all(part in sentence for part in ["TRAINER.SPOTLIGHTER.", *says])
    assert not list(tmp_path.rglob("*.tar*"))


@pytest.mark.parametrize("blocks", ["(1.5,)", "('a',)"])
def test_blocks_are_whole_numbers(data_root, tmp_path, capsys, blocks):
    assert train.main(line(data_root, tmp_path, KEEP=0.5, FIT=False, DROP_AFTER=blocks)) == 2
    assert "TRAINER.SPOTLIGHTER.DROP_AFTER" in one_sentence(capsys)


@pytest.mark.parametrize("host", ["Nope", "CoOpp"])
def test_an_unknown_host(data_root, tmp_path, capsys, host):
    assert train.main(line(data_root, tmp_path, HOST=host)) == 2
    sentence = one_sentence(capsys)
    assert host in sentence and "CoOp, " in sentence and "ZeroshotCLIP" in sentence


def test_an_unknown_host_is_named_with_its_key(data_root, tmp_path, capsys):
    assert train.main(line(data_root, tmp_path, HOST="Nope")) == 2
    assert "TRAINER.SPOTLIGHTER.HOST" in one_sentence(capsys)


def test_a_residual_network(data_root, tmp_path, capsys):
    sizes = dict(vision_layers=(1, 1, 1, 1), vision_width=8, vision_patch_size=None, image_resolution=64)
    torch.save(random_state(SMALL | sizes), tmp_path / "resnet.pt")
    assert train.main(line(data_root, tmp_path / "run", backbone=tmp_path / "resnet.pt")) == 2
    sentence = one_sentence(capsys)
    assert all(part in sentence for part in ("MODEL.BACKBONE.NAME", "resnet.pt", "residual network", "choose a ViT"))
