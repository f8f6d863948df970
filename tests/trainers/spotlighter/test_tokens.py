"""Stored tokens (trainers/spotlighter/tokens.py), and the whole fit over them against its plain form (plain.py)."""

import pytest
import torch

from tests.trainers.spotlighter import plain
from tests.trainers.spotlighter.world import NAMES, SCALE, B, D, N, unit
from trainers.spotlighter import tokens as tokens_module
from trainers.spotlighter.bank import build_bank, remember, solve
from trainers.spotlighter.centred import Centred, Seen
from trainers.spotlighter.drop import take
from trainers.spotlighter.fit import fit_scalars
from trainers.spotlighter.head import SpotlighterHead
from trainers.spotlighter.tokens import Tokens


@pytest.fixture
def small_parts(monkeypatch):
    """Two images are read at once, of the five that are asked."""
    monkeypatch.setattr(tokens_module, "READ_AT_ONCE", (2 * 4 * N * D, 2 * 4 * N * D))
    monkeypatch.setattr(tokens_module, "ASKED_AT_ONCE", (5 * 4 * N * D, 5 * 4 * N * D))


@pytest.mark.parametrize("prototypes", [5, 15])  # a ridge of 20 clusters and of 60, beside 48 features
def test_the_fit_is_its_plain_form(world, small_parts, prototypes):
    shots, t, z, _ = world
    heads = [SpotlighterHead(SCALE, prototypes=prototypes) for _ in range(2)]
    fit_scalars(heads[0], shots._replace(v=Tokens(shots.v)), t, z, 1, pull=0.1, levels=0.0, unseen=0.5)
    plain.fit_scalars(heads[1], shots.f, shots.v, shots.y, t, z, 1, pull=0.1, unseen=0.5)
    for (name, ours), theirs in zip(heads[0].scalars.named_parameters(), heads[1].scalars.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0, msg=lambda text, name=name: f"{name}: {text}")
    with torch.no_grad():
        remember(heads[0], shots, t, z, NAMES)
        bank = plain.build_bank(heads[0], shots.f, shots.v, shots.y, t, z)
        for name, theirs in zip(heads[0].bank._fields, bank, strict=False):
            torch.testing.assert_close(getattr(heads[0], name), theirs, atol=1e-5, rtol=0)
        logits = heads[0](shots.f, shots.v, heads[0].describe(t, z, NAMES))
        torch.testing.assert_close(logits, plain.logits(heads[0], shots.f, shots.v, bank), atol=1e-5 * SCALE, rtol=0)


def test_tokens_in_half_precision_are_computed_with_in_full(world, small_parts, monkeypatch):
    """A table that is too large in fp32 is kept in fp16; the fit is that of the rounded tokens to the bit."""
    shots, t, z, _ = world
    for limit, dtype in [(4 * shots.v.numel(), torch.float32), (4 * shots.v.numel() - 1, torch.float16)]:
        monkeypatch.setattr(tokens_module, "HALF_ABOVE", limit)
        kept = Tokens.room_for(B, like=shots.v)
        assert kept.table.dtype == dtype and kept.table.shape == shots.v.shape
    fitted = []
    for table in (shots.v.half(), shots.v.half().float()):
        head = SpotlighterHead(SCALE)
        fit_scalars(head, shots._replace(v=Tokens(table)), t, z, 1, pull=0.0, levels=0.0, unseen=0.5)
        fitted.append(torch.stack([p.sum() for p in head.parameters()]))
    assert torch.equal(*fitted)


def test_parts_of_a_table(world, small_parts):
    """Parts of parts are read in their order; nothing is copied before."""
    v = world[0].v
    mask = torch.arange(B) % 3 == 0
    some = Tokens(v)[mask][torch.tensor([4, 0, 2, 5, 1, 7, 3])]
    expected = v[mask][[4, 0, 2, 5, 1, 7, 3]]
    assert some.table is v and len(some) == 7
    assert torch.equal(some.read(), expected)
    parts = some.split()
    assert [len(part) for part in parts] == [5, 2]
    assert torch.equal(torch.cat([part.read() for part in parts]), expected)
    torch.testing.assert_close(some.mean(), expected.mean((0, 1)))
    torch.testing.assert_close(parts[1].squares(), expected[5:].square().sum(-1))


@pytest.mark.parametrize("kept", ["whole", "some in fp32", "some in fp16", "with a gradient"])
def test_centred_tokens(world, small_parts, kept):
    """All that is asked of them is as if they were there, gradients included; asked again, nothing is computed anew."""
    v, g = world[0].v.half().float(), torch.Generator().manual_seed(1)
    rows = torch.arange(B) if kept in ("whole", "with a gradient") else torch.randperm(B, generator=g)[:13]
    stored = Tokens(v.half() if kept == "some in fp16" else v)
    mean, v = v.mean((0, 1)), v[rows].requires_grad_(kept == "with a gradient")
    if kept != "whole":
        stored = Tokens(v) if v.requires_grad else stored[rows]
    which = torch.randint(7, (len(v), 3), generator=g)
    index = torch.randint(N, (len(v), 4), generator=g)
    directions = torch.randn(len(v), 2, D, generator=g)
    some = torch.randn(7, 5, D, generator=g)  # prototypes of seven classes
    seen, found = Seen(len(v)), []
    for plainly in (True, False, False):
        share = torch.tensor(0.7, requires_grad=True)
        moved, prototypes = directions.clone().requires_grad_(), some.clone().requires_grad_()
        if plainly:
            centred = unit(v - share * mean)
            nearest = torch.einsum("bnd,bckd->bcnk", centred, prototypes[which]).amax(-1)
            asked = torch.einsum("bnd,bkd->bkn", centred, moved), nearest, take(centred, index)
        else:
            tokens = Centred(stored, mean, share, seen)
            asked = tokens.along(moved), tokens.nearest(prototypes, which), tokens.take(index)
        of = [share, moved, prototypes, *([v] if v.requires_grad else [])]
        loss = sum((x * torch.randn(x.shape, generator=torch.Generator().manual_seed(2))).sum() for x in asked)
        found.append([*(x.detach() for x in asked), *torch.autograd.grad(loss, of)])
    for plainly, ours, again in zip(*found, strict=True):
        torch.testing.assert_close(ours, plainly, atol=1e-5, rtol=1e-5)
        assert torch.equal(ours, again)


def test_tokens_are_read_once_for_what_is_asked_again(world, small_parts, monkeypatch):
    """The second selection of a bank reads for the prototypes alone, and a gradient for its sums alone."""
    shots, t, z, _ = world
    read = {"products": [], "sums": []}
    for name, calls in read.items():
        plainly = getattr(Tokens, name)
        counting = lambda self, x, calls=calls, plainly=plainly: (calls.append(x.shape[:2]), plainly(self, x))[1]  # noqa: E731
        monkeypatch.setattr(Tokens, name, counting)
    bank = build_bank(SpotlighterHead(SCALE), shots, t, z)
    images = lambda calls: {n: sum(b for b, m in calls if m == n) for _, n in calls}  # noqa: E731
    assert images(read["products"]) == {2: B, 20: B} and not read["sums"]  # with text and mean, with prototypes
    bank.map.sum().backward()
    assert images(read["products"]) == {2: B, 20: B} and images(read["sums"]) == {2: B}


def test_a_matrix_that_rounding_spoilt_is_solved_all_the_same():
    """Cholesky in fp32 gives up on it."""
    g = torch.Generator().manual_seed(0)
    x = torch.randn(20, 3, generator=g) * torch.tensor([1e3, 1.0, 1.0])
    square, right, penalty = x @ x.t(), torch.randn(20, 2, generator=g), torch.tensor(1e-3)
    assert torch.linalg.cholesky_ex(square + penalty * torch.eye(20)).info
    solution = solve(square, penalty, right).double()
    matrix = (square + penalty * torch.eye(20)).double()
    torch.testing.assert_close(solution, torch.linalg.solve(matrix, right.double()), rtol=1e-3, atol=1e-3)
