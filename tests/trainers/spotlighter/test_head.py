"""The head (trainers/spotlighter/head.py) against its equations written out for one image at a time."""

import math

import pytest
import torch
import torch.nn.functional as F

from clip import InputError
from tests.trainers.spotlighter.world import NAMES, SCALE, B, C, D, K, N, ridge_by_clusters, unit
from trainers.shared.plug_in import rows_of
from trainers.spotlighter import head as heads
from trainers.spotlighter import tokens
from trainers.spotlighter.bank import build_bank, cluster, remember
from trainers.spotlighter.classes import Classes
from trainers.spotlighter.fit import held_out_loss
from trainers.spotlighter.head import Bank, SpotlighterHead
from trainers.spotlighter.zoom import ZOOM_WIDTHS, Zoom


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
    u = f - q.g * bank.image_mean + q.alpha * (x @ bank.map)
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


def test_with_zeros_the_head_is_its_host(head, world):
    shots, t, z, _ = world
    with torch.no_grad():
        for name in ("g", "b", "alpha", "gamma", "delta"):
            getattr(head.scalars, name).zero_()
    remember(head, shots, t, z, NAMES)
    logits = head(shots.f, shots.v, head.describe(t, z, NAMES))
    torch.testing.assert_close(logits, SCALE * shots.f @ t.t(), atol=1e-4, rtol=1e-5)


def test_texts_of_any_length(world):
    """With zeros the head is its host, which multiplies by its texts as they are; the second look does so too."""
    shots, t, z, _ = world
    head = SpotlighterHead(SCALE)
    with torch.no_grad():
        for name in ("g", "b", "alpha", "gamma", "delta"):
            getattr(head.scalars, name).zero_()
    long = t * torch.tensor([0.9, 1.001, 1.0, 1.2])[:, None]
    remember(head, shots, long, z, NAMES)
    classes = head.describe(long, z, NAMES)
    assert classes.length[2] == 1 and head.describe(t, z, NAMES).length.eq(1).all()  # to the bit
    torch.testing.assert_close(head(shots.f, shots.v, classes), SCALE * shots.f @ long.t(), atol=1e-5, rtol=1e-6)
    bank = head.bank._replace(again_mean=0 * t[0], again_map=torch.zeros(D, D))
    again = head.second_logits(shots.f[:, None], classes, bank)
    torch.testing.assert_close(again, SCALE * shots.f @ long.t(), atol=1e-5, rtol=1e-6)


def test_the_fit_sees_texts_as_long_as_predictions_do(world):
    """One class's text is so long that its logits say nothing else: the loss held out knows it."""
    shots, t, z, _ = world
    head = SpotlighterHead(SCALE)
    long = t * torch.tensor([1.0, 1.0, 1.0, 3.0])[:, None]
    memory, out = shots[:20], shots[20:]
    bank = build_bank(head, memory, long, z)
    expected = head.logits(out.f, out.v, Classes(bank.text, bank.prototypes, torch.tensor([1.0, 1.0, 1.0, 3.0])), bank)
    loss = held_out_loss(head, memory, out, long, z)
    torch.testing.assert_close(loss, F.cross_entropy(expected, out.y))
    assert (
        abs(loss - F.cross_entropy(head.logits(out.f, out.v, Classes(bank.text, bank.prototypes), bank), out.y)) > 0.1
    )


def test_classes_of_one_name_have_prototypes_of_their_own(world):
    """The first asked for is the first in the bank, the second the second; a third was never seen."""
    shots, t, z, _ = world
    head = SpotlighterHead(SCALE)
    remember(head, shots, t, z, ["a", "b", "a", "c"])
    asked, rows = ["a", "c", "a", "b", "a"], [0, 3, 2, 1, 0]
    assert rows_of(asked, head.classnames) == [0, 3, 2, 1, -1]
    prototypes = head.describe(t[rows], z[rows], asked).prototypes
    assert torch.equal(prototypes[:4], head.prototypes[rows[:4]])
    assert not (prototypes[4, :, None] == head.prototypes.flatten(0, 1)).all(dim=-1).any()  # carried over


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


def test_bank_fields_are_the_saved_buffers(head):
    assert set(head.state_dict()) == {f"scalars.{n}" for n, _ in head.scalars.named_parameters()} | set(
        Bank._fields
    ) | {"_extra_state"}


@pytest.mark.parametrize(("kept", "levels"), [(1, 2), (3, 2), (5, 1), (8, 2)])
def test_other_numbers_of_tokens_and_levels(world, kept, levels):
    """Ranks 1-3 are level 1, all others level 2; where there is no second level, both are the first."""
    shots, t, z, _ = world
    head = SpotlighterHead(SCALE, kept=kept, levels=levels)
    assert sum(p.numel() for p in head.parameters()) == 21
    with torch.no_grad():
        head.scalars.rho.copy_(torch.linspace(0, 1, 5))
        remember(head, shots, t, z, NAMES)
        bank = head.bank
        chosen = head.explain(shots.f, shots.v, head.describe(t, z, NAMES), bank.image_mean, bank.token_mean).selection
        vectors = head.levels(chosen)
    rho = [min(r, 4) / 4 for r in range(kept)]
    split = 3 if levels == 2 and kept > 3 else kept
    for b in range(3):
        for level, ranks in enumerate([range(split), range(split, kept) or range(split)]):
            w = torch.softmax(torch.tensor([chosen.activation[b, r].item() + rho[r] for r in ranks]), 0)
            expected = unit(sum(w[j] * chosen.tokens[b, r] for j, r in enumerate(ranks)))
            torch.testing.assert_close(vectors[b, level], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kept", [1, 2, 3, 4, 5, 8])
@pytest.mark.parametrize("levels", [1, 2])
@pytest.mark.parametrize("first", [2, 3])
def test_the_levels_explained_are_those_of_the_level_vectors(world, monkeypatch, kept, levels, first):
    """A rank is of level 1 if and only if its token moves the first vector, of level 2 if only the second."""
    monkeypatch.setattr(heads, "FIRST_LEVEL", first)
    shots, t, z, _ = world
    head = SpotlighterHead(SCALE, kept=kept, levels=levels)
    remember(head, shots, t, z, NAMES)
    bank = head.bank
    why = head.explain(shots.f, shots.v, head.describe(t, z, NAMES), bank.image_mean, bank.token_mean)
    vectors = head.levels(why.selection)
    for rank, level in enumerate(why.level.tolist()):
        tokens = why.selection.tokens.clone()
        tokens[:, rank] += 1
        moved = (head.levels(why.selection._replace(tokens=tokens)) != vectors).any(dim=-1).all(dim=0).tolist()
        assert moved == ([True, not (why.level == 2).any()] if level == 1 else [False, True])
    assert why.level.shape == (kept,) and (why.level == 2).any() == (levels == 2 and kept > first)


def test_the_selection_explained_is_the_prediction(head, world):
    """Both maps, their sum by theta, and the R largest of it in the order of the selection."""
    shots, t, z, _ = world
    with torch.no_grad():
        head.scalars.theta.copy_(torch.tensor([0.7, 1.2]))
    bank, classes = head.bank, head.describe(t, z, NAMES)
    why = head.explain(shots.f, shots.v, classes, bank.image_mean, bank.token_mean)
    torch.testing.assert_close(why.activation, 0.7 * why.sample_wise + 1.2 * why.semantic_wise, atol=1e-6, rtol=0)
    assert torch.equal(why.activation.topk(5, dim=1).indices, why.selection.index)
    levels = head.levels_of(shots.f, shots.v, classes, bank.image_mean, bank.token_mean)
    assert torch.equal(levels, head.levels(why.selection))
    first = head.explain(shots.f, shots.v, classes, bank.image_mean, bank.token_mean, semantic=False)
    assert torch.equal(first.sample_wise, why.sample_wise) and not first.semantic_wise.any()


def test_other_activations_are_passed_in(world):
    """The tokens that another pair of functions finds strongest are selected, in the bank and in predictions."""
    shots, t, z, _ = world
    backwards = lambda tokens, belief, classes: -torch.arange(N).float().expand(len(belief.text), -1)  # noqa: E731
    head = SpotlighterHead(SCALE, activations=(backwards, backwards))
    bank = build_bank(head, shots, t, z)
    chosen = head.explain(
        shots.f, shots.v, Classes(bank.text, bank.prototypes), bank.image_mean, bank.token_mean
    ).selection
    assert torch.equal(chosen.index, torch.arange(5).expand(B, -1))


@pytest.mark.parametrize("full", [0, D])
def test_chunks_of_images_change_nothing(world, monkeypatch, full):
    """Neither logits, of images with texts of their own too, nor gradients."""
    shots, t, z, _ = world
    own = unit(torch.randn(B, C, D, generator=torch.Generator().manual_seed(0)))
    found = []
    for images in (512, 7):
        monkeypatch.setattr(tokens, "ASKED_AT_ONCE", (images * 4 * N * D, 0))
        torch.manual_seed(0)
        head = SpotlighterHead(SCALE, full=full)
        bank = build_bank(head, shots, t, z)
        classes = Classes(bank.text, bank.prototypes)
        logits = head.logits(shots.f, shots.v, classes, bank)
        F.cross_entropy(logits, shots.y).backward()
        grads = torch.cat([p.grad.flatten() for name, p in head.named_parameters() if name != "scalars.tau_b"])
        with torch.no_grad():
            each = head.logits(shots.f, shots.v, classes._replace(own=own), bank)
        found.append((logits.detach(), each, grads))
    for whole, parts in zip(*found, strict=True):
        torch.testing.assert_close(whole, parts, atol=1e-4, rtol=1e-3)


def test_unlikely_classes_have_no_say_in_the_activation(world, monkeypatch):
    """Looking at the classes believed in most differs from looking at all by no more than the belief left out."""
    shots, t, z, _ = world
    head = SpotlighterHead(SCALE)
    remember(head, shots, t, z, NAMES)
    classes = head.describe(t, z, NAMES)
    left_out = 1 - head.belief(shots.f, classes, head.bank.image_mean).topk(2, dim=1).values.sum(1)
    bank = head.bank
    every = head.explain(shots.f, shots.v, classes, bank.image_mean, bank.token_mean).semantic_wise
    monkeypatch.setattr(heads, "BELIEVED", 2)
    some = head.explain(shots.f, shots.v, classes, bank.image_mean, bank.token_mean).semantic_wise
    sure = left_out < 1e-3
    assert sure.sum() > 5
    torch.testing.assert_close(some[sure], every[sure], atol=0.05, rtol=0)
    assert not torch.equal(some, every)


def test_the_second_look_is_its_equation(world, zoomed):
    _, t, z, new = world
    head = SpotlighterHead(SCALE)
    head.zoom = Zoom(map=1, width=ZOOM_WIDTHS[1], count=3, share=0.75)
    with torch.no_grad():
        for p in head.parameters():
            p.add_(0.1 * torch.rand(p.shape, generator=torch.Generator().manual_seed(p.numel())))
        remember(head, zoomed, t, z, NAMES)
        q, bank = head.scalars, head.bank
        regions = zoomed.again[:, 1, 1]
        centred = unit(regions - q.g * regions.mean((0, 1)))
        best = torch.stack([regions[b, (centred[b] @ bank.text[zoomed.y[b]]).argmax()] for b in range(B)])
        torch.testing.assert_close(bank.again_mean, best.mean(0), atol=1e-6, rtol=0)
        index = cluster(best, zoomed.y, C, K)
        anchored = unit(t + q.b * z)
        expected = ridge_by_clusters(index, q.omega[0] * (best - best.mean(0)), best, anchored, q.log_lambda.exp())
        torch.testing.assert_close(bank.again_map, expected, atol=1e-5, rtol=0)

        classes = head.describe(new, new, ["a", "b", "c"])
        got = head(zoomed.f[:4], zoomed.v[:4], classes, regions[:4])
        first = head(zoomed.f[:4], zoomed.v[:4], classes)
        for b in range(4):
            each = []
            for r in regions[b]:
                x = q.omega[0] * (r - bank.again_mean)
                u = r - q.g * bank.again_mean + q.alpha * (x @ bank.again_map)
                each.append(SCALE * q.delta.exp() * unit(u) @ classes.text.t())
            second = torch.stack([sum(e[c].exp() for e in each).log() - math.log(3) for c in range(3)])
            torch.testing.assert_close(got[b], 0.25 * first[b] + 0.75 * second, atol=1e-3, rtol=1e-4)


def test_a_head_saved_with_both_factors_of_its_map_is_loaded(head):
    """Such files have keys X and the ridge's solution S in the place of X' S."""
    saved, g = head.state_dict(), torch.Generator().manual_seed(0)
    keys, solution = torch.randn(C * K, 3 * D, generator=g), torch.randn(C * K, D, generator=g)
    saved |= {"keys": keys, "map": solution, "counts": torch.ones(C * K), "again_keys": torch.empty(0)}
    loaded = SpotlighterHead(SCALE)
    loaded.load_state_dict(saved, strict=True)
    torch.testing.assert_close(loaded.map, keys.t() @ solution)
    assert not len(loaded.again_map) and torch.equal(loaded.prototypes, head.prototypes)


def test_a_zooming_head_is_saved_and_loaded_to_the_bit(world, zoomed, tmp_path):
    _, t, z, new = world
    head = SpotlighterHead(SCALE)
    head.zoom = Zoom(map=1, width=ZOOM_WIDTHS[1], count=2, share=0.5)
    remember(head, zoomed, t, z, NAMES)
    torch.save(head.state_dict(), tmp_path / "head.pt")
    loaded = SpotlighterHead(SCALE)
    loaded.load_state_dict(torch.load(tmp_path / "head.pt", weights_only=True), strict=True)
    assert loaded.zoom == head.zoom
    again = zoomed.again[:, 1, 1, :2]
    logits = [h(zoomed.f, zoomed.v, h.describe(new, new, ["a", "b", "c"]), again) for h in (head, loaded)]
    assert torch.equal(*logits)
