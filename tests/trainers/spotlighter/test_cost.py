"""What looks cost (trainers/spotlighter/cost.py), held to PyTorch's own count of multiplications."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from clip import Edit
from clip.vit import VisionTransformer
from trainers.spotlighter.bank import Shots, add_second_look, build_bank, remember
from trainers.spotlighter.budgeted import EarlyMap, InFewerPixels
from trainers.spotlighter.cost import Cost
from trainers.spotlighter.drop import DropTokens
from trainers.spotlighter.head import SpotlighterHead
from trainers.spotlighter.trained import unit

SIDE, PATCH, D, d, LAYERS, C, K = 6, 4, 96, 64, 5, 7, 5


@pytest.fixture(scope="module")
def visual():
    torch.manual_seed(0)
    return VisionTransformer(SIDE * PATCH, PATCH, D, LAYERS, 3, d).eval()


def counted(call) -> float:
    """Multiplications; a layer of attention counts as its two products."""
    with FlopCounterMode(display=False) as counter, torch.no_grad(), torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):  # fmt: skip
        call()
    return counter.get_total_flops() / 2


def images(side=SIDE):
    return torch.randn(1, 3, side * PATCH, side * PATCH)


def in_units(cost: Cost, multiplications: float) -> float:
    return multiplications / cost.unit


def test_the_unit_is_clip_as_published(visual):
    """All tokens through all blocks, then the class token against the texts."""
    cost, text = Cost(visual, C, K), torch.randn(C, d)
    reads = Edit()
    reads.reads_all = lambda i: True
    assert counted(lambda: visual(images(), [reads]) @ text.t()) == cost.unit
    assert cost.look(SIDE, tokens=True) == pytest.approx(in_units(cost, counted(lambda: visual(images(), tokens=True))))


@pytest.mark.parametrize("side, keep, alone", [(6, 1.0, True), (4, 1.0, True), (6, 0.5, True), (6, 0.5, False)])
def test_looks(visual, side, keep, alone):
    """Of the class token alone, in fewer pixels, at a share of the patches; a probe and a fold are no more than 1% of it."""
    cost = Cost(visual, C, K)
    drop = DropTokens(visual, keep, (1,), "probe", 0.5)
    edits = [drop] * (keep < 1) + [InFewerPixels(visual, side)] * (side < SIDE)
    call = lambda: visual(images(side), edits, tokens=not alone)  # noqa: E731
    assert cost.look(side, keep, (1,), tokens=not alone) == pytest.approx(in_units(cost, counted(call)), rel=0.01)


def test_a_map(visual):
    """To the multiplication, beside the same look without."""
    cost, drop = Cost(visual, C, K), DropTokens(visual, 0.5, (0,), "probe", 0.5)
    with_map, without = (counted(lambda edits=edits: visual(images(), edits)) for edits in ([EarlyMap(visual, 1), drop], [drop]))  # fmt: skip
    assert cost.map(1) == pytest.approx(in_units(cost, with_map - without), rel=1e-6)
    with_map, without = (counted(lambda edits=edits: visual(images(), edits)) for edits in ([EarlyMap(visual, 1, whole=True)], []))  # fmt: skip
    assert in_units(cost, with_map - without) < 0.1 * cost.map(1)  # a query and the keys that are there already


def test_a_glance(visual):
    cost = Cost(visual, C, K)
    glance = EarlyMap(visual, 1, ends=True)
    wasted = D * d  # the encoder projects a class token that nobody asks for
    found = counted(lambda: visual(images(), [glance])) - wasted
    assert cost.glance(1) == pytest.approx(in_units(cost, found), rel=1e-6)


def test_a_hosts_prompts_count(visual):
    """Through all blocks, also where those of the first two alone are learned."""
    from clip import VisualPrompts

    prompts = [torch.randn(3, D) for _ in range(2)]
    cost = Cost(visual, C, K, [len(prompt) for prompt in prompts])
    found = counted(lambda: visual(images(), [VisualPrompts(prompts)]))
    assert cost.look(SIDE) == pytest.approx(in_units(cost, found), rel=1e-6)


@pytest.mark.parametrize("tokens, looks", [(False, 1), (False, 3), (True, 1)])
def test_answers(visual, tokens, looks):
    """The head's products, to a tenth: they are under a hundredth of the encoder's."""
    torch.manual_seed(1)
    head, cost = SpotlighterHead(100.0), Cost(visual, C, K)
    y = torch.arange(C).repeat(4)
    rows = lambda *shape: unit(torch.randn(*shape))  # noqa: E731
    shots = Shots(rows(len(y), d), rows(len(y), SIDE**2, d) if tokens else None, y)
    t = rows(C, d)
    remember(head, shots, t, t, [str(c) for c in range(C)])
    classes, bank = head.describe(t, t, head.classnames), head.bank
    if looks > 1:
        bank = add_second_look(head, build_bank(head, shots, t, t), rows(len(y), looks, d), y, t, t)
    f, v, again = rows(1, d), rows(1, SIDE**2, d) if tokens else None, rows(1, looks, d)
    call = lambda: head.logits(f, v, classes, bank) if looks == 1 else head.second_logits(again, classes, bank)  # noqa: E731
    assert cost.answer(looks, SIDE**2 if tokens else 0) == pytest.approx(in_units(cost, counted(call)), rel=0.1)
