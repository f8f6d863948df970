"""Steps whose texts are encoded without padding and without what they share learn what those of whole, padded texts do."""

import pytest

import clip
from benchmarks import steps
from clip import lengths

NAMES = [
    "red cat",
    "moss",
    "german shorthaired pointer",
    "sea",
    "ice cream cone",
    "night sky",
    "oak",
    "brown dog",
    "tea",
]
METHODS = {
    "CoOp": ("CoOp",),
    "CoOp, the class in the middle": ("CoOp", "TRAINER.COOP.CLASS_TOKEN_POSITION", "middle"),
    "CoOp, a context for each class": ("CoOp", "TRAINER.COOP.CSC", True),
    "CoCoOp": ("CoCoOp",),
    "KgCoOp": ("KgCoOp",),
    # Its own start, a context of zeros, is one from which a last bit's difference grows to thousandths of a loss.
    "ProGrad": ("ProGrad", "TRAINER.PROGRAD.CTX_INIT", False),
    "MaPLe": ("MaPLe",),
    "PromptSRC": ("PromptSRC",),
    "IVLP": ("IVLP",),
}
UPDATES = 20


def learned(method, options):
    """The losses of some updates, what is learned, and how many places went through a text block."""
    trainer = steps.build(method, steps.EMBEDDED, len(NAMES), use_cuda=False, options=options)
    for group in trainer.optim.param_groups:
        group["lr"] = 0.002
    batch, places = steps.made_up_batch(trainer, 3), []
    mlp = trainer.model.clip.transformer.resblocks[0].mlp
    mlp.register_forward_hook(lambda _, x, y: places.append(y[..., 0].numel()))
    losses = [float(trainer.forward_backward(batch)["loss"]) for _ in range(UPDATES)]
    return losses, dict(trainer.model.prompt_learner.named_parameters()), sum(places)


@pytest.mark.parametrize("case", METHODS)
def test_it_is_the_same_computation(case, monkeypatch):
    """Losses and what is learned, to 1e-5."""
    method, *options = METHODS[case]
    monkeypatch.setattr(steps, "class_names", lambda: NAMES)
    monkeypatch.setitem(lengths.PRICES, "cpu", 0)
    losses, ours, places = learned(method, options)
    monkeypatch.setattr(clip.model, "fits", lambda *_: False)
    whole, theirs, more = learned(method, options)
    assert places < 0.9 * more and whole[-1] != whole[0]
    assert losses == pytest.approx(whole, rel=1e-5)
    for name, value in theirs.items():
        assert (ours[name] - value).norm() <= 1e-5 * value.norm(), name
