"""GDA (../../../trainers/adapters/gda.py): its classifiers by hand, of classes with shots and of new ones."""

import pytest
import torch
import torch.nn.functional as F

import train
from dassl.engine import build_trainer
from tests.helpers import CLASSES, REPOSITORY, arguments, results
from trainers.adapters.gda import Gaussians


def line(data_root, folder, *options, **flags):
    file = REPOSITORY / "configs/trainers/GDA/embedded.yaml"
    return arguments(data_root, folder, "GDA", config_file=file, options=options, **flags)


def shots(shrink=True):
    torch.manual_seed(1)
    learner = Gaussians(["a", "b", "c"], 4, 1.0, shrink)
    learner.f, learner.labels = F.normalize(torch.randn(30, 4), dim=-1), torch.arange(30) % 3
    return learner


@pytest.mark.parametrize("shrink", [True, False])
def test_bayes_rule(shrink):
    """W f + b differs from the logarithm of the Gaussian densities by the same number for all classes."""
    learner = shots(shrink)
    weight, bias = learner.of_shots()
    f = learner.f.double()
    means = torch.stack([f[learner.labels == c].mean(dim=0) for c in range(3)])
    away = f - means[learner.labels]
    if shrink:
        covariance = away.t() @ away / 29
        precision = 4 * torch.linalg.inv(29 * covariance + covariance.trace() * torch.eye(4))
    else:
        precision = torch.linalg.inv(away.t() @ away / 27)  # the mean of the classes' own, of ten shots each
    x = torch.randn(5, 4).double()
    gaps = x[:, None] - means  # (5, 3, d)
    expected = -torch.einsum("bcd,de,bce->bc", gaps, precision, gaps) / 2
    ours = x @ weight.double().t() + bias.double()
    torch.testing.assert_close(ours - ours.mean(dim=1, keepdim=True), expected - expected.mean(dim=1, keepdim=True), rtol=1e-3, atol=1e-3)  # fmt: skip


def test_which_classifier_counts():
    """Some of the classes with shots have their own rows; a class without shots makes all speak by their texts."""
    learner, text = shots(), F.normalize(torch.randn(2, 4), dim=-1)
    weight, bias = learner.of_shots()
    for ours, whole in zip(learner.of(["c", "a"], text), (weight, bias), strict=True):
        assert torch.equal(ours, whole[[2, 0]])
    for ours, by_text in zip(learner.of(["c", "new"], text), learner.of_texts(text), strict=True):
        assert torch.equal(ours, by_text)


def test_a_new_class_by_its_text():
    """Its mean is that of the nearest shots, here all 30, and 16 copies of the text."""
    learner, text = shots(), F.normalize(torch.randn(2, 4), dim=-1)
    weight, _ = learner.of_texts(text)
    means = torch.stack([torch.cat([learner.f, t.expand(16, -1)]).mean(dim=0) for t in text])
    precision = 0
    for t in text:
        around = (learner.f - t).t() @ (learner.f - t) / 29
        precision = precision + 4 * torch.linalg.inv(29 * around + around.trace() * torch.eye(4)) / 2
    torch.testing.assert_close(weight, means @ precision, rtol=1e-3, atol=1e-4)


def test_trains_nothing_and_tests_on_new(data_root, tmp_path):
    assert train.main(line(data_root, tmp_path / "base")) == 0
    assert results(tmp_path / "base")["trainable_parameters"] == 0
    flags = {"subsample": "new", "model_dir": tmp_path / "base", "eval_only": True}
    assert train.main(line(data_root, tmp_path / "new", **flags)) == 0
    assert list(results(tmp_path / "new")["classwise"]) == CLASSES[3:]
    trainer = build_trainer(train.build_config(train.parse_arguments(line(data_root, tmp_path / "x", **flags))))
    trainer.load_model(str(tmp_path / "base"), epoch=3)
    text = trainer.encode_classes()
    assert trainer.model.prompt_learner.names == CLASSES[:3]
    weight, bias = trainer.model.prompt_learner.of_texts(text)
    images = torch.randn(2, 3, 64, 64)
    f = F.normalize(trainer.model.clip.encode_image(images), dim=-1)
    expected = trainer.model.logit_scale() * f @ text.t() + f @ weight.t() + bias
    torch.testing.assert_close(trainer.model_inference(images), expected, rtol=1e-3, atol=1e-3)
