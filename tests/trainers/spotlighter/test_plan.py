"""Plans within a budget (trainers/spotlighter/plan.py)."""

import pytest
import torch

from clip.vit import VisionTransformer
from trainers.spotlighter.cost import Cost
from trainers.spotlighter.plan import Plan, firsts, one_look
from trainers.spotlighter.zoom import Zoom

AFTER = (0,)


def cost_of(resolution, patch, width, layers, joint) -> Cost:
    with torch.device("meta"):
        visual = VisionTransformer(resolution, patch, width, layers, width // 64, joint)
        return Cost(visual, classes=20, prototypes=5)


ENCODERS = {
    "ViT-Embedded/8": (64, 8, 128, 4, 128),
    "ViT-B/16": (224, 16, 768, 12, 512),
    "ViT-B/32": (224, 32, 768, 12, 512),
}
encoders = pytest.mark.parametrize("size", ENCODERS.values(), ids=ENCODERS)


@encoders
@pytest.mark.parametrize("budget", [0.5, 0.6, 0.8, 1.0, 1.5, 2.6, 5.0])
def test_no_plan_costs_more_than_the_budget(size, budget):
    """But all tokens in one look, whose answer costs a little more than CLIP's: it is among the plans from 1 on."""
    cost = cost_of(*size)
    alone = one_look(cost, budget, AFTER)
    if budget >= 1:
        assert (alone.keep, alone.tokens) == (1.0, True) and 1 < alone.cost < 1.05
    else:
        assert not alone.tokens and alone.cost <= budget
    for first in firsts(cost, budget, AFTER, glances=True):
        before = (
            cost.glance(1)
            if first.keep == 0
            else cost.look(cost.side, first.keep, AFTER) + (first.keep < 1) * cost.map(1) + cost.answer()
        )
        region = lambda side: cost.look(side) + cost.answer()  # noqa: E731
        assert first.cost == pytest.approx(before + first.count * region(first.side)) and first.cost <= budget
        assert cost.side // 2 <= first.side <= cost.side
        wider = before + first.count * region(first.side + 1)
        assert first.side == cost.side or wider > budget  # as many pixels as the budget pays


@encoders
def test_one_look_keeps_as_much_as_there_is_room_for(size):
    cost = cost_of(*size)
    keep = one_look(cost, 0.7, AFTER).keep
    assert cost.look(cost.side, keep + 0.05, AFTER) + cost.answer() > 0.7
    assert one_look(cost, 0.99, AFTER).keep == 1.0  # without patch tokens the last block is for the class token alone


def test_what_a_budget_of_one_pays_for():
    cost = cost_of(*ENCODERS["ViT-B/16"])
    looks = {(first.keep, first.count): first for first in firsts(cost, 1.0, AFTER, glances=True)}
    assert {(0.0, 1), (0.0, 2), (0.0, 3), (0.4, 1), (0.6, 1)} <= looks.keys()
    assert (1.0, 1) not in looks and looks[0.0, 1].side > looks[0.4, 1].side > looks[0.6, 1].side
    assert not [first for first in firsts(cost, 1.0, AFTER, glances=False) if first.keep == 0]


def test_a_rich_budget_has_fewer_first_looks():
    """From twice CLIP's cost on, where each plan has most regions to look at."""
    cost = cost_of(*ENCODERS["ViT-B/16"])
    keeps = lambda budget: {first.keep for first in firsts(cost, budget, AFTER, glances=True)}  # noqa: E731
    assert keeps(1.9) == {0.0, 0.25, 0.4, 0.6, 1.0} and keeps(2.0) == keeps(5.0) == {0.0, 0.6, 1.0}


def test_in_words():
    assert Plan(1.0, True, None, 0, 1.02).in_words(8) == "all tokens, one look, at 1.02 of zero-shot CLIP's cost"
    plan = Plan(0.0, False, Zoom(0, 0.625, 2, 1.0), 5, 0.9)
    said = "a glance, then 2 regions of 0.625 of the side in 40 x 40 pixels (100% of the logits), at 0.90 of zero-shot CLIP's cost"
    assert plan.in_words(8) == said
