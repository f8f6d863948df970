"""CLIPFit (../trainers/clipfit.py) against a plain CLIP whose own parameters are trained in place."""

import copy

import pytest
import torch
import torch.nn.functional as F

import clip
import train
from dassl.engine import build_trainer
from tests.clip_weights import SMALL, random_state
from tests.helpers import CLASSES, arguments, results
from trainers.clipfit import FitLearner
from trainers.shared.prompted_clip import PromptedCLIP
from trainers.shared.prompts import template_of

NAMES, TEMPLATE = ["cat", "german_shepherd", "ice cream"], "a photo of a {}, a type of thing."


def small(dtype=torch.float32):
    return clip.build_model(random_state(SMALL)).to(dtype).requires_grad_(False).eval()


@pytest.fixture
def model():
    model = small()
    return PromptedCLIP(model, FitLearner(model, NAMES, TEMPLATE))


def moved(model):
    """Learned values that are not the first ones."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.prompt_learner.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model


def in_place(plain):
    """The parameters that the authors' code chooses by their names, of a plain CLIP."""
    chosen = [value for name, value in plain.visual.named_parameters() if "ln" in name]
    biases = [value for name, value in plain.transformer.named_parameters() if "c_proj.bias" in name]
    for value in chosen + biases:
        value.requires_grad_(True)
    return chosen, biases


def features(plain, images, names=NAMES, template=TEMPLATE):
    tokens = torch.cat([clip.tokenize(template.format(name.replace("_", " "))) for name in names])
    return F.normalize(plain.encode_image(images), dim=-1), F.normalize(plain.encode_text(tokens), dim=-1)


def test_learned_values_act_as_the_encoders_own(model):
    images, plain = torch.randn(2, 3, 32, 32), small()
    _, first = features(plain, images)
    moved(model)
    chosen, biases = in_place(plain)
    with torch.no_grad():
        for value, learned in zip(chosen, model.prompt_learner.norms.parameters(), strict=True):
            value.copy_(learned)
        for value, learned in zip(biases, model.prompt_learner.biases, strict=True):
            value.copy_(learned)
    f, t = features(plain, images)
    torch.testing.assert_close(model.image_features(images), f, atol=1e-5, rtol=0)
    torch.testing.assert_close(model.text_features(), t, atol=1e-5, rtol=0)
    assert (t - first).abs().max() > 1e-2
    torch.testing.assert_close(model.zero_shot_text(NAMES, TEMPLATE), first, atol=1e-6, rtol=0)  # CLIP as it was


def test_steps_are_those_of_training_in_place(data_root, tmp_path):
    """Three steps of cross-entropy + W (1 - cos), on CLIP's own parameters and by the method."""
    line = arguments(data_root, tmp_path, "CLIPFit", options=["TRAINER.CLIPFIT.W", 100.0])
    trainer = build_trainer(train.build_config(train.parse_arguments(line)))
    plain = copy.deepcopy(trainer.model.clip).requires_grad_(False)
    chosen, biases = in_place(plain)
    torch.manual_seed(0)
    images, labels = torch.randn(6, 3, 64, 64), torch.tensor([0, 1, 2, 0, 1, 2])
    names = trainer.dm.dataset.classnames
    _, first = features(plain, images, names, "a photo of a {}.")
    first = first.detach()
    moved(trainer.model)  # away from the first values, where the distance to them has no gradient
    learned = [*trainer.model.prompt_learner.norms.parameters(), *trainer.model.prompt_learner.biases]
    with torch.no_grad():
        for value, start in zip(chosen + biases, learned, strict=True):
            value.copy_(start)
    before = [value.clone() for value in chosen + biases]
    ours, theirs = (
        torch.optim.SGD(list(values), lr=0.02)
        for values in (trainer.model.prompt_learner.parameters(), chosen + biases)
    )
    for _ in range(3):
        f, t = features(plain, images, names, "a photo of a {}.")
        cosines = [F.cosine_similarity(t[c], first[c], dim=0) for c in range(len(names))]
        expected = F.cross_entropy(plain.logit_scale.exp() * f @ t.t(), labels) + 100 * (1 - sum(cosines) / len(names))
        loss, shown = trainer.compute_loss(images, labels)
        torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-6)
        assert loss.item() == pytest.approx(shown["fit"] + 100 * shown["drift"])
        for optimiser, value in ((ours, loss), (theirs, expected)):
            optimiser.zero_grad()
            value.backward()
            optimiser.step()
    assert 100 * shown["drift"] > 0.05
    learned = [*trainer.model.prompt_learner.norms.parameters(), *trainer.model.prompt_learner.biases]
    for value, ours in zip(chosen + biases, learned, strict=True):
        torch.testing.assert_close(ours, value, rtol=1e-4, atol=1e-5)
    assert all((value - old).abs().max() > 0 for value, old in zip(chosen + biases, before, strict=True))


def test_what_is_learned_and_saved(model):
    norms = [f"norms.{i}.{kind}" for i in range(6) for kind in ("weight", "bias")]  # pre, two a block, post
    expected = {name: (128,) for name in norms} | {f"biases.{i}": (128,) for i in range(2)}
    assert {name: tuple(value.shape) for name, value in model.prompt_learner.state_dict().items()} == expected
    learned = {id(value) for value in model.prompt_learner.parameters()}
    assert all(value.requires_grad == (id(value) in learned) for value in model.parameters())


def test_half_precision_learns_in_fp32():
    half = small(torch.bfloat16)
    learner = FitLearner(half, NAMES, TEMPLATE)
    model = moved(PromptedCLIP(half, learner))
    assert {value.dtype for value in learner.parameters()} == {torch.float32}
    loss = (model.image_features(torch.randn(2, 3, 32, 32)) @ model.text_features().t()).sum()
    loss.backward()
    assert all(value.grad.dtype == torch.float32 and value.grad.abs().sum() > 0 for value in learner.parameters())


def test_a_residual_network_learns_biases_only():
    sizes = SMALL | dict(vision_layers=(1, 1, 1, 1), vision_width=64, vision_patch_size=None, image_resolution=64)
    learner = FitLearner(clip.build_model(random_state(sizes)).float(), NAMES, TEMPLATE)
    assert list(learner.state_dict()) == ["biases.0", "biases.1"] and learner.frozen_images


def test_its_own_prompt_of_textures():
    dataset = type("DescribableTextures", (), {"template": "{} texture."})()
    assert template_of(dataset, "CLIPFIT") == "a photo of a {}, a type of texture."


def test_trains_on_base_and_tests_on_new(data_root, tmp_path):
    assert train.main(arguments(data_root, tmp_path / "base", "CLIPFit")) == 0
    record = results(tmp_path / "base")
    assert record["trainable_parameters"] == 2 * 128 * (2 * 4 + 2) + 4 * 128
    for subsample in ("base", "new"):
        output = tmp_path / subsample / "test"
        line = arguments(data_root, output, "CLIPFit", subsample=subsample, model_dir=tmp_path / "base", eval_only=True)
        assert train.main(line) == 0
    assert results(tmp_path / "base" / "test")["accuracy"] == record["accuracy"]
    assert list(results(tmp_path / "new" / "test")["classwise"]) == CLASSES[3:]


def test_bad_weight(data_root, tmp_path, capsys):
    assert train.main(arguments(data_root, tmp_path, "CLIPFit", options=["TRAINER.CLIPFIT.W", -1.0])) == 2
    assert "TRAINER.CLIPFIT.W is -1.0" in capsys.readouterr().err
