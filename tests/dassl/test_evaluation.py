"""Results and the lines they are printed in (../dassl/evaluation, ../dassl/metrics)."""

import numpy as np
import pytest
import sklearn.metrics
import torch

from dassl.config import get_cfg_default
from dassl.evaluation import build_evaluator
from dassl.evaluation.evaluator import confusion_matrix, confusions, macro_f1_of
from dassl.metrics import compute_accuracy, compute_distance_matrix
from dassl.utils import InputError

NAMES = {0: "face", 1: "leopard", 2: "car side"}
TRUE = torch.tensor([0, 0, 0, 1, 1, 2, 2])
PRED = torch.tensor([0, 0, 1, 1, 2, 0, 1])


def evaluate(tmp_path, *batches, **test_keys):
    cfg = get_cfg_default()
    cfg.OUTPUT_DIR = str(tmp_path)
    for key, value in test_keys.items():
        cfg.TEST[key] = value
    evaluator = build_evaluator(cfg, lab2cname=NAMES)
    for rows in batches:
        evaluator.process(torch.nn.functional.one_hot(PRED[rows], 3).float(), TRUE[rows])
    return evaluator, evaluator.evaluate()


def test_results_are_unrounded(tmp_path):
    evaluator, results = evaluate(tmp_path, slice(0, 4), slice(4, 7))
    assert list(results) == ["accuracy", "error_rate", "macro_f1"]
    assert results["accuracy"] == 100 * 3 / 7 and results["error_rate"] == 100 - 100 * 3 / 7
    assert results["macro_f1"] == pytest.approx(100 * sklearn.metrics.f1_score(TRUE, PRED, average="macro"))
    assert evaluator.results is results
    assert evaluator.classwise[0] == {"name": "face", "total": 3, "correct": 2, "accuracy": 100 * 2 / 3}
    assert evaluator.classwise[2]["correct"] == 0


def test_what_was_answered_in_place_of_each_class(tmp_path):
    evaluator, _ = evaluate(tmp_path, slice(0, 4), slice(4, 7))
    assert evaluator.confused == {0: {1: 1}, 1: {2: 1}, 2: {0: 1, 1: 1}}
    for label, entry in evaluator.classwise.items():
        assert sum(evaluator.confused[label].values()) == entry["total"] - entry["correct"]
    assert confusions(TRUE.numpy(), TRUE.numpy()) == {}


def test_lines(tmp_path, capsys):
    evaluate(tmp_path, slice(0, 7), PER_CLASS_RESULT=True)
    lines = capsys.readouterr().out.splitlines()
    assert lines[lines.index("=> result") :] == [
        "=> result",
        "* total: 7",
        "* correct: 3",
        "* accuracy: 42.9%",
        "* error: 57.1%",
        "* macro_f1: 35.6%",  # the mean of 2/3, 2/5 and 0
        "=> per-class result",
        "* class: 0 (face)\ttotal: 3\tcorrect: 2\tacc: 66.7%",
        "* class: 1 (leopard)\ttotal: 2\tcorrect: 1\tacc: 50.0%",
        "* class: 2 (car side)\ttotal: 2\tcorrect: 0\tacc: 0.0%",
        "* average: 38.9%",
    ]


def test_confusion_matrix(tmp_path):
    evaluate(tmp_path, slice(0, 7), COMPUTE_CMAT=True)
    matrix = torch.load(tmp_path / "cmat.pt", weights_only=True)
    torch.testing.assert_close(
        matrix, torch.tensor([[2 / 3, 1 / 3, 0], [0, 0.5, 0.5], [0.5, 0.5, 0]], dtype=torch.float64)
    )


@pytest.mark.parametrize(("classes", "images"), [(2, 1), (3, 7), (10, 40), (100, 300), (397, 5000)])
def test_as_scikit_learn(classes, images):
    """To the bit: also where a class is never seen, or never predicted."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        true = rng.choice(rng.permutation(classes)[: max(1, classes - 1)], images)
        pred = np.where(rng.random(images) < 0.6, true, rng.integers(0, classes, images))
        f1 = sklearn.metrics.f1_score(true, pred, average="macro", labels=np.unique(true))
        assert macro_f1_of(true, pred) == f1
        matrix = sklearn.metrics.confusion_matrix(true, pred, normalize="true")
        np.testing.assert_array_equal(confusion_matrix(true, pred), matrix, strict=True)


def test_reset_and_nothing_to_evaluate(tmp_path):
    evaluator, _ = evaluate(tmp_path, slice(0, 7))
    evaluator.reset()
    with pytest.raises(InputError, match="nothing to evaluate"):
        evaluator.evaluate()


def test_accuracy_of_a_batch():
    logits = torch.tensor([[0.1, 0.9, 0.0], [0.8, 0.1, 0.2], [0.1, 0.2, 0.3], [0.5, 0.4, 0.1]])
    target = torch.tensor([1, 2, 2, 1])
    top1, top2 = compute_accuracy(logits, target, topk=(1, 2))
    assert (top1.item(), top2.item()) == (50.0, 100.0)
    assert compute_accuracy((logits, None), target)[0].item() == 50.0


def test_distances():
    a, b = torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([[1.0, 0.0]])
    torch.testing.assert_close(compute_distance_matrix(a, b), torch.tensor([[0.0], [5.0]]))
    torch.testing.assert_close(compute_distance_matrix(a, b, "cosine"), torch.tensor([[0.0], [1.0]]))
