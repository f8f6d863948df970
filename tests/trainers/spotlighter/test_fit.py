"""Fitting (trainers/spotlighter/fit.py): the scalars, and the choice of the second look, on held-out shots."""

import pytest
import torch

from tests.trainers.spotlighter.world import SCALE, C, loss_of_a_half, unit
from trainers.spotlighter.fit import ZOOM_SHARES, choose_zoom, fit_scalars, half_of_each_class
from trainers.spotlighter.head import SpotlighterHead
from trainers.spotlighter.zoom import ZOOM_WIDTHS


def test_fit_moves_the_scalars_and_nothing_random(world):
    shots, t, z, _ = world
    fitted = []
    torch.manual_seed(5)
    state = torch.get_rng_state()
    for _ in range(2):
        head = SpotlighterHead(SCALE)
        before = loss_of_a_half(head, shots, t, z)
        fit_scalars(head, shots, t, z, pull=0.0, levels=0.0, seed=1)
        assert loss_of_a_half(head, shots, t, z) < before
        fitted.append(torch.cat([p.detach().flatten() for p in head.parameters()]))
    assert torch.equal(*fitted)
    assert torch.equal(torch.get_rng_state(), state)  # the host's random numbers are untouched
    start = torch.cat([p.detach().flatten() for p in SpotlighterHead(SCALE).parameters()])
    assert (fitted[0] != start).sum() >= 19  # tau_b has no part in base classes


def test_pull_keeps_the_scalars_near_their_start(world):
    shots, t, z, _ = world
    distance = []
    for pull in (0.0, 1000.0):
        head = SpotlighterHead(SCALE)
        start = [p.detach().clone() for p in head.parameters()]
        fit_scalars(head, shots, t, z, pull=pull, levels=0.0, seed=1)
        distance.append(
            sum(
                ((p - p0) ** 2).sum()
                for (n, p), p0 in zip(head.scalars.named_parameters(), start, strict=True)
                if n != "delta"
            )
        )
    assert distance[1] < distance[0]


def test_one_shot_a_class_keeps_the_initial_scalars(world, capsys):
    shots, t, z, _ = world
    head, start = SpotlighterHead(SCALE), SpotlighterHead(SCALE)
    fit_scalars(head, shots[torch.arange(C)], t, z, pull=0.0, levels=0.0, seed=1)
    assert all(torch.equal(p, p0) for p, p0 in zip(head.parameters(), start.parameters(), strict=True))
    assert "one shot a class" in capsys.readouterr().out


@pytest.mark.parametrize("counts", [[4, 4], [1, 2, 3], [5]])
def test_half_of_each_class(counts):
    y = torch.cat([torch.full((n,), c) for c, n in enumerate(counts)])[torch.randperm(sum(counts))]
    mask = half_of_each_class(y, torch.Generator().manual_seed(0))
    assert [int(mask[y == c].sum()) for c in range(len(counts))] == [max(n // 2, 1) for n in counts]


def test_held_out_shots_choose_the_zoom(world, zoomed):
    shots, t, z, _ = world
    head = SpotlighterHead(SCALE)  # fitted first, as in a run: else anything that cools the logits would look good
    fit_scalars(head, shots, t, z, pull=1.0, levels=0.0, seed=1)
    zoom = choose_zoom(head, zoomed, t, z, most=3, seed=1)
    assert zoom[:3] == (1, ZOOM_WIDTHS[1], 3) and zoom.share in ZOOM_SHARES
    assert zoom == choose_zoom(head, zoomed, t, z, most=3, seed=1)
    hidden = zoomed._replace(again=unit(torch.randn(zoomed.again.shape, generator=torch.Generator().manual_seed(2))))
    assert choose_zoom(head, hidden, t, z, most=3, seed=1) is None  # regions that show nothing are not looked at
    first = choose_zoom(head, zoomed, t, z, most=1, seed=1)
    assert first is None or first.count == 1


def test_one_shot_a_class_does_not_zoom(world, zoomed, capsys):
    _, t, z, _ = world
    assert choose_zoom(SpotlighterHead(SCALE), zoomed[torch.arange(C)], t, z, most=3, seed=1) is None
    assert "does not zoom" in capsys.readouterr().out
