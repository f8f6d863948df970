"""Fitting (trainers/spotlighter/fit.py): the scalars, and the choice of the second look, on held-out shots."""

import pytest
import torch
import torch.nn.functional as F

from tests.trainers.spotlighter.world import NAMES, SCALE, C, D, loss_of_a_half, unit
from trainers.spotlighter import fit
from trainers.spotlighter.bank import remember
from trainers.spotlighter.fit import (
    ZOOM_SHARES,
    carrying_over,
    choose_zoom,
    classes_left_out,
    fit_scalars,
    half_of_each_class,
    held_out_loss,
    unseen_loss,
)
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
        fit_scalars(head, shots, t, z, pull=0.0, levels=0.0, unseen=0.5, seed=1)
        assert loss_of_a_half(head, shots, t, z) < before
        fitted.append(torch.cat([p.detach().flatten() for p in head.parameters()]))
    assert torch.equal(*fitted)
    assert torch.equal(torch.get_rng_state(), state)  # the host's random numbers are untouched
    start = torch.cat([p.detach().flatten() for p in SpotlighterHead(SCALE).parameters()])
    assert len(start) == 21 and (fitted[0] != start).all()


def test_classes_left_out_move_tau_b_alone(world):
    """The other scalars, and the mapping modules, are to the bit what they are without; of two classes none is left out."""
    shots, t, z, _ = world
    for unseen, classes, full, moves in [(0.25, C, 0, True), (1.0, 3, D, True), (1.0, 2, 0, False)]:
        fitted = []
        for share in (0.0, unseen):
            torch.manual_seed(0)
            fitted.append(head := SpotlighterHead(SCALE, full=full))
            mine = shots[shots.y < classes]
            fit_scalars(head, mine, t[:classes], z[:classes], pull=1.0, levels=0.0, unseen=share, seed=1)
        without, others = (dict(head.named_parameters()) for head in fitted)
        moved = {name for name, p in without.items() if not torch.equal(p, others[name])}
        assert moved == ({"scalars.tau_b"} if moves else set())
        assert torch.equal(fitted[0].scalars.tau_b, SpotlighterHead(SCALE).scalars.tau_b)


def test_tau_b_learns_to_carry_over(world):
    """Its steps are those that lower the cross-entropy with classes left out, which is all that it has a part in."""
    shots, t, z, _ = world
    memory, out, left_out = shots[:20], shots[20:], torch.tensor([False, True, False, True])
    head = SpotlighterHead(SCALE)
    term = carrying_over(head, memory, out, t, z, left_out)
    term.backward()
    assert term == 0
    assert [name for name, p in head.scalars.named_parameters() if p.grad is not None and p.grad != 0] == ["tau_b"]
    losses = []
    for step in (-1e-2, 1e-2):
        with torch.no_grad():
            head.scalars.tau_b.fill_(0.1 + step)
            losses.append(unseen_loss(head, memory, out, t, z, left_out))
    torch.testing.assert_close((losses[1] - losses[0]) / 2e-2, head.scalars.tau_b.grad, rtol=0.1, atol=1e-5)


def test_a_class_left_out_is_described_as_at_test_time(world):
    """The loss is that of a head which remembers the other classes alone, asked for all of them."""
    shots, t, z, _ = world
    head = SpotlighterHead(SCALE)
    memory, out, left_out = shots[:20], shots[20:], torch.tensor([False, True, False, True])
    loss = unseen_loss(head, memory, out, t, z, left_out)
    kept = memory[~left_out[memory.y]]
    renumbered = kept._replace(y=kept.y // 2)  # of classes 0 and 2
    remember(head, renumbered, t[~left_out], z[~left_out], [NAMES[0], NAMES[2]])
    expected = F.cross_entropy(head(out.f, out.v, head.describe(t, z, NAMES)), out.y)
    torch.testing.assert_close(loss, expected)
    strange = memory._replace(f=torch.where(left_out[memory.y][:, None], unit(torch.randn(20, D)), memory.f))
    torch.testing.assert_close(unseen_loss(head, strange, out, t, z, left_out), loss)
    assert abs(loss - held_out_loss(head, memory, out, t, z)) > 1e-3


def test_of_no_image_there_is_no_bank(world):
    shots, t, z, _ = world
    head, left_out = SpotlighterHead(SCALE), torch.tensor([False, True, False, False])
    assert carrying_over(head, shots[shots.y == 1], shots, t, z, left_out) == 0


@pytest.mark.parametrize(("count", "left"), [(1, 0), (2, 0), (3, 1), (4, 2), (7, 3)])
@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 1.0])
def test_classes_left_out(count, left, share):
    generator = torch.Generator().manual_seed(0)
    masks = [classes_left_out(count, step, share, generator) for step in range(40)]
    some = [mask for mask in masks if mask is not None]
    assert len(some) == (40 * share if left else 0)
    assert all(len(mask) == count and mask.sum() == left for mask in some)
    assert not some or torch.stack(some).any(dim=0).all()  # each class in its turn


def test_the_smallest_numbers_are_zero_while_it_fits_and_then_numbers_again(world, monkeypatch):
    tiny, seen = torch.tensor([1e-40]), []
    loss = fit.held_out_loss
    monkeypatch.setattr(fit, "held_out_loss", lambda *a, **k: seen.append((tiny * 1).item()) or loss(*a, **k))
    head = SpotlighterHead(SCALE)
    shots, t, z, _ = world
    fit_scalars(head, shots, t, z, seed=0, pull=1.0, levels=0.0, unseen=0.0)
    assert set(seen) == {0.0} and (tiny * 1).item() > 0


def test_pull_keeps_the_scalars_near_their_start(world):
    shots, t, z, _ = world
    distance = []
    for pull in (0.0, 1000.0):
        head = SpotlighterHead(SCALE)
        start = [p.detach().clone() for p in head.parameters()]
        fit_scalars(head, shots, t, z, pull=pull, levels=0.0, unseen=0.5, seed=1)
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
    fit_scalars(head, shots[torch.arange(C)], t, z, pull=0.0, levels=0.0, unseen=0.5, seed=1)
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
    fit_scalars(head, shots, t, z, pull=1.0, levels=0.0, unseen=0.5, seed=1)
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
