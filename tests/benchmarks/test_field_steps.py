"""The field's usual training step, re-created: it learns what our trainers learn, in the way in which that code does it."""

import pytest
import torch
import torch.nn as nn

from benchmarks import field_steps, steps
from benchmarks.field_steps import FIELD, FieldCLIP, FieldStep

METHODS = ["CoOp", "CoCoOp", "KgCoOp", "ProGrad", "MaPLe", "PromptSRC"]


def built(method: str, classes: int = 5):
    """A trainer that takes steps large enough for each to show in the next loss, and a batch of 3 images."""
    trainer = steps.build(method, steps.EMBEDDED, classes, use_cuda=False)
    for group in trainer.optim.param_groups:
        group["lr"] = 0.01
    return trainer, steps.made_up_batch(trainer, 3)


def test_every_method_of_it_is_here():
    nodes = {steps.build(method, steps.EMBEDDED, 2, use_cuda=False).config_node for method in METHODS}
    assert nodes == set(FIELD)


@pytest.mark.parametrize("method", METHODS)
def test_it_is_the_same_computation(method):
    """Losses of some steps, each but the first of what the steps before have learned, and what is learned in the end."""
    trainer, batch = built(method)
    theirs, learned = FieldStep(trainer), dict(trainer.model.prompt_learner.named_parameters())
    first = {name: value.detach().clone() for name, value in learned.items()}
    for _ in range(4):
        shown, ours = theirs(batch), trainer.forward_backward(batch)
        torch.testing.assert_close(torch.tensor(shown["loss"]), ours["loss"], rtol=1e-4, atol=0)
    again = dict(theirs.net.learner.named_parameters())
    assert again.keys() == learned.keys()
    for name, value in learned.items():
        moved = (value - first[name]).norm()
        assert moved > 0 and (again[name] - value).norm() < 1e-3 * moved, name


def test_the_trainer_does_not_notice():
    trainer, batch = built("MaPLe")
    before = [value.clone() for value in trainer.model.state_dict().values()]
    FieldStep(trainer)(batch)
    assert all(torch.equal(a, b) for a, b in zip(before, trainer.model.state_dict().values(), strict=True))
    assert all(p.grad is None for p in trainer.model.parameters())


@pytest.mark.parametrize(("method", "texts", "images"), [("CoOp", 1, 1), ("CoCoOp", 3, 1), ("PromptSRC", 1, 2)])
def test_what_makes_it_slow(method, texts, images, monkeypatch):
    """All 77 places under a dense mask; a text pass for each image of CoCoOp's, and PromptSRC's second look."""
    trainer, batch = built(method)
    theirs, passes, calls = FieldStep(trainer), [], []
    run_block, encode = field_steps.run_block, FieldCLIP.image

    def counted(block, x, mask=None):
        if mask is not None and block is trainer.model.clip.transformer.resblocks[0]:
            assert x.shape[:2] == (77, 5) and mask.shape == (77, 77) and mask.is_floating_point()
            passes.append(block)
        return run_block(block, x, mask)

    def counted_images(self, *given):
        calls.append(given)
        return encode(self, *given)

    monkeypatch.setattr(field_steps, "run_block", counted)
    monkeypatch.setattr(FieldCLIP, "image", counted_images)
    theirs(batch)
    assert len(passes) == texts and len(calls) == images


def test_attention_is_pytorchs_own(monkeypatch):
    trainer, batch = built("CoOp")
    seen, forward = [], nn.MultiheadAttention.forward

    def watched(self, q, k, v, **how):
        seen.append(how["need_weights"])
        return forward(self, q, k, v, **how)

    monkeypatch.setattr(nn.MultiheadAttention, "forward", watched)
    FieldStep(trainer)(batch)
    visual, text = trainer.model.clip.visual.transformer, trainer.model.clip.transformer
    assert seen == [False] * (visual.layers + text.layers)


def test_a_loss_that_is_no_number_ends_it():
    trainer, batch = built("CoOp")
    theirs = FieldStep(trainer)
    with torch.no_grad():
        theirs.net.learner.ctx.fill_(torch.nan)
    with pytest.raises(FloatingPointError, match="infinite or NaN"):
        theirs(batch)
