"""VPT (../trainers/vpt.py): deep and shallow runs, its hand-written texts, checkpoints of the authors."""

import pytest
import torch
import torch.nn.functional as F

import clip
import train
from tests.helpers import CLASSES, arguments
from tests.trainers.by_hand import built
from tests.trainers.deep_runs import DeepRun, check_published, check_tests, check_training

DEEP = DeepRun("VPT", "prompt_learner", {f"visual.{i}": (8, 128) for i in range(4)})
SHALLOW = DeepRun("VPT", "prompt_learner", {"visual.0": (8, 128)}, config="embedded_shallow")


@pytest.mark.parametrize("run", [DEEP, SHALLOW], ids=["deep", "shallow"])
def test_a_run(data_root, tmp_path, run, monkeypatch):
    """Texts are encoded once; 12 images are trained on in each of 2 epochs, and 12 are tested."""
    check_training(run, data_root, tmp_path / "base", monkeypatch, texts=[3], images=2 * 12 + 12)
    if run is DEEP:
        check_tests(run, data_root, tmp_path / "base")


@pytest.mark.parametrize("run", [DEEP, SHALLOW], ids=["deep", "shallow"])
def test_a_published_checkpoint(data_root, tmp_path, run):
    check_published(run, data_root, tmp_path)


@torch.no_grad()
def test_texts_are_hand_written(data_root, tmp_path):
    trainer = built(DEEP.line(data_root, tmp_path))
    expected = trainer.model.clip.encode_text(clip.tokenize([f"a photo of a {name}." for name in CLASSES[:3]]))
    torch.testing.assert_close(trainer.model.text_features(), F.normalize(expected, dim=-1), atol=1e-6, rtol=0)


@torch.no_grad()
def test_braces_are_words(data_root, tmp_path):
    trainer = built([*DEEP.line(data_root, tmp_path), "TRAINER.VPT.CTX_INIT", "a {x} {} of"])
    expected = trainer.model.clip.encode_text(clip.tokenize([f"a {{x}} {{}} of {name}." for name in CLASSES[:3]]))
    torch.testing.assert_close(trainer.model.text_features(), F.normalize(expected, dim=-1), atol=1e-6, rtol=0)


def test_a_depth_that_cannot_be_is_one_sentence(data_root, tmp_path, capsys):
    options = ["TRAINER.VPT.PROMPT_DEPTH_VISION", 5]
    assert train.main(arguments(data_root, tmp_path, "VPT", options=options)) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith("error: TRAINER.VPT.PROMPT_DEPTH_VISION is 5") and "choose 1 to 4" in said
