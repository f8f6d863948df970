"""What prompts share is encoded once, and no padding (../../clip/shared.py): the same features and gradients, and less work."""

import pytest
import torch

import clip
from clip import lengths
from clip.edits import Edit
from clip.lengths import cheapest
from clip.parts import split
from clip.shared import fits
from clip.vit import Attention
from tests.clip_weights import SMALL, random_state

C, L, P = 7, 9, 4  # prompts of a group, places, shared places
ENDS = [8, 5, 7, 5, 6, 8, 5]
LENGTHS = tuple(end + 1 for end in ENDS)


@pytest.fixture
def model():
    return clip.build_model(random_state(SMALL)).float().requires_grad_(False).eval()


def step(model, shared: int, deep: int = 0, edits=(), groups: int = 1, each=LENGTHS):
    """Features (G C, d), and the gradients of contexts (G, 3, D) and of deep prompts (deep, D)."""
    torch.manual_seed(1)
    start, context, rest = (0.1 * torch.randn(count, 128) for count in (1, 3 * groups, C * (L - P)))
    prompts = [0.1 * torch.randn(deep, 128).requires_grad_()] if deep else []
    context.requires_grad_()
    first = torch.cat([start.expand(groups, 1, 128), context.view(groups, 3, 128)], dim=1)  # (G, P, D)
    first, rest = first[:, None].expand(-1, C, -1, -1), rest.view(C, L - P, 128).expand(groups, -1, -1, -1)
    x = torch.cat([first, rest], dim=2).flatten(0, 1)  # (G C, L, D)
    end = torch.tensor(ENDS * groups)
    edits = [*([clip.TextPrompts(prompts)] if deep else []), *edits]
    features = model.encode_prompts(x, end, edits, each, shared, groups)
    loss = (features * torch.linspace(-1, 1, features.numel()).view_as(features)).sum()
    return [features.detach(), *torch.autograd.grad(loss, [context, *prompts])]


def plain(model, deep: int = 0, groups: int = 1):
    """With all that they share in each prompt, and padding."""
    return step(model, 0, deep, groups=groups, each=L)


def assert_same(found, whole):
    for one, other in zip(found, whole, strict=True):
        assert (one - other).norm() <= 1e-5 * other.norm()


@pytest.fixture
def places(model):
    """How many places each pass through the first block's MLP had."""
    seen = []
    model.transformer.resblocks[0].mlp.register_forward_hook(lambda _, x, y: seen.append(y[..., 0].numel()))
    return seen


@pytest.fixture(params=[0, 1000])
def price(request, monkeypatch):
    monkeypatch.setitem(lengths.PRICES, "cpu", request.param)
    return request.param


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("deep", [0, 2, 3])
@pytest.mark.parametrize("shared", [0, 1, 2, P])
def test_same_features_and_gradients(model, places, price, monkeypatch, shared, deep, groups, parts):
    whole = plain(model, deep, groups)
    pieces = [(slice(g, g + 1), rows) for g in range(groups) for rows in split(C, parts)]
    monkeypatch.setattr(clip.model.CLIP, "text_parts", lambda *_: pieces if parts > 1 else [(slice(0, groups), slice(0, C))])  # fmt: skip
    places.clear()
    assert_same(step(model, shared, deep, groups=groups), whole)
    if deep and deep >= shared:  # deep prompts stand in shared places
        expected = groups * C * L
    else:
        parted = [tuple(length - shared for length in LENGTHS[rows]) for rows in split(C, parts)]
        expected = groups * sum(
            shared + sum(rows * behind for rows, behind in cheapest(some, price)) for some in parted
        )
        assert expected < groups * C * L or (price and not shared)
    assert sum(places) == expected * (2 if parts > 1 else 1)  # each part is encoded again for its gradient


def test_lengths_are_looked_up_if_nobody_says_them(model, places):
    found = step(model, P, each=None)
    assert all(map(torch.equal, found, step(model, P))) and places[0] == places[2] and places[1] == places[3]


def test_a_longest_prompt_is_not_looked_behind(model, places):
    """Who says how long the longest is, and no more, has all of them padded."""
    assert_same(step(model, P, each=L), plain(model))
    assert sum(places[:2]) == P + C * (L - P)


def test_prompts_of_one_length_keep_their_bits(model):
    """Nothing is put into another order, and no place is left out."""
    torch.manual_seed(1)
    x, end = torch.randn(C, L, 128), torch.full((C,), L - 1)
    assert torch.equal(model.encode_prompts(x, end, (), (L,) * C), model.encode_prompts(x, end, (), L))


class Moves(Edit):
    def before_block(self, x, i):
        return x + 0.01


def test_other_edits_see_whole_prompts(model, places):
    assert all(map(torch.equal, step(model, P, edits=[Moves()]), step(model, 0, edits=[Moves()])))
    assert sum(places) == 2 * C * L


class Doubled(Attention):
    def forward(self, x, *how):
        out, row = super().forward(x, *how)
        return 2 * out, row


def another_attention(block):
    block.attn.__class__ = Doubled


def a_hook(block):
    block.register_forward_hook(lambda _, x, out: (2 * out[0], out[1]))


def another_forward(block):
    forward = block.forward
    block.forward = lambda *given: (2 * forward(*given)[0], None)


@pytest.mark.parametrize("change", [another_attention, a_hook, another_forward])
def test_blocks_that_another_has_changed_see_whole_prompts(model, places, change):
    change(model.transformer.resblocks[1])
    assert all(map(torch.equal, step(model, P), plain(model)))
    assert sum(places) == 2 * C * L


def test_texts_are_encoded_without_what_they_share_and_padding(model, places, monkeypatch):
    """As zero-shot CLIP's, and all that are."""
    monkeypatch.setitem(lengths.PRICES, "cpu", 0)
    texts = clip.tokenize(["a photo of a cat.", "a photo of a german shepherd.", "a photo of an ice cream."])
    found = model.encode_text(texts)
    end = texts.argmax(dim=1)
    assert sum(places) == 4 + int((end + 1 - 4).sum())  # start, a, photo, of
    whole = model.encode_prompts(model.token_embedding(texts), end, (), int(end.max()) + 1)
    assert (found - whole).norm() <= 1e-5 * whole.norm()
    assert torch.allclose(model.encode_text(texts[1:2]), found[1:2], rtol=0, atol=1e-5)


def test_deep_prompts_that_reach_behind_what_is_shared():
    """They would have to replace what stands in each prompt's own part, wherever they begin."""
    transformer = clip.build_model(random_state(SMALL)).transformer
    edits = [clip.TextPrompts([torch.zeros(2, 128)], after=4)]
    assert [fits(transformer, edits, shared) for shared in (3, 5, 6)] == [False, False, True]
