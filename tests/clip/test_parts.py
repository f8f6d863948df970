"""Prompts in parts (../clip/parts.py): how many, the same features and gradients, and what backward keeps of them."""

import contextlib

import pytest
import torch

import clip
from clip import parts
from clip.parts import Texts, activations, in_parts, pieces_of, split
from tests.clip_weights import SMALL, random_state

COUNT, LENGTH = 13, 8


@pytest.fixture
def model():
    return clip.build_model(random_state(SMALL)).float().requires_grad_(False).eval()


@pytest.mark.parametrize(
    ("count", "each", "memory", "number"),
    [(0, 10, 1, 1), (5, 10, 50, 1), (5, 10, 49, 2), (5, 10, 20, 3), (5, 10, 10, 5), (5, 10, 3, 5), (5, 10, float("inf"), 1)],
)  # fmt: skip
def test_the_number_of_parts(count, each, memory, number):
    pieces = pieces_of(Texts((8,) * count), lambda texts: each * texts.total, memory)
    assert pieces == [(slice(0, 1), rows) for rows in split(count, number)]


def test_parts_of_prompts_of_many_lengths():
    """None takes more than there is, though all together would fit into fewer."""
    texts, sizes = Texts((9, 1, 1, 1, 1, 1)), []
    for memory in (14, 13, 11, 10, 9, 2):  # what all take together, and less
        rows = [some for _, some in pieces_of(texts, lambda texts: sum(texts.lengths), memory)]
        sizes.append([sum(texts.lengths[some]) for some in rows])
    assert sizes == [[14], [11, 3], [11, 3], [10, 2, 2], [9, 2, 1, 2], [9, 1, 1, 1, 1, 1]]


@pytest.mark.parametrize(
    ("memory", "pieces"),
    [
        (90, [(0, 5, 0, 6)]),  # all five groups
        (89, [(0, 2, 0, 6), (2, 5, 0, 6)]),
        (36, [(0, 1, 0, 6), (1, 3, 0, 6), (3, 5, 0, 6)]),
        (18, [(g, g + 1, 0, 6) for g in range(5)]),
        (17, [(g, g + 1, some, some + 3) for g in range(5) for some in (0, 3)]),  # a group in parts
    ],
)
def test_parts_of_groups(memory, pieces):
    found = pieces_of(Texts((3,) * 6, groups=5), lambda texts: texts.groups * sum(texts.lengths), memory)
    assert [(g.start, g.stop, rows.start, rows.stop) for g, rows in found] == pieces


def test_parts_are_as_equal_as_can_be():
    """And the number alone decides them."""
    seen = []

    def encode(rows: slice):
        seen.append(rows.stop - rows.start)
        return torch.arange(rows.start, rows.stop)

    found = in_parts(encode, [(rows,) for rows in split(13, 4)], torch.device("cpu"))
    assert found.tolist() == list(range(13)) and seen == [3, 3, 3, 4]


def test_memory_is_given_back_between_parts_alone(monkeypatch):
    """It takes time, so what is at once does without."""
    given = []
    monkeypatch.setattr(parts, "give_back", lambda: given.append(True))
    rows = lambda rows: torch.zeros(rows.stop - rows.start)  # noqa: E731
    one, four = [(slice(0, 13),)], [(some,) for some in split(13, 4)]
    in_parts(rows, one, torch.device("cpu"))
    in_parts(rows, four, torch.device("cuda"))
    assert not given
    in_parts(rows, four, torch.device("cpu"))
    assert len(given) == 4


def test_a_c_library():
    assert parts.c_function("malloc_of_no_library") is None
    parts.give_back()


def prompts_of(shared: bool):
    """A context (m, D), or one for each class, in prompts (C, L, D); deep prompts for the second block; their ends."""
    torch.manual_seed(1)
    context = 0.1 * torch.randn(*(() if shared else (COUNT,)), 3, 128)
    deep = 0.1 * torch.randn(3, 128)
    rest = 0.1 * torch.randn(COUNT, LENGTH - 3, 128)
    end = torch.arange(COUNT) % 4 + LENGTH - 4
    return context.requires_grad_(), deep.requires_grad_(), rest, end


def step(model, shared=True, autocast=False):
    """Features (C, d), and the gradients of the context and of the deep prompts."""
    context, deep, rest, end = prompts_of(shared)
    with torch.autocast("cpu", torch.bfloat16) if autocast else contextlib.nullcontext():
        prompts = torch.cat([rest[:, :1], context.expand(COUNT, 3, 128), rest[:, 1:]], dim=1)
        features = model.encode_prompts(prompts, end, [clip.TextPrompts([deep])])
        loss = (features.float() * torch.linspace(-1, 1, features.numel()).view_as(features)).sum()
    return [features.detach().float(), *torch.autograd.grad(loss, [context, deep])]


def bound(model, at_once: int, learns: bool = True) -> float:
    return at_once * activations(model.transformer, LENGTH, model.dtype, learns)


@pytest.fixture
def calls(model, monkeypatch):
    counts, run = [], model.transformer.run
    monkeypatch.setattr(model.transformer, "run", lambda x, edits: counts.append(len(x)) or run(x, edits))
    return counts


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize(("at_once", "sizes"), [(1, [1] * 13), (4, [3, 3, 3, 4]), (7, [6, 7]), (13, [13])])
def test_features_and_gradients(model, calls, shared, at_once, sizes):
    whole = step(model, shared)
    assert calls == [13]
    del calls[:]
    model.text_memory = bound(model, at_once)
    ours = step(model, shared)
    assert calls == (sizes if len(sizes) == 1 else sizes + sizes[::-1])  # backward, from the last part on
    for tensor, expected in zip(ours, whole, strict=True):
        assert (tensor - expected).norm() <= 2e-6 * expected.norm()  # a sum over parts is one in another order
    if len(sizes) == 1:
        assert all(map(torch.equal, ours, whole))


def test_the_number_of_parts_alone_decides_the_bits(model, calls):
    results = []
    for at_once in (4, 4.9):
        model.text_memory = bound(model, 1) * at_once
        results.append(step(model))
    assert calls[:4] == [3, 3, 3, 4] and all(map(torch.equal, *results))


def test_backward_computes_in_the_same_precision(model):
    """What autocast chose for a part is chosen again."""
    whole = step(model, autocast=True)
    model.text_memory = bound(model, 4)
    for ours, expected in zip(step(model, autocast=True), whole, strict=True):
        torch.testing.assert_close(ours, expected, rtol=0, atol=0.02 * expected.abs().max().item())


def test_a_graph_may_be_gone_through_twice(model):
    """As ProGrad goes, for its two gradients."""
    model.text_memory = bound(model, 4)
    context, deep, rest, end = prompts_of(shared=True)
    prompts = torch.cat([rest[:, :1], context.expand(COUNT, 3, 128), rest[:, 1:]], dim=1)
    loss = model.encode_prompts(prompts, end, [clip.TextPrompts([deep])]).square().sum()
    first = torch.autograd.grad(loss, [context, deep], retain_graph=True)
    assert all(map(torch.equal, first, torch.autograd.grad(loss, [context, deep])))


@torch.no_grad()
def test_without_gradients(model, calls):
    context, _, rest, end = prompts_of(shared=True)
    prompts = torch.cat([rest[:, :1], context.expand(COUNT, 3, 128), rest[:, 1:]], dim=1)
    whole = model.encode_prompts(prompts, end, (), LENGTH)
    model.text_memory = bound(model, 4, learns=False)
    torch.testing.assert_close(model.encode_prompts(prompts, end, (), LENGTH), whole, rtol=0, atol=1e-6)
    assert calls == [13, 3, 3, 3, 4]


@pytest.mark.parametrize("shared", [True, False])
def test_what_backward_keeps_keeps_to_the_bound(model, shared):
    """Bytes that autograd holds at a time: of all prompts together as counted, at most; in parts those of one part."""
    whole = held(model, shared)
    assert 0.5 * bound(model, COUNT) < whole < bound(model, COUNT)
    model.text_memory = bound(model, 4)
    assert held(model, shared) < 0.2 * whole  # the prompts themselves, and features; the parts' own come and go


def held(model, shared) -> int:
    kept, weights = {}, {value.untyped_storage().data_ptr() for value in model.parameters()}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    context, deep, rest, end = prompts_of(shared)
    prompts = torch.cat([rest[:, :1], context.expand(COUNT, 3, 128), rest[:, 1:]], dim=1)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model.encode_prompts(prompts, end, [clip.TextPrompts([deep])])
    return sum(kept.values())
