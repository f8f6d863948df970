"""The Spotlighter head (../trainers/spotlighter.py) against its equations written out for one image at a time."""

import math

import pytest
import torch
import torch.nn.functional as F
from yacs.config import CfgNode

from clip import InputError
from trainers import spotlighter
from trainers.spotlighter import (
    ZOOM_SHARES,
    ZOOM_WIDTHS,
    Bank,
    Classes,
    Shots,
    SpotlighterHead,
    Zoom,
    choose_zoom,
    cluster,
    fit_scalars,
    half_of_each_class,
)

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
        expected = torch.stack([one_image(head, shots.f[i], shots.v[i], *classes[:2], head.bank) for i in range(6)])
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


def test_prototypes_are_means_of_first_levels(head, world):
    """Each prototype is the mean first-level vector of its cluster's images."""
    shots, *_ = world
    bank, index = head.bank, cluster(shots.f, shots.y, C, K)
    chosen = head.select(
        shots.f, shots.v, Classes(bank.text, bank.text[:, None]), bank.image_mean, bank.token_mean, semantic=False
    )
    first = head.levels(chosen)[:, 0]
    for m in index.unique().tolist():
        torch.testing.assert_close(bank.prototypes[m // K, m % K], unit(first[index == m].mean(0)), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("kept", "levels"), [(1, 2), (3, 2), (5, 1), (8, 2)])
def test_other_numbers_of_tokens_and_levels(world, kept, levels):
    """Ranks 1-3 are level 1, all others level 2; where there is no second level, both are the first."""
    shots, t, z, _ = world
    head = SpotlighterHead(SCALE, kept=kept, levels=levels)
    assert sum(p.numel() for p in head.parameters()) == 21
    with torch.no_grad():
        head.scalars.rho.copy_(torch.linspace(0, 1, 5))
        head.remember(shots, t, z, NAMES)
        bank = head.bank
        chosen = head.select(shots.f, shots.v, head.describe(t, z, NAMES), bank.image_mean, bank.token_mean)
        vectors = head.levels(chosen)
    rho = [min(r, 4) / 4 for r in range(kept)]
    split = 3 if levels == 2 and kept > 3 else kept
    for b in range(3):
        for level, ranks in enumerate([range(split), range(split, kept) or range(split)]):
            w = torch.softmax(torch.tensor([chosen.activation[b, r].item() + rho[r] for r in ranks]), 0)
            expected = unit(sum(w[j] * chosen.tokens[b, r] for j, r in enumerate(ranks)))
            torch.testing.assert_close(vectors[b, level], expected, atol=1e-5, rtol=0)


def test_chunks_of_images_change_nothing(world, monkeypatch):
    """Neither logits nor gradients."""
    shots, t, z, _ = world
    found = []
    for chunk in (512, 7):
        monkeypatch.setattr(spotlighter, "CHUNK", chunk)
        head = SpotlighterHead(SCALE)
        bank = head.build_bank(shots, t, z)
        logits = head.logits(shots.f, shots.v, Classes(bank.text, bank.prototypes), bank)
        F.cross_entropy(logits, shots.y).backward()
        grads = torch.cat([p.grad.flatten() for name, p in head.scalars.named_parameters() if name != "tau_b"])
        found.append((logits.detach(), grads))
    torch.testing.assert_close(found[0][0], found[1][0], atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(found[0][1], found[1][1], atol=1e-4, rtol=1e-3)


def test_unlikely_classes_have_no_say_in_the_activation(world, monkeypatch):
    """Looking at the classes believed in most differs from looking at all by no more than the belief left out."""
    shots, t, z, _ = world
    head = SpotlighterHead(SCALE)
    head.remember(shots, t, z, NAMES)
    classes, v = head.describe(t, z, NAMES), unit(shots.v - head.bank.token_mean)
    left_out = 1 - head.belief(shots.f, classes, head.bank.image_mean).topk(2, dim=1).values.sum(1)
    every = head.activations(shots.f, v, classes, head.bank.image_mean)[1]
    monkeypatch.setattr(spotlighter, "BELIEVED", 2)
    some = head.activations(shots.f, v, classes, head.bank.image_mean)[1]
    sure = left_out < 1e-3
    assert sure.sum() > 5
    torch.testing.assert_close(some[sure], every[sure], atol=0.05, rtol=0)
    assert not torch.equal(some, every)


# --- the second look -------------------------------------------------------------------------------------------


@pytest.fixture
def zoomed(world):
    """Shots with regions: of the second map, at the second width, the third region shows the class plainly."""
    shots, *_ = world
    g = torch.Generator().manual_seed(1)
    again = unit(torch.randn(B, 2, len(ZOOM_WIDTHS), 3, D, generator=g))
    plainly = unit(world[1][shots.y] + 0.05 * torch.randn(B, D, generator=g))
    again[:, 1, 1, 2] = plainly
    return shots._replace(again=again)


def test_the_second_look_is_its_equation(world, zoomed):
    _, t, z, new = world
    head = SpotlighterHead(SCALE)
    head.zoom = Zoom(map=1, width=ZOOM_WIDTHS[1], count=3, share=0.75)
    with torch.no_grad():
        for p in head.parameters():
            p.add_(0.1 * torch.rand(p.shape, generator=torch.Generator().manual_seed(p.numel())))
        head.remember(zoomed, t, z, NAMES)
        q, bank = head.scalars, head.bank
        regions = zoomed.again[:, 1, 1]
        centred = unit(regions - q.g * regions.mean((0, 1)))
        best = torch.stack([regions[b, (centred[b] @ bank.text[zoomed.y[b]]).argmax()] for b in range(B)])
        torch.testing.assert_close(bank.again_mean, best.mean(0), atol=1e-6, rtol=0)
        index = cluster(best, zoomed.y, C, K)
        anchored = unit(t + q.b * z)
        for m in index.unique().tolist():  # the ridge, for every cluster with an image
            mean = (best[index == m] - best.mean(0)).mean(0)
            torch.testing.assert_close(bank.again_keys[m], q.omega[0] * mean, atol=1e-5, rtol=0)
            left = bank.again_keys[m] @ bank.again_keys.t() @ bank.again_map
            left = left + q.log_lambda.exp() / (index == m).sum() * bank.again_map[m]
            torch.testing.assert_close(left, anchored[m // K] - anchored.mean(0) - mean, atol=1e-4, rtol=0)

        classes = head.describe(new, new, ["a", "b", "c"])
        got = head(zoomed.f[:4], zoomed.v[:4], classes, regions[:4])
        first = head(zoomed.f[:4], zoomed.v[:4], classes)
        for b in range(4):
            each = []
            for r in regions[b]:
                x = q.omega[0] * (r - bank.again_mean)
                u = r - q.g * bank.again_mean + q.alpha * (x @ bank.again_keys.t() @ bank.again_map)
                each.append(SCALE * q.delta.exp() * unit(u) @ classes.text.t())
            second = torch.stack([sum(e[c].exp() for e in each).log() - math.log(3) for c in range(3)])
            torch.testing.assert_close(got[b], 0.25 * first[b] + 0.75 * second, atol=1e-3, rtol=1e-4)


def test_held_out_shots_choose_the_zoom(world, zoomed):
    shots, t, z, _ = world
    head = SpotlighterHead(SCALE)  # fitted first, as in a run: else anything that cools the logits would look good
    fit_scalars(head, shots, t, z, CfgNode({"LOSS": CfgNode({"PULL": 1.0, "LEVELS": 0.0})}), seed=1)
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


def test_a_zooming_head_is_saved_and_loaded_to_the_bit(world, zoomed, tmp_path):
    _, t, z, new = world
    head = SpotlighterHead(SCALE)
    head.zoom = Zoom(map=1, width=ZOOM_WIDTHS[1], count=2, share=0.5)
    head.remember(zoomed, t, z, NAMES)
    torch.save(head.state_dict(), tmp_path / "head.pt")
    loaded = SpotlighterHead(SCALE)
    loaded.load_state_dict(torch.load(tmp_path / "head.pt", weights_only=True), strict=True)
    assert loaded.zoom == head.zoom
    again = zoomed.again[:, 1, 1, :2]
    logits = [h(zoomed.f, zoomed.v, h.describe(new, new, ["a", "b", "c"]), again) for h in (head, loaded)]
    assert torch.equal(*logits)


# --- the paper's mapping modules ---------------------------------------------------------------------------------


def test_the_full_head_adds_its_agreement_to_the_cosines(world):
    shots, t, z, _ = world
    head = SpotlighterHead(SCALE, full=D)
    assert sum(p.numel() for p in head.parameters()) > 21
    head.remember(shots, t, z, NAMES)
    classes = head.describe(t, z, NAMES)
    with torch.no_grad():
        both = head(shots.f, shots.v, classes)
        head.mapping.beta.zero_()
        alone = head(shots.f, shots.v, classes)
        lite = SpotlighterHead(SCALE)
        lite.remember(shots, t, z, NAMES)
    torch.testing.assert_close(alone, lite(shots.f, shots.v, lite.describe(t, z, NAMES)).detach(), atol=1e-5, rtol=0)
    assert (both - alone).abs().max() > 0.1
    keys = CfgNode({"LOSS": CfgNode({"PULL": 0.0, "LEVELS": 0.5})})
    fitted = SpotlighterHead(SCALE, full=D)
    before = [p.detach().clone() for p in fitted.mapping.parameters()]
    fit_scalars(fitted, shots, t, z, keys, seed=1)
    moved = [not torch.equal(p, p0) for p, p0 in zip(fitted.mapping.parameters(), before, strict=True)]
    assert sum(moved) >= len(moved) - 1
