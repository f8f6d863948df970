"""CoOp's names over our parts (../../../trainers/shared/published_names.py, ../../../trainers/imagenet_templates.py)."""

import pytest
import torch
import torch.nn.functional as F
from yacs.config import CfgNode

import clip
from dassl.config import get_cfg_default
from trainers.cocoop import load_clip_to_cpu as of_cocoop
from trainers.coop import CoOp, CustomCLIP, PromptLearner, TextEncoder, load_clip_to_cpu
from trainers.imagenet_templates import IMAGENET_TEMPLATES, IMAGENET_TEMPLATES_SELECT
from trainers.kgcoop import load_clip_to_cpu as of_kgcoop
from trainers.shared.prompted_clip import PromptedCLIP
from trainers.shared.prompts import POSITIONS, ContextLearner
from trainers.textrefiner import load_clip_to_cpu as of_textrefiner

NAMES = ["yin_yang", "car side", "dog"]


@pytest.fixture(scope="module")
def plain():
    return load_clip_to_cpu(config()).float()


def config(**keys):
    cfg = get_cfg_default()
    CoOp.extend_cfg(cfg)
    cfg.MODEL.BACKBONE.NAME = "ViT-Embedded/8"
    for key, value in keys.items():
        cfg.TRAINER.COOP[key] = value
    return cfg


def test_a_clip_in_fp16(plain):
    assert of_cocoop is of_kgcoop is of_textrefiner is load_clip_to_cpu
    model = load_clip_to_cpu(config(), "whatever a fork passes", zero_shot_model=True)
    assert model.dtype == torch.float16 and not model.training and type(model) is clip.model.CLIP
    bare = CfgNode({"MODEL": {"BACKBONE": {"NAME": "ViT-Embedded/8"}}})  # upstream's configs know no ACT
    assert torch.equal(load_clip_to_cpu(bare).text_projection, model.text_projection)


@torch.no_grad()
def test_the_text_encoder_is_clips(plain):
    tokens = clip.tokenize([f"a photo of a {name}." for name in NAMES])
    embedded = plain.token_embedding(tokens)
    encoder = TextEncoder(plain)
    torch.testing.assert_close(encoder(embedded, tokens), plain.encode_text(tokens), atol=1e-5, rtol=1e-5)
    length = int(tokens.argmax(dim=-1).max()) + 1
    torch.testing.assert_close(encoder(embedded[:, :length], tokens), encoder(embedded, tokens), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("position", POSITIONS)
def test_the_logits_and_gradients_are_coops(plain, position, own):
    cfg = config(N_CTX=3, CSC=own, CLASS_TOKEN_POSITION=position)
    theirs = CustomCLIP(cfg, NAMES, plain)
    learner = ContextLearner(plain, NAMES, cfg.TRAINER.COOP)
    learner.load_state_dict(theirs.prompt_learner.state_dict())
    ours, images, labels = PromptedCLIP(plain, learner), torch.randn(4, 3, 64, 64), torch.tensor([0, 1, 2, 0])
    torch.testing.assert_close(theirs(images), ours(images), atol=1e-4, rtol=1e-4)
    F.cross_entropy(theirs(images), labels).backward()
    F.cross_entropy(ours(images), labels).backward()
    torch.testing.assert_close(theirs.prompt_learner.ctx.grad, learner.ctx.grad, atol=1e-5, rtol=1e-3)


def test_the_learner_has_coops_attributes(plain):
    learner = PromptLearner(config(CTX_INIT="a photo of a"), NAMES, plain)
    prompts, tokens = learner(), clip.tokenize([f"a photo of a {name.replace('_', ' ')}." for name in NAMES])
    assert (learner.n_cls, learner.n_ctx, learner.class_token_position) == (3, 4, "end")
    assert learner.name_lens == [2, 2, 1] and list(learner.state_dict()) == ["ctx"]
    torch.testing.assert_close(prompts, plain.token_embedding(tokens))  # of CLIP's own words, padding too
    assert torch.equal(
        torch.cat([learner.token_prefix, learner.ctx.expand(3, -1, -1), learner.token_suffix], 1), prompts
    )
    assert learner.tokenized_prompts.shape == (3, 77) and torch.equal(
        learner.tokenized_prompts.argmax(1), tokens.argmax(1)
    )


def test_imagenets_templates():
    assert (len(IMAGENET_TEMPLATES), len(IMAGENET_TEMPLATES_SELECT)) == (80, 7)
    assert {*IMAGENET_TEMPLATES_SELECT} < {*IMAGENET_TEMPLATES} and IMAGENET_TEMPLATES[0].format(
        "cat"
    ) == "a bad photo of a cat."
    with pytest.raises(ImportError, match="IMAGENET_TEMPLATES_ALL"):
        from trainers.imagenet_templates import IMAGENET_TEMPLATES_ALL  # noqa: F401
