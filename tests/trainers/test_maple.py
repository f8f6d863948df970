"""MaPLe (../trainers/maple.py): its coupling by hand, what its maps start from and learn, checkpoints of its authors."""

import pytest
import torch
from yacs.config import CfgNode

import clip
import train
from dassl.errors import InputError
from tests.clip_weights import random_state
from tests.helpers import CLASSES, arguments, results
from tests.trainers.by_hand import (
    NAMES,
    RESNET,
    SIZES,
    built,
    moved,
    texts_by_hand,
    tokens_by_hand,
    write_checkpoint,
)
from trainers.shared.deep_prompts import CoupledPromptLearner
from trainers.shared.prompted_clip import PromptedCLIP

KEYS = {"CTX_INIT": "a photo of a", "N_CTX": 2, "PROMPT_DEPTH": 3}
FOLDER = "MultiModalPromptLearner"


@pytest.fixture(scope="module")
def state():
    return random_state(SIZES)


def coupled(state, **changes):
    model = clip.build_model(state).float().requires_grad_(False)
    torch.manual_seed(0)
    return PromptedCLIP(model, CoupledPromptLearner(model, NAMES, CfgNode(KEYS | changes)))


@pytest.mark.parametrize(("depth", "count", "rest"), [(1, 2, "of a"), (2, 5, ""), (3, 4, "")])
@torch.no_grad()
def test_visual_prompts_are_maps_of_the_textual_ones(state, depth, count, rest):
    model, images = coupled(state, PROMPT_DEPTH=depth, N_CTX=count), torch.randn(2, 3, 32, 32)
    learner = moved(model.prompt_learner)
    text = [learner.ctx, *learner.compound_prompts_text]
    maps = [learner.proj, *learner.compound_prompt_projections]
    assert len(text) == len(maps) == depth
    visual = [P @ F.weight.t() + F.bias for P, F in zip(text, maps, strict=True)]
    assert [tuple(prompt.shape) for prompt in visual] == [(count, 128)] * depth
    expected = tokens_by_hand(model.clip, images, visual)
    torch.testing.assert_close(model.image_features(images), expected[:, 0], atol=1e-5, rtol=0)
    expected = texts_by_hand(model.clip, NAMES, text[0], text[1:], rest)
    torch.testing.assert_close(model.text_features(), expected, atol=1e-5, rtol=0)


def test_deeper_maps_start_as_one_and_are_learned_apart(state):
    learner = coupled(state).prompt_learner
    one, two = learner.compound_prompt_projections
    for kind in ("weight", "bias"):
        assert torch.equal(getattr(one, kind), getattr(two, kind))
        assert not torch.equal(getattr(one, kind), getattr(learner.proj, kind))
    with torch.no_grad():
        before = two.weight.clone()
        one.weight += 1
    assert torch.equal(two.weight, before)
    assert not torch.equal(*learner.compound_prompts_text)


def test_what_is_learned_and_from_what(state):
    """An image's features move the textual prompts too; a text's do not move the maps."""
    model = coupled(state)
    learner, images = model.prompt_learner, torch.randn(2, 3, 32, 32)
    maps = {"proj", *(f"compound_prompt_projections.{i}" for i in range(2))}
    textual = {"ctx", *(f"compound_prompts_text.{i}" for i in range(2))}
    shapes = {name: (2, 64) for name in textual}
    shapes |= {f"{name}.weight": (128, 64) for name in maps} | {f"{name}.bias": (128,) for name in maps}
    assert {name: tuple(value.shape) for name, value in learner.state_dict().items()} == shapes
    assert {name for name, value in model.named_parameters() if value.requires_grad} == {
        f"prompt_learner.{name}" for name in shapes
    }
    for features, moves in ((model.image_features(images), set(shapes)), (model.text_features(), textual)):
        model.zero_grad()
        features[:, 0].sum().backward()
        assert {n for n, p in learner.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0} == moves


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"PROMPT_DEPTH": 4}, "PROMPT_DEPTH is 4.*choose 1 to 3"),  # as deep as the shallower encoder
        ({"PROMPT_DEPTH": 0}, "PROMPT_DEPTH is 0.*choose 1 to"),
        ({"CTX_INIT": "photo", "N_CTX": 2}, "'photo' has 1 tokens"),
    ],
)
def test_what_cannot_be_prompted(state, changes, says):
    with pytest.raises(clip.InputError, match=says):
        coupled(state, **changes)


def test_a_residual_network_is_refused():
    with pytest.raises(clip.InputError, match="residual network.*ViT-B/16"):
        coupled(random_state(RESNET), PROMPT_DEPTH=1)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["TRAINER.MAPLE.PROMPT_DEPTH", 5], "^TRAINER.MAPLE.PROMPT_DEPTH is 5.*choose 1 to 4"),
        (["TRAINER.MAPLE.N_CTX", 0], "N_CTX is 0: it must be at least 1"),
    ],
)
def test_bad_settings(data_root, tmp_path, options, says):
    with pytest.raises((clip.InputError, InputError), match=says):
        built(arguments(data_root, tmp_path, "MaPLe", options=options))


# --- runs -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [1, 3])
def test_a_run(data_root, tmp_path, depth):
    settings = {"options": ["OPTIM.MAX_EPOCH", 1, "TRAINER.MAPLE.PROMPT_DEPTH", depth]}
    first = built(arguments(data_root, tmp_path / "unused", "MaPLe", **settings)).model.prompt_learner.state_dict()
    assert train.main(arguments(data_root, tmp_path / "base", "MaPLe", **settings)) == 0
    saved = torch.load(tmp_path / "base" / FOLDER / "model.pth.tar-1", weights_only=True)["state_dict"]
    assert saved.keys() == first.keys()
    assert all((value - first[name]).abs().max() > 0 for name, value in saved.items())
    record = results(tmp_path / "base")
    assert record["trainable_parameters"] == depth * (2 * 128 + 128 * 128 + 128)
    settings |= {"model_dir": tmp_path / "base", "eval_only": True}
    for half in ("base", "new"):
        assert train.main(arguments(data_root, tmp_path / half / "test", "MaPLe", subsample=half, **settings)) == 0
    assert results(tmp_path / "base" / "test")["classwise"] == record["classwise"]
    assert list(results(tmp_path / "new" / "test")["classwise"]) == CLASSES[3:]


@torch.no_grad()
def test_a_published_checkpoint(data_root, tmp_path):
    """It holds the whole model; loaded, it gives the logits it was taken from, and so does ours, saved after that."""
    images, argv = torch.randn(2, 3, 64, 64), arguments(data_root, tmp_path, "MaPLe")
    source, trainer, again = built(argv), built(argv), built(argv)
    learner = moved(source.model.prompt_learner, by=0.1)
    expected = source.model(images)
    assert (trainer.model(images) - expected).abs().max() > 0.1
    theirs = {f"prompt_learner.{name}": value for name, value in learner.state_dict().items()}
    theirs |= {"prompt_learner.token_prefix": torch.zeros(5, 1, 128), "prompt_learner.token_suffix": torch.zeros(5, 74, 128)}  # fmt: skip
    theirs |= {f"image_encoder.{name}": torch.zeros_like(value) for name, value in source.model.clip.visual.state_dict().items()}  # fmt: skip
    theirs |= {"text_encoder.text_projection": torch.zeros(128, 128), "logit_scale": torch.tensor(0.0)}
    write_checkpoint(tmp_path / "theirs", FOLDER, theirs)
    trainer.load_model(str(tmp_path / "theirs"), epoch=5)
    assert torch.equal(trainer.model(images), expected)
    trainer.save_model(0, str(tmp_path / "ours"))
    again.load_model(str(tmp_path / "ours"), epoch=1)
    assert torch.equal(again.model(images), expected)
    del theirs["prompt_learner.proj.bias"]
    write_checkpoint(tmp_path / "broken", FOLDER, theirs)
    with pytest.raises(clip.InputError, match="does not fit this run.*proj.bias"):
        trainer.load_model(str(tmp_path / "broken"), epoch=5)
