"""The contract with a host (trainers/spotlighter/host.py): what is required and missing, and what is optional."""

import pytest
import torch

import train
from clip import InputError
from dassl.engine import TRAINER_REGISTRY, TrainerX
from tests.trainers.spotlighter.runs import PlainHost, ShiftedTexts, line, one_sentence
from trainers.shared.prompted_clip import load_clip
from trainers.shared.prompts import zero_shot_text_features
from trainers.spotlighter import Spotlighter, SpotlighterOverHost, over
from trainers.spotlighter.host import check_host, part, required_parts

REQUIRED = ["image_features", "text_features", "logit_scale", "clip", "image_edits"]


def test_what_is_required():
    assert required_parts() == REQUIRED


@pytest.mark.parametrize("missing", [REQUIRED[:1], REQUIRED[1:3], REQUIRED[3:], REQUIRED])
def test_what_is_missing_is_named(missing):
    model = type("Model", (), {name: None for name in REQUIRED if name not in missing})()
    with pytest.raises(InputError) as caught:
        check_host(model, "Other")
    assert str(caught.value) == (
        f"TRAINER.SPOTLIGHTER.HOST Other cannot carry Spotlighter: its model, {__name__}'s, has no {', '.join(missing)}."
    )


def test_a_trainer_without_a_model_is_no_host(monkeypatch, data_root, tmp_path, capsys):
    """As a zero-shot trainer written for Dassl, which keeps CLIP and its texts as it likes."""
    plain = type("ZeroshotCLIP", (TrainerX,), {"build_model": lambda self: None})
    monkeypatch.setitem(TRAINER_REGISTRY._obj_map, "ZeroshotCLIP", plain)
    assert train.main(line(data_root, tmp_path, HOST="ZeroshotCLIP")) == 2
    said = one_sentence(capsys)
    assert "TRAINER.SPOTLIGHTER.HOST ZeroshotCLIP cannot carry Spotlighter: its trainer has no self.model." in said


def test_the_least_a_model_needs_is_enough():
    check_host(type("Model", (), dict.fromkeys(REQUIRED))(), "Other")


def test_optional_parts_have_defaults():
    clip_model = load_clip("ViT-Embedded/8", "fp32", torch.device("cpu"))
    model = ShiftedTexts(clip_model, torch.zeros(2, 128))
    assert part(model, "conditional") is False and part(model, "learner_edits")() == []
    texts = part(model, "zero_shot_text")(["red", "blue"], "a {}.")
    assert torch.equal(texts, zero_shot_text_features(clip_model, ["red", "blue"], "a {}."))


def test_a_models_own_parts_come_first():
    class Own:
        conditional = True

        def learner_edits(self):
            return [self]

    model = Own()
    assert part(model, "conditional") is True and part(model, "learner_edits")() == [model]


def test_one_class_over_each_host():
    """The registered function builds an object of the class over its host, which is made once."""
    CoOp = TRAINER_REGISTRY.get("CoOp")
    assert over(CoOp) is over(CoOp) and over(CoOp).__name__ == "SpotlighterCoOp"
    assert issubclass(over(CoOp), SpotlighterOverHost) and issubclass(over(CoOp), CoOp)
    assert over(PlainHost) is not over(CoOp)
    assert TRAINER_REGISTRY.get("Spotlighter") is Spotlighter
