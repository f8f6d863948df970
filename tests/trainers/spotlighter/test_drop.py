"""Dropping tokens (trainers/spotlighter/drop.py), against a second derivation: one image at a time, patch by patch."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

import clip
from clip.vit import Attention
from tests.trainers.spotlighter.encoder import (
    LAYERS,
    SIDE,
    WIDTH,
    DeepPrompts,
    Witness,
    attention_of_class,
    dropper,
    encoder,
    normed,
    plain,
)
from trainers.spotlighter.drop import (
    SCORES,
    AttentionMaps,
    DropTokens,
    by_chance,
    choose,
    coverage_order,
    fold,
    log_attention,
    number_kept,
    seeds_of,
    standardise,
    take,
)
from trainers.spotlighter.zoom import cut


@pytest.fixture(scope="module")
def visual():
    return encoder()


@pytest.fixture(scope="module")
def images():
    return torch.randn(4, 3, 4 * SIDE, 4 * SIDE, generator=torch.Generator().manual_seed(1))


# --- the second derivation ---------------------------------------------------------------------------------------


def scores_by_hand(drop, x, patches, i):
    depth = drop.after.index(i)
    if drop.by == "probe":
        return normed([plain(p) @ drop.probe[depth] for p in patches])
    logs = attention_of_class(drop.blocks[i + 1], x)[1 : 1 + len(patches)].log()
    if drop.by == "attention":
        return logs
    nearest = []
    for p in patches:
        p = plain(p) - drop.mean[depth]
        nearest.append(max(p @ prototype / p.norm() for prototype in drop.prototypes[depth]))
    return normed(list(logs)) + normed(nearest)


def by_hand(visual, image, drop, prompts=None):
    """One image (3, H, W) -> its feature (d,), its patches left (n, d) and their places, written as a list of tokens."""
    x = visual.conv1(image[None])[0].flatten(1).t()  # (N, D)
    tokens = [visual.class_embedding, *x]
    tokens = [token + position for token, position in zip(tokens, visual.positional_embedding, strict=True)]
    tail = list(prompts.prompts[0]) if prompts is not None else []
    tokens = [visual.ln_pre(token) for token in tokens + tail]
    places, weight_of_fold = list(range(len(x))), None
    coverage = drop.coverage.tolist()
    for i, block in enumerate(visual.transformer.resblocks):
        if prompts is not None and i > 0:
            tokens[-2:] = list(prompts.prompts[i])
        tokens = list(block(torch.stack(tokens)[None])[0][0])
        N = len(places)
        count = max(1, round(drop.keep * N))
        if i not in drop.after or count == N:
            continue
        patches, rest = tokens[1 : 1 + N], tokens[1 + N :]
        score = scores_by_hand(drop, torch.stack(tokens), patches, i)
        spread = sorted(range(N), key=lambda j: coverage[places[j]])[: round(drop.grid * count)]
        others = sorted((j for j in range(N) if j not in spread), key=lambda j: -score[j].item())
        kept = sorted(spread + others[: count - len(spread)])
        weights = [s.exp() for s in score]
        whole = sum(weights)
        gone = sum(w for j, w in enumerate(weights) if j not in kept)
        token = sum(w * p for j, (w, p) in enumerate(zip(weights, patches, strict=True)) if j not in kept) / gone
        share = gone / whole
        if weight_of_fold is not None:  # of what was left over by then, that share goes now
            share = share * (1 - weight_of_fold)
            former, rest = rest[0], rest[1:]
            token = (weight_of_fold * former + share * token) / (weight_of_fold + share)
            share = share + weight_of_fold
        weight_of_fold = share
        tokens = [tokens[0], *(patches[j] for j in kept), token, *rest]
        places = [places[j] for j in kept]
    left = torch.stack(tokens[: 1 + len(places)])
    left = visual.ln_post(left) @ visual.proj
    return left[0], left[1:], places


def compare(visual, images, drop, prompts=None):
    """Feature, patches and places of every image; prompts, if any, are the edit before the drop."""
    edits = (drop,) if prompts is None else (prompts, drop)
    with torch.no_grad():
        features, patches = visual(images, edits, tokens=True)
        for b, image in enumerate(images):
            feature, left, places = by_hand(visual, image, drop, prompts)
            assert drop.alive[b].tolist() == places
            torch.testing.assert_close(features[b], feature, atol=2e-4, rtol=1e-3)
            torch.testing.assert_close(patches[b], left, atol=2e-4, rtol=1e-3)


# --- pure functions ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "keep", "kept"),
    [(64, 0.5, 32), (64, 0.6, 38), (196, 0.7, 137), (16, 0.99, 16), (10, 0.25, 2), (64, 0.001, 1), (1, 0.5, 1)],
)
def test_number_kept(count, keep, kept):
    assert number_kept(count, keep) == kept


def test_take():
    x, index = torch.arange(24).view(2, 4, 3), torch.tensor([[3, 0], [1, 1]])
    assert take(x, index).tolist() == [[[9, 10, 11], [0, 1, 2]], [[15, 16, 17], [15, 16, 17]]]
    assert take(x[..., 0], index).tolist() == [[9, 0], [15, 15]]


def test_standardise():
    a = torch.randn(3, 5, dtype=torch.float64).half()
    for row, mine in zip(a.float(), standardise(a), strict=True):
        torch.testing.assert_close(mine, normed(list(row)), atol=1e-5, rtol=1e-5)
    assert standardise(torch.full((1, 4), 7.0)).tolist() == [[0, 0, 0, 0]]


def test_log_attention_is_finite():
    assert log_attention(torch.tensor([0.0, 1.0, 0.5])).tolist() == pytest.approx([math.log(1e-8), 0, math.log(0.5)])


@pytest.mark.parametrize("side", [1, 2, 3, 7, 8, 14, 16, 24])
def test_coverage_is_a_permutation(side):
    assert sorted(coverage_order(side).tolist()) == list(range(side * side))


@pytest.mark.parametrize(
    ("first", "block", "each"), [(1, 8, 1), (4, 4, 1), (8, 4, 2), (16, 2, 1), (32, 2, 2), (48, 2, 3)]
)
def test_coverage_of_eight_by_eight(first, block, each):
    """Every square of `block` x `block` patches gets the same number of the first ones."""
    chosen = (coverage_order(8).view(8, 8) < first).long()
    for r in range(0, 8, block):
        for c in range(0, 8, block):
            assert chosen[r : r + block, c : c + block].sum() == each


@pytest.mark.parametrize(
    ("side", "first", "apart"), [(7, 4, 4), (7, 16, 2), (14, 4, 8), (14, 16, 4), (14, 49, 2), (14, 98, 2**0.5)]
)
def test_coverage_of_other_sizes(side, first, apart):
    """The first ones are no nearer to each other than on a regular grid of that many."""
    order = coverage_order(side).view(side, side)
    places = (order < first).nonzero().float()  # (first, 2)
    distances = torch.cdist(places, places) + 1000 * torch.eye(first)
    assert distances.min() == pytest.approx(apart, abs=1e-3)


def test_choose_by_score_alone():
    score = torch.tensor([[0.1, 0.9, 0.5, 0.7], [4.0, 3.0, 2.0, 1.0]])
    coverage = torch.tensor([[2, 3, 1, 0]]).expand(2, -1)
    assert choose(score, 2, coverage, 0.0).tolist() == [[1, 3], [0, 1]]
    assert choose(score, 3, coverage, 0.0).tolist() == [[1, 2, 3], [0, 1, 2]]


def test_choose_by_place_then_score():
    score = torch.tensor([[0.1, 0.9, 0.5, 0.7], [4.0, 3.0, 2.0, 1.0]])
    coverage = torch.tensor([[20, 30, 10, 5], [9, 8, 70, 71]])  # ranks on the whole grid, of which these four are left
    assert choose(score, 2, coverage, 0.5).tolist() == [[1, 3], [0, 1]]  # places 3 and 1; then 0.9 and 4.0
    assert choose(score, 2, coverage, 1.0).tolist() == [[2, 3], [0, 1]]
    assert choose(score, 3, coverage, 0.5).tolist() == [[1, 2, 3], [0, 1, 2]]  # of 1.5 places, two
    assert choose(score, 4, coverage, 0.75).tolist() == [[0, 1, 2, 3]] * 2


def test_fold():
    patches = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]])
    token, mass = fold(patches, torch.tensor([[0.2, 0.5, 0.3]]), torch.tensor([[1]]))
    assert token[0, 0].tolist() == pytest.approx([0.4 * 1 + 0.6 * 5, 0.4 * 2 + 0.6 * 6])
    assert mass.tolist() == [[pytest.approx(0.5)]]
    token, mass = fold(patches.half(), torch.tensor([[0.2, 0.5, 0.3]]), torch.tensor([[0, 1, 2]]))
    assert token.tolist() == [[[0, 0]]] and mass.tolist() == [[0]] and token.dtype == torch.half


# --- a drop ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("score", [s for s in SCORES if s != "random"])
@pytest.mark.parametrize(("after", "prompted"), [((1,), False), ((0, 2), False), ((0, 1, 2), True)])
def test_every_score_at_every_depth(visual, images, score, after, prompted):
    drop = dropper(visual, after=after, score=score)
    compare(visual, images[:3], drop, DeepPrompts() if prompted else None)


@pytest.mark.parametrize(("keep", "grid"), [(0.3, 0.0), (0.3, 1.0), (0.8, 0.75), (0.01, 0.5)])
def test_every_share(visual, images, keep, grid):
    drop = dropper(visual, keep=keep, after=(0, 2), grid=grid)
    compare(visual, images[:2], drop)
    left = number_kept(number_kept(SIDE**2, keep), keep)
    assert drop.alive.shape == (2, left) and drop.patches_left(SIDE**2) == left


def test_what_the_next_block_sees(visual, images):
    """The class token, the patches that `alive` names, one more, and nothing else; later blocks no more than that."""
    whole, part, drop = Witness(), Witness(), dropper(visual, keep=0.5, after=(1,))
    visual(images, (whole,))
    visual(images, (part, drop))
    assert [part.seen[i].shape[1] for i in range(LAYERS)] == [17, 17, 10, 10]
    assert torch.equal(part.seen[1], whole.seen[1])
    assert torch.equal(part.seen[2][:, 0], whole.seen[2][:, 0])
    for b in range(len(images)):
        for j, place in enumerate(drop.alive[b].tolist()):
            assert torch.equal(part.seen[2][b, 1 + j], whole.seen[2][b, 1 + place])
    assert (drop.alive.diff(dim=1) > 0).all()  # in the order of the grid


def test_a_new_batch_starts_anew(visual, images):
    drop = dropper(visual, after=(0, 2))
    first = visual(images, (drop,))
    visual(images[:2] + 1, (drop,))
    assert drop.alive.shape[0] == 2
    assert torch.equal(visual(images, (drop,)), first)


def test_prompts_survive(visual, images):
    """They are the last tokens of every block, and no patch is taken for one or the other way round."""
    prompts, drop = DeepPrompts(), dropper(visual, keep=0.3, after=(0, 2))
    feature, patches = visual(images, (prompts, drop), tokens=True)
    assert [prompts.seen[i].shape[1] for i in range(LAYERS)] == [
        1 + 16 + 2,
        1 + 5 + 1 + 2,
        1 + 5 + 1 + 2,
        1 + 2 + 1 + 2,
    ]
    for i in range(1, LAYERS):
        assert torch.equal(prompts.seen[i][:, -2:], prompts.prompts[i].expand(4, -1, -1))
    assert patches.shape == (4, 2, 8) and drop.alive.shape == (4, 2)
    feature.sum().backward()
    assert all(prompts.prompts.grad[i].abs().max() > 0 for i in range(LAYERS))  # every block's prompts had a say


def test_encode_image_returns_the_living_patches():
    from tests.clip_weights import SMALL, random_state

    model = clip.build_model(random_state(SMALL)).float()
    drop = DropTokens(model.visual, 0.5, (0,), "attention", 0.5)
    pictures = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        feature, patches = model.encode_image(pictures, (drop,), tokens=True)
        torch.testing.assert_close(feature, model.encode_image(pictures, (drop,)))
    assert feature.shape == (2, 32) and patches.shape == (2, 8, 32)


@pytest.mark.parametrize("keep", [1.0, 0.99])
@pytest.mark.parametrize("score", SCORES)
def test_where_all_are_kept_nothing_changes(visual, images, keep, score):
    """To the bit; nor is a random number drawn."""
    drop = dropper(visual, keep=keep, after=(0, 1, 2), score=score)
    state = torch.get_rng_state()
    feature, patches = visual(images, (drop,), tokens=True)
    assert torch.equal(torch.get_rng_state(), state)
    expected = visual(images, (), tokens=True)
    assert torch.equal(feature, expected[0]) and torch.equal(patches, expected[1])
    assert torch.equal(visual(images, (drop,)), visual(images))


def test_random_is_chance(images):
    """Over images that differ a little, every place goes as often as any other; evenly spread places stay."""
    visual = encoder()
    pictures = images[:1] + torch.linspace(0, 100, 400)[:, None, None, None]  # steps of a quarter
    drop = dropper(visual, keep=0.5, score="random", grid=0.0)
    assert torch.isfinite(visual(pictures, (drop,))).all()
    share = F.one_hot(drop.alive, 16).sum(dim=(0, 1)) / 400
    assert drop.alive.shape == (400, 8) and (share - 0.5).abs().max() < 0.13  # five deviations of 400 draws
    drop.grid = 0.5
    visual(pictures, (drop,))
    share = F.one_hot(drop.alive, 16).sum(dim=(0, 1)) / 400
    spread = coverage_order(SIDE) < 4
    assert (share[spread] == 1).all() and (share[~spread] - 4 / 12).abs().max() < 0.13


def test_chance_is_drawn_by_image(visual, images):
    """Once for each image and depth: for its copies, too, and in another precision."""
    kept = {}
    drop = dropper(visual, keep=0.5, after=(0, 2), score="random", grid=0.0)
    after_block = drop.after_block
    drop.after_block = lambda x, i, row: (after_block(x, i, row), kept.update({i: drop.alive}))[0]
    visual(images[[0, 1, 0, 2]], (drop,))
    first, second = kept[1], kept[2]
    assert torch.equal(second[0], second[2])
    assert not torch.equal(first[0], first[1]) and not torch.equal(first[1], first[3])
    again = torch.stack(
        [(row[:, None] == left).any(dim=1).nonzero()[:, 0] for row, left in zip(first, second, strict=True)]
    )
    assert not torch.equal(again, first[:, :4])  # other places than before, of those that were left
    drop.by = by_chance  # the function in place of its name
    for dtype in (torch.float16, torch.bfloat16):
        half = encoder()
        clip.model.convert_weights(half, dtype)
        half(images[[0, 1, 0, 2]].to(dtype), (drop,))
        assert torch.equal(drop.alive, second)


def test_what_an_image_is_known_by():
    """Its pixels, but not their last bits, nor half a thousandth of a pixel of where it was cut out."""
    images = torch.rand(50, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    images = F.interpolate(images[..., :8, :8], size=64, mode="bilinear")
    seeds = seeds_of(images)
    assert len(set(seeds)) == 50 and seeds_of(images.flip(0)) == seeds[::-1]
    centres = torch.full((50, 1, 2), 0.45)
    nearly = lambda other: sum(a != b for a, b in zip(seeds_of(cut(images, other, 0.5)), windows, strict=True))  # noqa: E731
    windows = seeds_of(cut(images, centres, 0.5))
    assert len({*windows, *seeds}) == 100
    assert nearly(centres + 1e-6) <= 1 and nearly(centres + 0.1) == 50
    for dtype in (torch.float16, torch.bfloat16):
        assert sum(a != b for a, b in zip(seeds_of(images.to(dtype)), seeds, strict=True)) <= 5


def test_the_probe_buffer_decides(visual, images):
    """Turned round, it keeps what it dropped."""
    drop = dropper(visual, keep=0.5, grid=0.0)
    visual(images, (drop,))
    kept = drop.alive
    drop.probe = -drop.probe
    visual(images, (drop,))
    for one, other in zip(kept.tolist(), drop.alive.tolist(), strict=True):
        assert sorted(one + other) == list(range(16))


def test_the_weights_are_not_the_drops_own(visual):
    drop = dropper(visual)
    assert not list(drop.parameters())
    assert sorted(drop.state_dict()) == ["mean", "probe", "prototypes"]


# --- attention -------------------------------------------------------------------------------------------------------


def test_the_row_before_a_block_is_the_one_it_computes(visual):
    x = torch.randn(3, 11, WIDTH)
    for block in visual.transformer.resblocks:
        row = block(x, first_row=True)[1]
        torch.testing.assert_close(block.class_attention(x), row, atol=1e-6, rtol=1e-4)
        for b in range(3):
            torch.testing.assert_close(row[b], attention_of_class(block, x[b]), atol=1e-6, rtol=1e-4)


def test_the_attention_score_is_that_row(visual, images):
    whole, drop = Witness(attention=True), dropper(visual, after=(1,), score="attention")
    visual(images, (whole,))
    score = drop.score(whole.seen[2], whole.seen[2][:, 1:], 1)
    torch.testing.assert_close(score, whole.rows[2][:, 1:].log(), atol=1e-5, rtol=1e-4)


class Shapes(TorchDispatchMode):
    """The shape of every tensor that is made."""

    def __init__(self):
        super().__init__()
        self.made = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else (out,):
            if torch.is_tensor(tensor):
                self.made.add(tuple(tensor.shape))
        return out


@pytest.mark.parametrize("score", ["attention", "prototypes"])
def test_no_attention_matrix_is_made(images, score, monkeypatch):
    """One query for each score; blocks go through the fused kernel once each."""
    visual, queries, fused = encoder(), [], []
    row, kernel = Attention._row, F.scaled_dot_product_attention
    monkeypatch.setattr(Attention, "_row", staticmethod(lambda q, k: queries.append(q.shape[2]) or row(q, k)))
    monkeypatch.setattr(
        F, "scaled_dot_product_attention", lambda *a, **kw: fused.append(a[0].shape[2]) or kernel(*a, **kw)
    )
    drop = dropper(visual, keep=0.6, after=(0, 2), score=score)
    with torch.no_grad(), Shapes() as shapes:
        visual(images, (AttentionMaps(1, 16, drop), drop))
    lengths = [17, 12, 12, 8]
    assert fused == [17, 12, 12, 1]  # the last block for the class token alone
    assert queries == [1] * 5  # two for scores, three for maps
    assert not [shape for shape in shapes.made if shape[-2:] in {(n, n) for n in lengths}]
    assert (4, 2, 1, 17) in shapes.made  # what is made instead: one row for each head


@pytest.mark.parametrize("score", ["probe", "random"])
def test_no_row_is_made_where_none_is_asked_for(visual, images, score, monkeypatch):
    def never(q, k):
        raise AssertionError("attention was computed")

    monkeypatch.setattr(Attention, "_row", staticmethod(never))
    visual(images, (dropper(visual, score=score),))


# --- precision, batches, gradients -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("count", [1, 4])
def test_half_precision(images, dtype, score, count):
    """The places are even in all precisions where the grid decides, so that features can be compared."""
    images = images[:count]
    grid = 1.0 if score == "random" else 0.5
    drop = dropper(encoder(), after=(0, 2), score=score, grid=grid)
    with torch.no_grad():
        full, _ = encoder()(images, (drop,), tokens=True)
        places = drop.alive
        half = encoder()
        clip.model.convert_weights(half, dtype)
        drop = dropper(half, after=(0, 2), score=score, grid=grid)
        feature, patches = half(images.to(dtype), (drop,), tokens=True)
    assert feature.dtype == patches.dtype == dtype
    assert torch.isfinite(feature).all() and torch.isfinite(patches).all()
    common = sum(len(set(a) & set(b)) for a, b in zip(places.tolist(), drop.alive.tolist(), strict=True))
    assert common >= 0.9 * places.numel()
    assert F.cosine_similarity(feature.float(), full, dim=-1).min() > 0.98


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast(visual, images, dtype):
    drop = dropper(visual, after=(0, 2), score="prototypes")
    with torch.no_grad():
        full = visual(images, (drop,))
        with torch.autocast("cpu", dtype=dtype):
            half = visual(images, (drop,))
    assert torch.isfinite(half).all() and F.cosine_similarity(half.float(), full, dim=-1).min() > 0.98


@pytest.mark.parametrize("score", SCORES)
def test_one_image_is_as_good_as_512(visual, score):
    images = torch.randn(512, 3, 4 * SIDE, 4 * SIDE, generator=torch.Generator().manual_seed(4))
    drop = dropper(visual, after=(0, 2), score=score)
    with torch.no_grad():
        together = visual(images, (drop,))
        alive = drop.alive
        for b in range(0, 512, 50):
            alone = visual(images[b : b + 1], (drop,))
            assert torch.equal(drop.alive[0], alive[b])
            torch.testing.assert_close(alone[0], together[b], atol=1e-4, rtol=1e-3)
        backwards = visual(images.flip(0), (drop,))
        assert torch.equal(drop.alive, alive.flip(0))
        torch.testing.assert_close(backwards, together.flip(0), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("score", [s for s in SCORES if s != "random"])
def test_gradients(visual, images, score):
    """Of the prompts and of the images, through two drops; the same as by hand."""
    prompts, drop, images = DeepPrompts(), dropper(visual, after=(0, 2), score=score), images[:2]
    gradients = []
    for hand in (False, True):
        pictures = images.clone().requires_grad_()
        prompts.zero_grad()
        if hand:
            features = torch.stack([by_hand(visual, image, drop, prompts)[0] for image in pictures])
        else:
            features = visual(pictures, (prompts, drop))
        features.square().sum().backward()
        gradients.append((pictures.grad, prompts.prompts.grad.clone()))
    for mine, theirs in zip(*gradients, strict=True):
        assert torch.isfinite(mine).all() and mine.abs().max() > 0
        assert (mine - theirs).abs().max() < 1e-3 * theirs.abs().max()
    with torch.no_grad():  # and it gives the same features without
        torch.testing.assert_close(visual(images, (prompts, drop)), features, atol=2e-4, rtol=1e-3)


# --- maps --------------------------------------------------------------------------------------------------------------


def row_by_hand(witness, i, places, b):
    """The attention of block i (counted after standardising over the patches left), on the grid of one image."""
    values = normed(list(witness.rows[i][b, 1 : 1 + len(places)].log()))
    grid = [math.nan] * 16
    for place, value in zip(places, values.tolist(), strict=True):
        grid[place] = value
    return grid


def test_maps_of_the_whole_encoder(visual, images):
    maps, witness = AttentionMaps(1, 16), Witness(attention=True)
    plain_features = visual(images)
    assert torch.equal(visual(images, (maps,)), plain_features)
    torch.testing.assert_close(visual(images, (maps, witness)), plain_features)  # a witness needs all tokens
    assert maps.maps.shape == (4, 2, 16)
    for b in range(4):
        rows = torch.tensor([row_by_hand(witness, i, range(16), b) for i in range(1, LAYERS)])
        torch.testing.assert_close(maps.maps[b, 0], rows[0], atol=1e-4, rtol=1e-3)
        torch.testing.assert_close(maps.maps[b, 1], rows.sum(dim=0), atol=1e-4, rtol=1e-3)
    assert [maps.needs_class_attention(i) for i in range(LAYERS)] == [False, True, True, True]


@pytest.mark.parametrize("prompted", [False, True])
def test_maps_of_what_is_left(visual, images, prompted):
    """Patches dropped before a block are unknown to its row, and those dropped at any time to the sum."""
    drop, witness, alive = dropper(visual, keep=0.6, after=(0, 2)), Witness(attention=True), {}
    maps = AttentionMaps(1, 16, drop)
    after_block = drop.after_block

    def note(x, i, row):
        x = after_block(x, i, row)
        alive[i + 1] = drop.alive.tolist()
        return x

    drop.after_block = note
    visual(images, ((DeepPrompts(),) if prompted else ()) + (maps, witness, drop))
    assert [len(alive[i][0]) for i in (1, 2, 3)] == [10, 10, 6]
    for b in range(4):
        rows = torch.tensor([row_by_hand(witness, i, alive[i][b], b) for i in (1, 2, 3)])
        torch.testing.assert_close(maps.maps[b, 0], rows[0], atol=1e-4, rtol=1e-3, equal_nan=True)
        torch.testing.assert_close(maps.maps[b, 1], rows.sum(dim=0), atol=1e-4, rtol=1e-3, equal_nan=True)
    assert (~maps.maps[:, 0].isnan()).sum() == 40 and (~maps.maps[:, 1].isnan()).sum() == 24


def test_maps_are_listed_before_the_drop(visual, images):
    drop = dropper(visual, after=(1,))
    with pytest.raises(clip.InputError, match="list it first"):
        visual(images, (drop, AttentionMaps(1, 16, drop)))
