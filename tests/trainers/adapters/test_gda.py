"""GDA (../../../trainers/adapters/gda.py): its classifiers by hand, of classes with shots and of new ones."""

import math

import pytest
import torch
import torch.nn.functional as F

import train
from dassl.engine import build_trainer
from tests.helpers import CLASSES, REPOSITORY, arguments, results
from trainers.adapters.gda import GRID, Gaussians, classifier


def line(data_root, folder, *options, **flags):
    file = REPOSITORY / "configs/trainers/GDA/embedded.yaml"
    return arguments(data_root, folder, "GDA", config_file=file, options=options, **flags)


def built(*args, **flags):
    return build_trainer(train.build_config(train.parse_arguments(line(*args, **flags))))


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


def test_classes_of_one_name():
    """Each has the row of its own shots, also where they are asked for in another order; of three there is no third."""
    learner, text = shots(), F.normalize(torch.randn(3, 4), dim=-1)
    learner.names = ["crane", "b", "crane"]
    weight, bias = learner.of_shots()
    for ours, whole in zip(learner.of(["b", "crane", "crane"], text), (weight, bias), strict=True):
        assert torch.equal(ours, whole[[1, 0, 2]])
    for ours, by_text in zip(learner.of(["crane"] * 3, text), learner.of_texts(text), strict=True):
        assert torch.equal(ours, by_text)


@pytest.mark.parametrize(("shrink", "says"), [(True, "two features of a class"), (False, "two features of each class")])
def test_too_few_for_a_covariance(data_root, tmp_path, capsys, shrink, says):
    options = ["DATASET.NUM_SHOTS", 1, "TRAINER.GDA.AUGMENT", 1, "TRAINER.GDA.SHRINK", shrink]
    assert train.main(line(data_root, tmp_path / "run", *options)) == 2
    assert says in capsys.readouterr().err and not (tmp_path / "run" / "gaussians").exists()


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
    trainer = built(data_root, tmp_path / "x", **flags)
    trainer.load_model(str(tmp_path / "base"), epoch=3)
    text = trainer.encode_classes()
    assert trainer.model.prompt_learner.names == CLASSES[:3]
    weight, bias = trainer.model.prompt_learner.of_texts(text)
    images = torch.randn(2, 3, 64, 64)
    f = F.normalize(trainer.model.clip.encode_image(images), dim=-1)
    expected = trainer.model.logit_scale() * f @ text.t() + f @ weight.t() + bias
    torch.testing.assert_close(trainer.model_inference(images), expected, rtol=1e-3, atol=1e-3)


def test_validation_images_choose_in_the_mode_paper(data_root, tmp_path, capsys):
    """The first of the best ALPHAs on the grid, which is saved and counts at test; unasked, none is searched."""
    assert train.main(line(data_root, tmp_path / "strict")) == 0
    assert "by validation images" not in capsys.readouterr().out
    assert train.main(line(data_root, tmp_path / "paper", "SETTINGS.MODE", "paper")) == 0
    said = capsys.readouterr().out
    trainer = built(data_root, tmp_path / "x")
    trainer.load_model(str(tmp_path / "paper"))
    trainer.encode_classes()
    learner, (f, y) = trainer.model.prompt_learner, trainer.validation()
    weight, bias = learner.of_shots()
    zero_shot = trainer.model.logit_scale() * f @ trainer.model.text.t()
    of = {alpha: zero_shot + alpha * (f @ weight.t() + bias) for alpha in GRID}
    right = [int((logits.argmax(dim=1) == y).sum()) for logits in of.values()]
    best = GRID[right.index(max(right))]
    assert learner.chosen == (best,) and f"ALPHA {best:g} by validation images" in said
    assert best != learner.alpha == 1.0
    torch.testing.assert_close(trainer.model.logits(f, trainer.model.text), of[best])


def test_the_first_of_equals_is_chosen(data_root, tmp_path):
    """The smallest, where none is right; else the first that is right most often."""
    trainer = built(data_root, tmp_path)
    trainer.fill()
    trainer.encode_classes()
    f, y = trainer.validation()
    trainer.validation = lambda: (f, torch.full_like(y, -1))  # none is ever right
    trainer.choose()
    assert trainer.model.prompt_learner.chosen == (GRID[0],)
    f = F.normalize(torch.randn(50, f.shape[1]), dim=-1)
    gaussian = f @ trainer.model.found[0].t() + trainer.model.found[1]
    trainer.validation = lambda: (f, gaussian.argmax(dim=1))  # the larger ALPHA, the better
    trainer.choose()
    logits = trainer.model.logit_scale() * f @ trainer.model.text.t()
    right = [int(((logits + alpha * gaussian).argmax(dim=1) == gaussian.argmax(dim=1)).sum()) for alpha in GRID]
    assert right[0] < right[-1]
    assert trainer.model.prompt_learner.chosen == (GRID[right.index(max(right))],)


def test_its_nearest_shots(monkeypatch):
    """A new class has those nearest to its text alone, for its mean and its covariance."""
    monkeypatch.setattr("trainers.adapters.gda.NEAREST", 8)
    learner, text = shots(), F.normalize(torch.randn(1, 4), dim=-1)
    near = learner.f[(learner.f @ text[0]).argsort(descending=True)[:8]]
    learner.f, learner.labels = near, torch.zeros(8, dtype=torch.long)
    few = learner.of_texts(text)
    for ours, theirs in zip(shots().of_texts(text), few, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)
    monkeypatch.setattr("trainers.adapters.gda.NEAREST", 30)
    assert not torch.allclose(shots().of_texts(text)[0], few[0], rtol=1e-2)


def test_passes_add_to_its_shots(data_root, tmp_path):
    """Each pass has its features and labels."""
    by_chance = ["INPUT.TRANSFORMS", ("random_flip", "normalize"), "TRAINER.GDA.AUGMENT", 3]
    trainer = built(data_root, tmp_path, *by_chance)
    trainer.fill()
    learner, items = trainer.model.prompt_learner, trainer.dm.dataset.train_x
    assert learner.f.shape == (3 * len(items), 128)
    assert learner.labels.tolist() == 3 * [item.label for item in items]
    torch.testing.assert_close(learner.f.norm(dim=1), torch.ones(len(learner.f)))
    first, second, _ = learner.f.chunk(3)
    assert not torch.equal(first, second)
    gaps = torch.cdist(first, second)
    assert (gaps.argmin(dim=1) == torch.arange(len(items))).float().mean() > 0.5  # the same images, in the same order


def test_priors_and_state():
    """The bias of C classes holds their prior, 1 / C; names come back from a checkpoint."""
    learner, zero = shots(), torch.zeros(3, 4)
    _, bias = classifier(zero, torch.eye(4))
    assert bias.tolist() == pytest.approx([-math.log(3)] * 3)
    other = Gaussians(["x"], 4, 1.0, True)
    learner.chosen = (10.0,)
    other.load_state_dict(learner.state_dict())
    assert other.names == ["a", "b", "c"] and other.chosen == (10.0,)
    assert torch.equal(other.f, learner.f) and torch.equal(other.labels, learner.labels)
