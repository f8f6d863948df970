"""Gradients of gradients through CLIP (../dassl/engine/attention.py): refused of fused attention, and right of the plain one."""

import pytest
import torch

import clip
import train
from clip.vit import Transformer
from dassl.engine.attention import attention
from dassl.utils import InputError
from tests.helpers import arguments, results
from trainers.coop import CoOp


def second_derivative(tower, x):
    (first,) = torch.autograd.grad(tower(x).square().sum(), x, create_graph=True)
    return torch.autograd.grad(first.square().sum(), x)[0]


@pytest.mark.parametrize("causal", [False, True])
def test_a_second_derivative(causal):
    torch.manual_seed(0)
    tower, x = Transformer(64, 1, 2, causal=causal).double(), torch.randn(3, 2, 64, dtype=torch.float64)
    with attention("plain"):
        assert torch.autograd.gradgradcheck(
            lambda part: tower(part)[..., :2], x.requires_grad_(), atol=1e-4, fast_mode=True
        )
    with pytest.raises(InputError, match="set TRAIN.ATTENTION plain"), attention("fused"):
        second_derivative(Transformer(64, 1, 2, causal=causal), torch.randn(3, 2, 64, requires_grad=True))


def test_other_errors_stay_as_they_are():
    with pytest.raises(RuntimeError, match="another"), attention("fused"):
        raise RuntimeError("another derivative")


@torch.no_grad()
def test_both_ways_give_the_same():
    model = clip.load("ViT-Embedded/8", "cpu")[0]
    images = torch.randn(2, 3, 64, 64)
    with attention("plain"):
        plain = model.encode_image(images)
    torch.testing.assert_close(plain, model.encode_image(images), atol=1e-4, rtol=1e-4)


@pytest.fixture
def of_second_order(monkeypatch):
    """CoOp, with a loss that holds a gradient, as methods of meta-learning have it."""

    def compute_loss(self, images, labels):
        logits = self.model(images)
        loss = torch.nn.functional.cross_entropy(logits, labels)
        (inner,) = torch.autograd.grad(loss, self.model.prompt_learner.ctx, create_graph=True)
        return loss + inner.square().sum(), {}

    monkeypatch.setattr(CoOp, "compute_loss", compute_loss)


def test_a_run(of_second_order, data_root, tmp_path, capsys):
    line = arguments(data_root, tmp_path / "refused", "CoOp")
    assert train.main(line) == 2 and "TRAIN.ATTENTION plain" in capsys.readouterr().err
    assert results(tmp_path / "refused")["state"] == "failed"
    assert train.main(arguments(data_root, tmp_path / "done", "CoOp", options=["TRAIN.ATTENTION", "plain"])) == 0
    assert results(tmp_path / "done")["state"] == "finished"


def test_a_value_that_it_cannot_have(data_root, tmp_path, capsys):
    assert train.main(arguments(data_root, tmp_path, "CoOp", options=["TRAIN.ATTENTION", "flash"])) == 2
    assert "TRAIN.ATTENTION is 'flash': it must be one of fused, plain" in capsys.readouterr().err
