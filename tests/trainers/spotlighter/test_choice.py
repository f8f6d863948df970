"""The choice of a plan on held-out shots (trainers/spotlighter/choice.py), in a world where it is known which is right."""

import pytest
import torch

from tests.trainers.spotlighter.world import SCALE, C, D, unit
from trainers.spotlighter import choice
from trainers.spotlighter.bank import Shots
from trainers.spotlighter.choice import Seen, choose_plan, encode_for_plans
from trainers.spotlighter.head import SpotlighterHead
from trainers.spotlighter.model import FirstLook
from trainers.spotlighter.plan import First, Plan
from trainers.spotlighter.zoom import ZOOM_WIDTHS

SHOTS = 16
ALONE = Plan(1.0, True, None, 0, 1.02)
GLANCE, HALF = First(0.0, 2, 5, 0.9), First(0.4, 1, 6, 0.95)


@pytest.fixture
def world():
    """Texts t (C, d), and what `telling` rows say of their class: images (B, d) that are near their text."""
    generator = torch.Generator().manual_seed(0)
    t, y = unit(torch.randn(C, D, generator=generator)), torch.arange(C).repeat_interleave(SHOTS)
    noise = lambda *shape: torch.randn(*shape, D, generator=generator)  # noqa: E731

    def rows(telling: bool, *shape):
        about = t[y].view(len(y), *[1] * len(shape), D) if telling else 0
        return unit(about + 0.35 * noise(len(y), *shape)) if telling else unit(noise(len(y), *shape))

    return t, y, rows


def seen(rows, f=False, glance=(False, False, False), half=(False, False, False)) -> Seen:
    """First looks at 40%, and regions of both kinds, a width each; whether they tell the class."""
    regions = {
        look: torch.stack([rows(telling, look.count) for telling in widths], dim=1)
        for look, widths in ((GLANCE, glance), (HALF, half))
    }
    return Seen({0.4: rows(f)}, regions)


def choose(world, whole: bool, looks: Seen, alone=ALONE, few=None) -> Plan:
    t, y, rows = world
    shots = Shots(rows(whole), rows(whole, 6), y)
    if few is not None:
        shots, looks = shots[few], Seen(*({k: v[few] for k, v in part.items()} for part in looks))
    return choose_plan(SpotlighterHead(SCALE), shots, looks, alone, t, t, seed=1)


def test_what_tells_the_class_is_looked_at(world):
    """Regions of the second width behind a glance alone; its answer is the regions' own."""
    plan = choose(world, False, seen(world[2], glance=(False, True, False)))
    assert (plan.keep, plan.tokens, plan.side, plan.cost) == (0.0, False, 5, 0.9)
    assert plan.zoom == (0, ZOOM_WIDTHS[1], 2, 1.0)


def test_a_first_look_that_tells_something_has_its_share(world):
    plan = choose(world, False, seen(world[2], f=True, half=(True, False, False)))
    assert (plan.keep, plan.zoom.width, plan.zoom.count) == (0.4, ZOOM_WIDTHS[0], 1) and plan.zoom.share < 1


def test_one_look_stays_where_nothing_is_better(world):
    assert choose(world, True, seen(world[2])) == ALONE


def test_a_plan_has_to_be_better_by_more_than_chance(world, monkeypatch):
    """By standard errors of what each held-out image gains: a plan that is better, though not by so many, is not taken."""
    t, y, rows = world
    shots = Shots(rows(False), rows(False, 6), y)
    looks = seen(rows, glance=(True, True, True))
    choose_at = lambda: choose_plan(SpotlighterHead(SCALE), shots, looks, ALONE, t, t, seed=1)  # noqa: E731
    assert choose_at() != ALONE
    monkeypatch.setattr(choice, "SURE", 1000.0)
    assert choose_at() == ALONE


def test_one_look_within_a_budget_below_one(world):
    alone = Plan(0.4, False, None, 0, 0.6)
    assert choose(world, False, seen(world[2], f=True), alone) == alone
    assert choose(world, True, seen(world[2], glance=(True, True, True)), alone).keep == 0.0  # all tokens are not there


def test_the_same_seed_chooses_the_same(world):
    t, y, rows = world
    looks, shots = seen(rows, f=True, glance=(True, True, True)), Shots(rows(False), rows(False, 6), y)
    first, again = (choose_plan(SpotlighterHead(SCALE), shots, looks, ALONE, t, t, seed=3) for _ in range(2))
    assert first == again


def test_one_shot_a_class(world, capsys):
    first_of_each = torch.arange(0, C * SHOTS, SHOTS)
    assert choose(world, False, seen(world[2], glance=(True, True, True)), few=first_of_each) == ALONE
    assert "one shot a class" in capsys.readouterr().out


def test_regions_that_looks_share_are_encoded_once():
    """Those in the same pixels, as all first looks have one map; fewer are the strongest of more."""

    class Counting:
        encoded = 0

        def look_first(self, images, keep):
            f = None if keep == 0 else torch.full((len(images), D), keep)
            return FirstLook(f, None, alive=None, maps=torch.full((len(images), 1, 4), 0.4))

        def regions_of(self, images, first, count, width, side):
            self.encoded += count
            place = torch.arange(count).view(1, -1, 1) + 10 * first.maps[:, :, :1] + width + 100 * side
            return place.expand(len(images), count, D)

    looks = [First(0.0, 1, 8, 1.1), First(0.0, 2, 8, 1.9), First(0.4, 1, 8, 1.3), First(1.0, 1, 8, 1.6), First(1.0, 3, 6, 2.1)]  # fmt: skip
    spotlit, batches = (
        Counting(),
        [(torch.zeros(2, 3, 4, 4), torch.zeros(2)), (torch.zeros(1, 3, 4, 4), torch.zeros(1))],
    )
    looked_at = encode_for_plans(spotlit, batches, looks, ALONE)
    assert spotlit.encoded == 2 * len(ZOOM_WIDTHS) * (2 + 3)  # in each batch
    assert looked_at.first.keys() == {0.4, 1.0}
    for look in looks:
        regions = looked_at.regions[look]
        assert regions.shape == (3, len(ZOOM_WIDTHS), look.count, D)
        expected = torch.arange(look.count) + 4 + ZOOM_WIDTHS[1] + 100 * look.side
        assert torch.allclose(regions[0, 1, :, 0], expected)


def test_shots_as_a_plan_looks_at_them(world):
    _, y, rows = world
    looks, shots = seen(rows), Shots(rows(True), rows(True, 6), y)
    assert looks.under(ALONE, shots) is shots
    plan = choose(world, False, seen(rows, glance=(True, True, True)))
    under = looks.under(plan, shots)
    assert under.f is shots.f and under.v is None
    assert torch.equal(under.again, looks.regions[GLANCE][:, ZOOM_WIDTHS.index(plan.zoom.width)])
    under = looks.under(Plan(0.4, False, None, 0, 0.6), shots)
    assert under.f is looks.first[0.4] and under.v is None and under.again is None
