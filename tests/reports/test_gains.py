"""What classes gain from a method over its host (reports/gains.py)."""

import pytest

from reports.page import collect
from tests.reports.runs import fewshot


def test_gains_are_those_over_the_host(output):
    comparisons = collect(output).comparisons
    over = {(each.run.method, each.host, each.run.dataset, each.run.phase): each for each in comparisons}
    gain = over["Spotlighter/vit_b16", "CoOp/vit_b16", "dtd", "base2new_train"]
    assert [(each.name, each.host, each.method) for each in gain.classes] == [
        ("dog", 60, 80),
        ("cat", 50, 50.5),  # the mean of two seeds
        ("cow", 70, 60),
    ]
    assert gain.counts == (2, 0, 1) and gain.mean == pytest.approx(3.5) and gain.seeds == [1, 2]
    assert comparisons[0].run.method == "Spotlighter/vit_b16"
    assert ("CoOp/vit_b16", "ZeroshotCLIP/vit_b16", "dtd", "base2new_test") in over
    assert not any(each.run.place.method == "ZeroshotCLIP" for each in comparisons)


def test_best_and_worst_ten(tmp_path):
    for method, gain in (("ZeroshotCLIP", 0), ("CoOp", 1)):
        classwise = {f"c{n}": {"total": 100, "correct": 50, "accuracy": 50.0 + gain * (n - 15)} for n in range(30)}
        fewshot(tmp_path, method, "dtd", 4, 1, 50.0, classwise=classwise)
    (gains,) = collect(tmp_path).comparisons
    assert [each.gain for each in gains.best] == list(range(14, 4, -1))
    assert [each.gain for each in gains.worst] == list(range(-15, -5))
