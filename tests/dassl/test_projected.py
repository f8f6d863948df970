"""Steps along a part of the gradient (../dassl/engine/projected.py), by hand and beside ProGrad's own file."""

import pytest
import torch
from torch import nn

from dassl.engine import TrainerBase, TrainerX
from dassl.engine.projected import without_conflict
from dassl.utils import InputError
from trainers import prograd


def trainer(kind=TrainerBase, **frozen):
    """Two models of two learned numbers each, w and v, which plain SGD at rate 1 moves; the second has a frozen one too."""
    made = kind.__new__(kind)
    TrainerBase.__init__(made)
    for name in ("w", "v"):
        model = nn.ParameterDict({"value": nn.Parameter(torch.zeros(2))})
        if name == "v":
            model["frozen"] = nn.Parameter(torch.zeros(3), requires_grad=False)
        made.register_model(name, model, torch.optim.SGD(model.parameters(), lr=1.0))
    return made


def values(made):
    return [made._models[name]["value"] for name in ("w", "v")]


def moved(made):
    return [(-value.detach()).tolist() for value in values(made)]  # at rate 1, the gradients


@pytest.mark.parametrize("kind", [TrainerBase, TrainerX])
def test_prograd_takes_away_what_is_opposed(kind):
    """w: opposed to (0, 2) by -3, which is taken away by half; v: not opposed, and as it is."""
    made = trainer(kind)
    w, v = values(made)
    loss_a = w @ torch.tensor([1.0, -3.0]) + v @ torch.tensor([1.0, 1.0])
    loss_b = w @ torch.tensor([0.0, 2.0]) + v @ torch.tensor([5.0, 0.0])
    made.prograd_backward_and_update(loss_a, loss_b, 0.5)
    assert moved(made) == [[1.0, -1.5], [1.0, 1.0]]


def test_prograd_shares_a_graph_and_clears_what_was_there():
    made = trainer()
    w, v = values(made)
    w.grad = torch.full((2,), 100.0)
    shared = (w + 1).square().sum()
    made.prograd_backward_and_update(-shared, shared)  # wholly opposed: nothing is left
    assert moved(made)[0] == pytest.approx([0, 0], abs=1e-6) and v.grad is None  # which neither loss knows


def test_prograd_of_one_model_alone():
    made = trainer()
    w, v = values(made)
    made.prograd_backward_and_update((w + v).sum(), (w - v).sum(), names="w")
    assert moved(made)[0] == [1.0, 1.0] and moved(made)[1] == [0.0, 0.0]


def test_both_losses_are_looked_at():
    made = trainer()
    w, _ = values(made)
    with pytest.raises(FloatingPointError):
        made.prograd_backward_and_update(w.sum(), w.sum() * float("nan"))
    with pytest.raises(FloatingPointError):
        made.prograd_backward_and_update(w.sum() * float("nan"), w.sum())


@pytest.mark.parametrize("shape", [(4,), (3, 5)])
def test_the_projection_is_prograds_own(shape):
    """Which cannot be imported from here, as ours run on upstream Dassl too."""
    for seed in range(8):
        torch.manual_seed(seed)
        mine, theirs = torch.randn(shape), torch.randn(shape)
        expected = prograd.without_conflict(mine, theirs, 0.7)
        assert torch.equal(without_conflict(mine, theirs, 0.7), expected)
    assert torch.equal(without_conflict(mine, torch.zeros(shape), 1.0), mine)


@pytest.mark.parametrize("kind", [TrainerBase, TrainerX])
def test_a_subspace_across_models(kind):
    """g = (1, 2, 3, 4), on the plane of its first axis and of the diagonal of the last two."""
    made = trainer(kind)
    w, v = values(made)
    half = 0.5**0.5
    made.U = torch.tensor([[1.0, 0, 0, 0], [0, 0, half, half]])
    made.model_subspace_backward_and_update(w @ torch.tensor([1.0, 2.0]) + v @ torch.tensor([3.0, 4.0]))
    assert moved(made)[0] == [1.0, 0.0] and moved(made)[1] == pytest.approx([3.5, 3.5])


@pytest.mark.parametrize(("U", "found"), [(None, "none"), (torch.zeros(2, 7), "of shape (2, 7)")])
def test_a_subspace_of_something_else(U, found):
    made = trainer()
    made.U = U
    with pytest.raises(InputError) as caught:
        made.model_subspace_backward_and_update(sum(value.sum() for value in values(made)))
    assert f"must be (r, 4) for the 4 numbers that are learned, and there are {found}" in str(caught.value)
    assert moved(made) == [[0.0, 0.0], [0.0, 0.0]]
