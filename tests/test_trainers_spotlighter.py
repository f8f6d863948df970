"""The Spotlighter head (../trainers/spotlighter.py) against its equations written out for one image at a time."""

import math

import pytest
import torch
import torch.nn.functional as F
from yacs.config import CfgNode

from clip import InputError
from trainers import spotlighter
from trainers.spotlighter import Bank, Classes, Shots, SpotlighterHead, cluster, fit_scalars, half_of_each_class

C, B, N, D, K = 4, 40, 12, 16, 5
SCALE = 30.0


def unit(x):
    return F.normalize(x, dim=-1)


@pytest.fixture
def world():
    """Four classes around four text features; ten images each, twelve tokens an image."""
    g = torch.Generator().manual_seed(0)
    t = unit(torch.randn(C, D, generator=g))
    z = unit(t + 0.5 * torch.randn(C, D, generator=g))
    y = torch.arange(C).repeat(B // C)
    f = unit(t[y] + 0.3 * torch.randn(B, D, generator=g) + 0.5)
    v = unit(f[:, None] + torch.randn(B, N, D, generator=g))
    new = unit(torch.randn(3, D, generator=g))
    return Shots(f, v, y), t, z, new


@pytest.fixture
def head(world):
    shots, t, z, _ = world
    head = SpotlighterHead(SCALE)
    head.remember(shots, t, z, [f"class {c}" for c in range(C)])
    return head


NAMES = [f"class {c}" for c in range(C)]


def test_exactly_21_scalars(head):
    assert sum(p.numel() for p in head.parameters()) == 21
    assert all(p.requires_grad for p in head.parameters())


def one_image(head, f, v, T, P, bank):
    """Steps 2 to 6 of the method for one image: f (d,), v (N, d)."""
    q = head.scalars
    fh = unit(f - q.g * bank.image_mean)
    vh = unit(v - q.g_v * bank.token_mean)
    p = torch.softmax(SCALE * torch.stack([fh @ T[c] for c in range(len(T))]), 0)
    mixture = sum(p[c] * T[c] for c in range(len(T)))
    sample = torch.stack([vh[i] @ mixture for i in range(N)])
    semantic = torch.stack(
        [sum(p[c] * max(vh[i] @ P[c, k] for k in range(K)) for c in range(len(T))) for i in range(N)]
    )
    std = lambda a: (a - a.mean()) / (a.std() + 1e-4)  # noqa: E731
    activation = q.theta[0] * std(sample) + q.theta[1] * std(semantic)
    order = sorted(range(N), key=lambda i: -activation[i].item())[:5]
    weight = [(activation[i] + q.rho[r]) / q.tau_w for r, i in enumerate(order)]
    levels = []
    for ranks in ((0, 1, 2), (3, 4)):
        w = torch.softmax(torch.stack([weight[r] for r in ranks]), 0)
        levels.append(unit(sum(w[j] * vh[order[r]] for j, r in enumerate(ranks))))
    x = torch.cat(
        [
            q.omega[0] * (f - bank.image_mean),
            q.omega[1] * (levels[0] - bank.level_means[0]),
            q.omega[2] * (levels[1] - bank.level_means[1]),
        ]
    )
    u = f - q.g * bank.image_mean + q.alpha * (x @ bank.keys.t() @ bank.map)
    u = u + q.gamma[0] * levels[0] + q.gamma[1] * levels[1] + q.gamma[2] * unit(levels[0] + levels[1])
    return SCALE * math.exp(q.delta.item()) * unit(u) @ T.t()


def test_logits_are_those_of_the_equations(head, world):
    shots, t, z, _ = world
    with torch.no_grad():
        for p in head.parameters():  # no scalar at a value that hides its term
            p.add_(0.1 * torch.rand(p.shape, generator=torch.Generator().manual_seed(p.numel())))
        classes = head.describe(t, z, NAMES)
        logits = head(shots.f[:6], shots.v[:6], classes)
        expected = torch.stack([one_image(head, shots.f[i], shots.v[i], *classes, head.bank) for i in range(6)])
    torch.testing.assert_close(logits, expected, atol=1e-3, rtol=1e-4)


def test_the_bank_solves_its_ridge(head, world):
    """S minimises |sqrt(N) (X X' S - R)|^2 + lambda tr(S' X X' S), so (X X' + lambda / N) S = R."""
    shots, t, z, _ = world
    bank, q = head.bank, head.scalars
    anchored = unit(t + q.b * z)
    index = cluster(shots.f, shots.y, C, K)
    for m in range(C * K):
        mine = index == m
        assert bank.counts[m] == mine.sum()
        if not mine.any():
            continue
        mean_image = (shots.f[mine] - shots.f.mean(0)).mean(0)
        torch.testing.assert_close(bank.keys[m, :D], q.omega[0] * mean_image, atol=1e-5, rtol=0)
        target = anchored[m // K] - anchored.mean(0) - mean_image
        left = bank.keys[m] @ bank.keys.t() @ bank.map + q.log_lambda.exp() / mine.sum() * bank.map[m]
        torch.testing.assert_close(left, target, atol=1e-4, rtol=0)


def test_clusters_stay_within_their_class(world):
    shots, *_ = world
    index = cluster(shots.f, shots.y, C, K)
    assert torch.equal(index // K, shots.y)
    assert len(index.unique()) > 2 * C  # more than two clusters a class are in use
    means = torch.stack([unit(shots.f[index == m].mean(0)) for m in index.unique()])
    nearest = (shots.f @ means.t()).masked_fill((index.unique() // K)[None] != shots.y[:, None], -2).argmax(1)
    assert (index.unique()[nearest] == index).float().mean() > 0.8  # nearly settled after a few steps


@pytest.mark.parametrize("shots_a_class", [1, 2, 3])
def test_few_shots_leave_clusters_empty_and_numbers_finite(world, shots_a_class):
    shots, t, z, new = world
    head = SpotlighterHead(SCALE)
    few = shots[torch.arange(C * shots_a_class)]
    head.remember(few, t, z, NAMES)
    assert all(torch.isfinite(buffer).all() for buffer in head.buffers())
    logits = head(shots.f, shots.v, head.describe(new, new, ["a", "b", "c"]))
    assert torch.isfinite(logits).all() and logits.shape == (B, 3)


def test_with_zeros_the_head_is_its_host(head, world):
    shots, t, z, _ = world
    with torch.no_grad():
        for name in ("g", "b", "alpha", "gamma", "delta"):
            getattr(head.scalars, name).zero_()
    head.remember(shots, t, z, NAMES)
    logits = head(shots.f, shots.v, head.describe(t, z, NAMES))
    torch.testing.assert_close(logits, SCALE * shots.f @ t.t(), atol=1e-4, rtol=1e-5)


def test_classes_never_seen_get_carried_prototypes(head, world):
    _, t, z, new = world
    bank, q = head.bank, head.scalars
    classes = head.describe(torch.cat([new, t[1:2]]), torch.cat([new, z[1:2]]), ["a", "b", "c", "class 1"])
    torch.testing.assert_close(classes.prototypes[3], bank.prototypes[1], atol=0, rtol=0)  # seen: its own
    T = unit(unit(new + q.b * new) - q.g * bank.text_mean)
    for row in range(3):
        share = torch.softmax(torch.stack([T[row] @ bank.text[c] for c in range(C)]) / q.tau_b, 0)
        for k in range(K):
            expected = unit(T[row] + sum(share[c] * (bank.prototypes[c, k] - bank.text[c]) for c in range(C)))
            torch.testing.assert_close(classes.prototypes[row, k], expected, atol=1e-5, rtol=0)


def test_inductive(head, world):
    """The other images of a batch do not move an image's logits."""
    shots, _, _, new = world
    classes = head.describe(new, new, ["a", "b", "c"])
    others = unit(torch.randn(7, D)), unit(torch.randn(7, N, D))
    alone = head(shots.f[:1], shots.v[:1], classes)
    among = head(torch.cat([shots.f[:1], others[0]]), torch.cat([shots.v[:1], others[1]]), classes)
    torch.testing.assert_close(alone[0], among[0], atol=1e-4, rtol=1e-5)


def test_saved_and_loaded_to_the_bit(head, world, tmp_path):
    """Through a file, into a head that knows nothing yet of the bank's shape."""
    shots, _, _, new = world
    torch.save(head.state_dict(), tmp_path / "head.pt")
    loaded = SpotlighterHead(SCALE)
    loaded.load_state_dict(torch.load(tmp_path / "head.pt", weights_only=True), strict=True)
    assert loaded.classnames == NAMES
    for names, text in ((["a", "b", "c"], new), (NAMES, world[1])):
        logits = [h(shots.f, shots.v, h.describe(text, text, names)) for h in (head, loaded)]
        assert torch.equal(*logits)


def test_an_empty_bank_is_refused(world):
    with pytest.raises(InputError, match="bank is empty"):
        SpotlighterHead(SCALE).describe(world[1], world[2], NAMES)


def test_fit_moves_the_scalars_and_nothing_random(world):
    shots, t, z, _ = world
    keys = CfgNode({"LOSS": CfgNode({"PULL": 0.0, "LEVELS": 0.0})})
    fitted = []
    torch.manual_seed(5)
    state = torch.get_rng_state()
    for _ in range(2):
        head = SpotlighterHead(SCALE)
        before = loss_of_a_half(head, shots, t, z)
        fit_scalars(head, shots, t, z, keys, seed=1)
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
        fit_scalars(head, shots, t, z, CfgNode({"LOSS": CfgNode({"PULL": pull, "LEVELS": 0.0})}), seed=1)
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
    fit_scalars(head, shots[torch.arange(C)], t, z, CfgNode({"LOSS": CfgNode({"PULL": 0.0, "LEVELS": 0.0})}), seed=1)
    assert all(torch.equal(p, p0) for p, p0 in zip(head.parameters(), start.parameters(), strict=True))
    assert "one shot a class" in capsys.readouterr().out


def loss_of_a_half(head, shots, t, z):
    memory = half_of_each_class(shots.y, torch.Generator().manual_seed(99))
    with torch.no_grad():
        bank = head.build_bank(shots[memory], t, z)
        out = shots[~memory]
        return F.cross_entropy(head.logits(out.f, out.v, Classes(bank.text, bank.prototypes), bank), out.y)


@pytest.mark.parametrize("counts", [[4, 4], [1, 2, 3], [5]])
def test_half_of_each_class(counts):
    y = torch.cat([torch.full((n,), c) for c, n in enumerate(counts)])[torch.randperm(sum(counts))]
    mask = half_of_each_class(y, torch.Generator().manual_seed(0))
    assert [int(mask[y == c].sum()) for c in range(len(counts))] == [max(n // 2, 1) for n in counts]


def test_bank_fields_are_the_saved_buffers(head):
    assert set(head.state_dict()) == {f"scalars.{n}" for n, _ in head.scalars.named_parameters()} | set(
        Bank._fields
    ) | {"_extra_state"}


def test_unknown_head_is_refused():
    cfg = CfgNode({"TRAINER": CfgNode()})
    spotlighter.Spotlighter.extend_cfg(cfg)
    cfg.TRAINER.SPOTLIGHTER.HEAD = "huge"
    with pytest.raises(InputError, match="'huge'"):
        spotlighter.Spotlighter(cfg)
