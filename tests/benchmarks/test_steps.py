"""Steps over made-up batches: the trainer is the real one, and takes its own step."""

import pytest
import torch

from benchmarks import steps
from clip import load_state_dict
from dassl.engine import TRAINER_REGISTRY
from tests.clip_weights import SMALL


def test_the_trainer_is_the_real_one():
    trainer = steps.build("MaPLe", steps.EMBEDDED, 7, use_cuda=False)
    assert isinstance(trainer, TRAINER_REGISTRY.get("MaPLe"))
    assert trainer.num_classes == len(trainer.dm.dataset.classnames) == 7 and trainer.precision == "fp32"
    assert trainer.looks_at_images() and not trainer.is_remembered()  # else no step would encode an image


def test_a_trainer_is_told_its_batch():
    """What depends on it, such as the parts in which texts are encoded, is as in a run."""
    one, many = (steps.steps("CoCoOp", steps.EMBEDDED, 3, batch, use_cuda=False).trainer for batch in (1, 4))
    assert (one.memory.prompts, many.memory.prompts) == (3, 12)


def test_a_step_is_compiled_if_asked(monkeypatch):
    monkeypatch.setattr("trainers.shared.clip_trainer.check_way", lambda *_: None)
    trainer = steps.build("MaPLe", steps.EMBEDDED, 3, use_cuda=False, options=["TRAIN.COMPILE", "compile"])
    assert trainer.encoders.parts and not steps.build("MaPLe", steps.EMBEDDED, 3, use_cuda=False).encoders.parts


def test_spotlighter_stands_over_coop():
    ours = steps.steps("Spotlighter", steps.EMBEDDED, 3, 2, use_cuda=False)
    assert ours.trainer.own.HOST == "CoOp" and ours.trainer.config_node == "COOP" and ours.theirs is not None


def test_both_take_a_step():
    both = steps.steps("CoOp", steps.EMBEDDED, 3, 2, use_cuda=False, options=["TRAIN.PRINT_FREQ", 2])
    context = both.trainer.model.prompt_learner.ctx
    before, losses = context.detach().clone(), [both.theirs()["loss"] for _ in range(2)]
    assert torch.equal(before, context) and losses[0] != losses[1]
    torch.testing.assert_close(both.ours()["loss"], torch.tensor(losses[0]))
    assert not torch.equal(before, context)


def test_numbers_are_read_with_a_line_of_progress(monkeypatch):
    both = steps.steps("CoOp", steps.EMBEDDED, 3, 2, use_cuda=False, options=["TRAIN.PRINT_FREQ", 2])
    fetched = []
    monkeypatch.setattr(both.trainer.readings, "fetch", lambda: fetched.append(None))
    both.ours()
    assert not fetched
    both.ours()
    assert len(fetched) == 1


def test_a_method_that_was_not_recreated():
    assert steps.steps("VPT", steps.EMBEDDED, 3, 2, use_cuda=False).theirs is None


@pytest.mark.parametrize(("method", "batch"), [("CoOp", 32), ("CoCoOp", 1), ("KgCoOp", 128), ("MaPLe", 4), ("PromptSRC", 4)])  # fmt: skip
def test_batches_are_the_authors(method, batch):
    """On ViT-B/16, whose weights are not needed to know."""
    cfg = steps.build_config(method, [steps.CONFIGS / "trainers" / method / "vit_b16.yaml"])
    assert batch == cfg.DATALOADER.TRAIN_X.BATCH_SIZE


def test_random_weights_are_a_clip(tmp_path):
    """They stand in a file as OpenAI's do, and drawing them takes no random number of the run's."""
    state = torch.get_rng_state()
    path = steps.random_weights(tmp_path, SMALL)
    assert torch.equal(state, torch.get_rng_state())
    weights = load_state_dict(path)
    assert weights["visual.conv1.weight"].dtype == torch.float16
    assert weights["logit_scale"].exp().item() == pytest.approx(100)
    assert path == steps.random_weights(tmp_path, SMALL)
    assert all(torch.equal(value, weights[name]) for name, value in load_state_dict(path).items())
