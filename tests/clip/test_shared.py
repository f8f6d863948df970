"""What all prompts begin with is encoded once (../../clip/shared.py): the same features and gradients, and less work."""

import pytest
import torch

import clip
from clip.edits import Edit
from tests.clip_weights import SMALL, random_state

C, L, P = 7, 9, 4  # prompts, places, shared places


@pytest.fixture(scope="module")
def model():
    return clip.build_model(random_state(SMALL)).float().requires_grad_(False).eval()


def step(model, shared: int, deep: int = 0, edits=()):
    """Features (C, d), and the gradients of a context (3, D) and of deep prompts (deep, D)."""
    torch.manual_seed(1)
    start, context, rest = (0.1 * torch.randn(count, 128) for count in (1, 3, C * (L - P)))
    prompts = [0.1 * torch.randn(deep, 128).requires_grad_()] if deep else []
    context.requires_grad_()
    first = torch.cat([start, context]).expand(C, -1, -1)  # (C, P, D)
    x = torch.cat([first, rest.view(C, L - P, 128)], dim=1)  # (C, L, D)
    end = torch.arange(C) % 4 + L - 4
    edits = [*([clip.TextPrompts(prompts)] if deep else []), *edits]
    features = model.encode_prompts(x, end, edits, L, shared)
    loss = (features * torch.linspace(-1, 1, features.numel()).view_as(features)).sum()
    return [features.detach(), *torch.autograd.grad(loss, [context, *prompts])]


@pytest.fixture
def places(model):
    """How many places each pass through the first block's MLP had."""
    seen = []
    hook = model.transformer.resblocks[0].mlp.register_forward_hook(lambda _, x, y: seen.append(y[..., 0].numel()))
    yield seen
    hook.remove()


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("deep", [0, 2, 3])
@pytest.mark.parametrize("shared", [1, 2, P])
def test_same_features_and_gradients(model, places, monkeypatch, shared, deep, parts):
    whole = step(model, 0, deep)
    monkeypatch.setattr(clip.model.CLIP, "text_parts", lambda *_: parts)
    places.clear()
    found = step(model, shared, deep)
    for one, other in zip(found, whole, strict=True):
        assert (one - other).norm() <= 1e-5 * other.norm()
    skips = deep < shared  # deep prompts stand in shared places
    passes = 2 if parts > 1 else 1  # each part is encoded again for its gradient
    assert sum(places) == passes * (C * (L - shared) + shared * parts if skips else C * L)


class Moves(Edit):
    def before_block(self, x, i):
        return x + 0.01


def test_other_edits_see_whole_prompts(model, places):
    assert all(map(torch.equal, step(model, P, edits=[Moves()]), step(model, 0, edits=[Moves()])))
    assert sum(places) == 2 * C * L
