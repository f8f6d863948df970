"""Prompts in both encoders (../../../trainers/shared/deep_prompts.py) against plain loops over CLIP's blocks."""

import pytest
import torch
import torch.nn.functional as F
from yacs.config import CfgNode

import clip
from tests.clip_weights import random_state
from tests.trainers.by_hand import (
    NAMES,
    RESNET,
    SIZES,
    as_published,
    encode_words,
    moved,
    texts_by_hand,
    tokens_by_hand,
)
from trainers.shared.deep_prompts import DeepPromptLearner, VisualPromptLearner, design_details, from_published
from trainers.shared.prompted_clip import PromptedCLIP

KEYS = {"CTX_INIT": "a photo of a", "N_CTX_TEXT": 2, "N_CTX_VISION": 3, "PROMPT_DEPTH_TEXT": 3, "PROMPT_DEPTH_VISION": 3}  # fmt: skip


@pytest.fixture(scope="module")
def state():
    return random_state(SIZES)


def prompted(state, seed=0, kind=DeepPromptLearner, **changes):
    keys = CfgNode(KEYS | changes)
    torch.manual_seed(seed)
    model = clip.build_model(state, design_details(keys)).float().requires_grad_(False)
    names = [NAMES] if kind is DeepPromptLearner else []
    return PromptedCLIP(model, kind(model, *names, keys))


@pytest.mark.parametrize("depth", [0, 1, 3, 4])
@torch.no_grad()
def test_image_features(state, depth):
    """Beyond the depth, blocks keep what the prompts have become; the patches that are returned are not prompts."""
    model, images = prompted(state, PROMPT_DEPTH_VISION=depth), torch.randn(2, 3, 32, 32)
    moved(model.prompt_learner)
    prompts = list(model.prompt_learner.visual)
    assert [tuple(prompt.shape) for prompt in prompts] == [(3, 128)] * depth
    assert model.prompt_learner.frozen_images is (depth == 0)
    expected = tokens_by_hand(model.clip, images, prompts)
    f, patches = model.image_features(images, tokens=True)
    torch.testing.assert_close(torch.cat([f[:, None], patches], dim=1), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(model.image_features(images), expected[:, 0], atol=1e-5, rtol=0)
    if depth:
        assert (expected - tokens_by_hand(model.clip, images, prompts[:-1])).abs().max() > 1e-2


@pytest.mark.parametrize(
    ("count", "words", "depth", "rest"),
    [
        (2, "a photo of a", 3, "of a"),  # the words that nothing takes the place of stay
        (4, "a photo of a", 1, ""),
        (5, "a photo of a", 2, ""),
        (3, "", 3, ""),
    ],
)
@torch.no_grad()
def test_text_features(state, count, words, depth, rest):
    model = prompted(state, N_CTX_TEXT=count, CTX_INIT=words, PROMPT_DEPTH_TEXT=depth)
    learner = moved(model.prompt_learner)
    assert [tuple(prompt.shape) for prompt in learner.text] == [(count, 64)] * (depth - 1)
    expected = texts_by_hand(model.clip, NAMES, learner.ctx, list(learner.text), rest)
    torch.testing.assert_close(model.text_features(), expected, atol=1e-5, rtol=0)
    if depth > 1:
        fewer = texts_by_hand(model.clip, NAMES, learner.ctx, list(learner.text)[:-1], rest)
        assert (expected - fewer).abs().max() > 1e-2


def test_first_values(state):
    """Words where there are words, for at most four tokens; else at random, and so for each seed anew."""
    embedding = state["token_embedding.weight"]
    photo = embedding[encode_words("a photo of a")]
    assert torch.equal(prompted(state).prompt_learner.ctx, photo[:2])
    drawn = {"CTX_INIT": "a photo of a very", "N_CTX_TEXT": 5}
    one, same, other = (prompted(state, seed, **drawn).prompt_learner for seed in (0, 0, 1))
    for name, value in one.state_dict().items():
        assert torch.equal(value, same.state_dict()[name]) and not torch.equal(value, other.state_dict()[name])
        assert value.std().item() == pytest.approx(0.02, rel=0.2) and abs(value.mean()) < 0.004
    assert len({value.sum().item() for value in one.parameters()}) == 6  # each prompt is drawn by itself


@pytest.mark.parametrize("changes", [{}, {"PROMPT_DEPTH_VISION": 0}, {"PROMPT_DEPTH_TEXT": 1}])
def test_what_is_learned(state, changes):
    model = prompted(state, **changes)
    keys = KEYS | changes
    expected = {"ctx"} | {f"text.{i}" for i in range(keys["PROMPT_DEPTH_TEXT"] - 1)}
    expected |= {f"visual.{i}" for i in range(keys["PROMPT_DEPTH_VISION"])}
    assert set(model.prompt_learner.state_dict()) == expected
    assert {n for n, p in model.named_parameters() if p.requires_grad} == {f"prompt_learner.{n}" for n in expected}
    (model.image_features(torch.randn(2, 3, 32, 32)) @ model.text_features().t()).sum().backward()
    assert all(value.grad.abs().sum() > 0 for value in model.prompt_learner.parameters())
    assert not any("VPT" in name for name in model.state_dict())  # CLIP has no prompts of its own any more


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"N_CTX_VISION": -1}, "N_CTX_VISION is -1 with PROMPT_DEPTH_VISION 3"),
        ({"N_CTX_VISION": -1, "PROMPT_DEPTH_VISION": 0}, "N_CTX_VISION is -1"),
        ({"N_CTX_VISION": 0}, "N_CTX_VISION is 0"),
        ({"N_CTX_TEXT": 0}, "N_CTX_TEXT is 0 with PROMPT_DEPTH_TEXT 3"),
        ({"PROMPT_DEPTH_VISION": 5}, "PROMPT_DEPTH_VISION is 5.*choose 0 to 4"),
        ({"PROMPT_DEPTH_VISION": -1}, "PROMPT_DEPTH_VISION is -1.*choose 0 to 4"),
        ({"PROMPT_DEPTH_TEXT": 4}, "PROMPT_DEPTH_TEXT is 4.*choose 1 to 3"),
        ({"PROMPT_DEPTH_TEXT": 0}, "PROMPT_DEPTH_TEXT is 0.*choose 1 to 3"),
        ({"CTX_INIT": "a", "N_CTX_TEXT": 2}, "CTX_INIT 'a' has 1 tokens, fewer than the 2"),
        ({"kind": VisualPromptLearner, "PROMPT_DEPTH_VISION": 0}, "PROMPT_DEPTH_VISION is 0.*choose 1 to 4"),
    ],
)
def test_what_cannot_be_prompted(state, changes, says):
    with pytest.raises(clip.InputError, match=says) as error:
        prompted(state, **changes)
    assert "\n" not in str(error.value)


def test_a_residual_network_has_text_prompts_only():
    state = random_state(RESNET)
    for depth in (1, 3):
        with pytest.raises(clip.InputError, match=f"PROMPT_DEPTH_VISION is {depth}.*residual network.*ViT-B/16"):
            prompted(state, PROMPT_DEPTH_VISION=depth, PROMPT_DEPTH_TEXT=2)
    model = prompted(state, PROMPT_DEPTH_VISION=0, PROMPT_DEPTH_TEXT=2)
    assert set(model.prompt_learner.state_dict()) == {"ctx", "text.0"}
    assert torch.equal(model.image_features(images := torch.randn(1, 3, 32, 32)), F.normalize(model.clip.encode_image(images), dim=-1))  # fmt: skip


def test_names_of_published_checkpoints(state):
    model = prompted(state)
    theirs, ours = as_published(model), model.prompt_learner.state_dict()
    learned = from_published(theirs)
    assert learned.keys() == ours.keys() and from_published(ours) is ours
    assert learned["visual.0"] is theirs["image_encoder.VPT"]
    assert learned["visual.2"] is theirs["image_encoder.transformer.resblocks.2.VPT_shallow"]
    assert learned["text.1"] is theirs["text_encoder.transformer.resblocks.2.VPT_shallow"]
