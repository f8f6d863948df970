"""The study of early exits (benchmarks/early_exit.py): thresholds and costs against numbers put together by hand, and one small run."""

import json

import pytest
import torch

from benchmarks import early_exit
from benchmarks.early_exit import EXIT, HEAD, NEVER, OWN, Answers, Exit, choose, exit_of, sure_from
from trainers.spotlighter.plan import Plan
from trainers.spotlighter.zoom import Zoom

PLAN = Plan(keep=0.4, tokens=False, zoom=Zoom(0, 0.5, 1, 0.5), side=8, cost=1.4)
ALONE = Plan(keep=1.0, tokens=True, zoom=None, side=0, cost=1.0)


def test_the_threshold_spends_the_budget():
    confidences = torch.tensor([0.9, 0.3, 0.5, 0.7, 0.4])
    assert (confidences < sure_from(confidences, 0.4)).sum() == 2
    assert sure_from(confidences, 0.39) == pytest.approx(0.4)  # two images would be more than the budget pays
    assert sure_from(confidences, 1.0) == NEVER
    once = torch.tensor([[5.0, 0], [0.2, 0], [0, 3.0], [0.1, 0]])
    chosen = exit_of(PLAN, 0.6, Answers(once, once), budget=1.0)
    _, again = Answers(once, once).where(chosen.sure)
    assert again.tolist() == [False, True, False, True] and chosen.cost(0.5) == pytest.approx(1.0)
    assert exit_of(PLAN, 1.0, Answers(once, once), budget=1.0) is None  # nothing is left for a second look
    assert exit_of(PLAN, 0.6, Answers(once, once), budget=1.4).sure == NEVER  # every image may have it


def test_images_that_are_sure_keep_the_first_answer():
    once, twice = torch.tensor([[4.0, 0], [0.1, 0]]), torch.tensor([[0, 9.0], [0, 9.0]])
    logits, again = Answers(once, twice).where(0.9)
    assert logits.tolist() == [[4.0, 0], [0, 9.0]] and again.tolist() == [False, True]
    assert Answers(None, twice).where(0.9)[0] is twice  # a glance


def test_an_exit_has_to_beat_the_one_look():
    y, which = torch.tensor([0, 1, 0, 1]), torch.arange(4)
    right, wrong = torch.tensor([[3.0, 0], [0, 3.0], [3.1, 0], [0, 3.0]]), torch.zeros(4, 2)
    exit_ = Exit(PLAN, 0.6, 0.5)
    better = {ALONE: Answers(None, wrong), PLAN: Answers(right, right)}
    assert choose([exit_], better, ALONE, which, y) == exit_
    worse = {ALONE: Answers(None, right), PLAN: Answers(wrong, wrong)}
    assert choose([exit_], worse, ALONE, which, y).plan == ALONE


def test_a_small_run(root, tmp_path):
    argv = ["--root", root, "--sets", "species", "--seeds", 1, "--images", 2, "--workers", 1]
    argv = [str(part) for part in [*argv, "--work", tmp_path / "work", "--out", tmp_path, "--name", "small"]]
    assert early_exit.main(argv) == 0
    (cell,) = json.loads((tmp_path / "small.json").read_text())["cells"]
    assert set(cell["accuracies"]) == {HEAD, OWN, EXIT} and cell["plans"][OWN]["cost"] <= 1.04
    assert "| with exits |" in (tmp_path / "small.md").read_text()
