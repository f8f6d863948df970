"""Linear probe (../../../trainers/adapters/linear_probe.py) against scikit-learn, which CoOp's authors solve it with."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

import clip
import train
from dassl.engine import build_trainer
from one_run.predictor import Predictor
from tests.helpers import REPOSITORY, arguments, results
from tests.test_train import one_sentence
from trainers.adapters.linear_probe import GRID, HALVINGS, solve

C, SEARCH = "TRAINER.LINEARPROBE.C", "TRAINER.LINEARPROBE.SEARCH"


def built(data_root, folder, *options, **flags):
    line = arguments(data_root, folder, "LinearProbe", options=options, **flags)
    return build_trainer(train.build_config(train.parse_arguments(line)))


def sklearns(f, labels, c):
    return LogisticRegression(C=c, max_iter=1000).fit(f, labels)


@pytest.mark.parametrize("c", [0.01, 0.316, 100.0])
def test_a_run_learns_scikit_learns_solution(data_root, tmp_path, c):
    trainer = built(data_root, tmp_path, C, c, subsample="all")
    shots = trainer.in_order(trainer.test_loader.dataset.transform)
    raw = torch.cat([trainer.model.clip.encode_image(batch["img"]).float() for batch in shots])  # (N, d)
    labels = torch.cat([batch["label"] for batch in shots])
    assert (raw.norm(dim=1) - 1).abs().min() > 0.1  # of CLIP's own length
    trainer.train()
    expected = sklearns(raw.double(), labels, c)
    learner = trainer.model.prompt_learner
    torch.testing.assert_close(learner.weight.double(), torch.from_numpy(expected.coef_), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(learner.bias.double(), torch.from_numpy(expected.intercept_), atol=1e-4, rtol=1e-4)
    images = torch.randn(3, 3, 64, 64)
    logits = expected.decision_function(trainer.model.clip.encode_image(images).double().numpy())
    torch.testing.assert_close(trainer.model(images).double(), torch.from_numpy(logits), atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("classes", [2, 3])
def test_its_loss_is_the_least(classes):
    """By hand: c times the sum of cross-entropies, and half the squared weights, which of two classes are one row's."""
    torch.manual_seed(0)
    f, labels = torch.randn(12, 5, dtype=torch.float64), torch.arange(12) % classes
    weight, bias = solve(f, labels, classes, 2.0)

    def loss(weight, bias):
        chosen = (f @ weight.t() + bias).log_softmax(dim=1)[torch.arange(12), labels]
        squared = (weight[1] - weight[0] if classes == 2 else weight).square().sum()
        return (-2.0 * chosen.sum() + squared / 2).item()

    for _ in range(50):
        by = 0.1 * torch.randn_like(weight), 0.1 * torch.randn_like(bias)
        assert loss(weight + by[0], bias + by[1]) > loss(weight, bias)
    assert all(not value.any() for value in solve(f, torch.zeros(12, dtype=torch.long), 1, 2.0))


def test_the_search_is_that_of_coops_authors(data_root, tmp_path):
    """A grid, then the better end of an interval that is halved in log C, by accuracy on validation images."""
    trainer = built(data_root, tmp_path)
    torch.manual_seed(3)
    centres = torch.randn(4, 8, dtype=torch.float64)
    labels, truth = torch.arange(24) % 4, torch.arange(400) % 4
    f, images = (centres[y] + 1.5 * torch.randn(len(y), 8, dtype=torch.float64) for y in (labels, truth))
    trainer.num_classes, trainer.shots = 4, lambda loader: (images, truth)

    def right(c):
        return (sklearns(f, labels, c).predict(images) == truth.numpy()).mean()

    peak = GRID[int(np.argmax([right(c) for c in GRID]))]
    low, high = np.log10(peak) - 1, np.log10(peak) + 1
    for _ in range(HALVINGS):
        ends = right(10**low), right(10**high)
        best, low, high = (high, (low + high) / 2, high) if ends[0] < ends[1] else (low, low, (low + high) / 2)
    chosen = trainer.choose(f, labels)
    assert chosen == pytest.approx(10**best, rel=1e-6) and chosen not in GRID


def test_a_search_needs_validation_images_that_are_no_test_images(data_root, tmp_path, capsys, monkeypatch):
    line = arguments(data_root, tmp_path / "a", "LinearProbe", options=[SEARCH, True])
    assert train.main(line) == 0 and results(tmp_path / "a")["chosen_on_test"] is False
    monkeypatch.setattr("one_run.judges.validates_on_test_images", lambda dataset: True)
    capsys.readouterr()
    assert train.main(arguments(data_root, tmp_path / "b", "LinearProbe", options=[SEARCH, True])) == 2
    assert f"among its test images, and {SEARCH} True would choose the model on these: leave {SEARCH}" in one_sentence(capsys)  # fmt: skip
    paper = ["SETTINGS.MODE", "paper"]  # in which it searches
    assert train.main(arguments(data_root, tmp_path / "c", "LinearProbe", options=paper)) == 0
    assert results(tmp_path / "c")["chosen_on_test"] is True


def test_it_is_of_its_classes_and_no_host(data_root, tmp_path, capsys):
    run = tmp_path / "all"
    assert train.main(arguments(data_root, run, "LinearProbe", subsample="all")) == 0
    state = torch.load(run / "prompt_learner/model.pth.tar-3", weights_only=True)["state_dict"]
    assert {name: len(value) for name, value in state.items()} == {"weight": 5, "bias": 5}
    names = results(run)["identity"]["classes"]
    some = Predictor(run, [names[4], names[1]]).trainer.model.prompt_learner
    assert torch.equal(some.weight, state["weight"][[4, 1]]) and torch.equal(some.bias, state["bias"][[4, 1]])
    with pytest.raises(clip.InputError, match="a weight vector for each of its 5 classes"):
        Predictor(run, ["teal", "pink"])
    capsys.readouterr()
    own = REPOSITORY / "configs/trainers/LinearProbe/embedded.yaml"
    host = ["TRAINER.SPOTLIGHTER.HOST", "LinearProbe"]
    assert train.main(arguments(data_root, tmp_path / "over", "Spotlighter", options=host, config_file=own)) == 2
    assert "LinearProbe cannot carry Spotlighter: its logits are no cosines" in one_sentence(capsys)
