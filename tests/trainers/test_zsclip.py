"""The ensemble of zero-shot CLIP (../trainers/zsclip.py): the mean of a class's features, prompt by prompt."""

import pytest
import torch

import clip
import train
from dassl.engine import build_trainer
from tests.helpers import arguments

SEVEN = (  # OpenAI's selection, as CoOp's code lists it
    "itap of a {}.", "a bad photo of the {}.", "a origami {}.", "a photo of the large {}.", "a {} in a video game.",
    "art of the {}.", "a photo of the small {}.",
)  # fmt: skip


@pytest.fixture(scope="module")
def trainer(data_root, tmp_path_factory):
    line = arguments(data_root, tmp_path_factory.mktemp("zsclip"), "ZeroshotCLIP2")
    return build_trainer(train.build_config(train.parse_arguments(line)))


def unit(x):
    return x / x.norm()


def by_hand(model, names, templates):
    """Each feature has length 1 before the mean is taken, so that no prompt counts more than another."""
    rows = []
    for name in names:
        features = [unit(model.encode_text(clip.tokenize(template.format(name)))[0]) for template in templates]
        rows.append(unit(sum(features) / len(features)))
    return torch.stack(rows)


@torch.no_grad()
def test_the_data_sets_own_prompt_is_the_eighth(trainer):
    model, images = trainer.model.clip, torch.randn(2, 3, 64, 64)
    text = by_hand(model, ["red", "green", "blue"], [*SEVEN, "a photo of a {}."])
    torch.testing.assert_close(trainer.model.text_features(), text, rtol=0, atol=1e-6)
    logits = [[model.logit_scale.exp() * unit(f) @ t for t in text] for f in model.encode_image(images)]
    torch.testing.assert_close(trainer.model(images), torch.tensor(logits), rtol=0, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize(("dataset", "own"), [("ImageNet", []), ("OxfordPets", ["{}, a pet."])])
def test_imagenet_has_only_the_seven(trainer, monkeypatch, dataset, own):
    names = {"classnames": ["dark_grey", "yellow"], "template": "{}, a pet."}
    monkeypatch.setattr(trainer.dm, "dataset", type(dataset, (), names)())
    text = by_hand(trainer.model.clip, ["dark grey", "yellow"], [*SEVEN, *own])
    ours = trainer.build_prompted_clip(trainer.model.clip).text_features()
    torch.testing.assert_close(ours, text, rtol=0, atol=1e-6)


def test_nothing_is_trained(trainer):
    assert trainer.model.prompt_learner is None and not trainer.get_model_names()
    assert not any(parameter.requires_grad for parameter in trainer.model.parameters())
