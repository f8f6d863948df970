"""CLIP-LoRA (../trainers/clip_lora.py): its matrices are those of changed projections, of CLIP beside it nothing is changed."""

import copy

import pytest
import torch
import torch.nn.functional as F
from yacs.config import CfgNode

import clip
from tests.clip_weights import SMALL, random_state
from trainers.clip_lora import LoRALearner
from trainers.shared.prompted_clip import PromptedCLIP

NAMES, TEMPLATE = ["cat", "german_shepherd", "ice cream"], "a photo of a {}."


def built(dropout=0.25, rank=2, alpha=1.0):
    torch.manual_seed(0)
    model = clip.build_model(random_state(SMALL)).float().requires_grad_(False).eval()
    keys = CfgNode({"R": rank, "ALPHA": alpha, "DROPOUT": dropout})
    return PromptedCLIP(model, LoRALearner(model, NAMES, TEMPLATE, keys))


def moved(model):
    with torch.no_grad():
        for part in model.prompt_learner.lora.values():
            part.B.copy_(0.3 * torch.randn_like(part.B))
    return model


def texts(model):
    tokens = torch.cat([clip.tokenize(TEMPLATE.format(name.replace("_", " "))) for name in NAMES])
    return F.normalize(model.encode_text(tokens), dim=-1)


@pytest.mark.parametrize("rank, alpha", [(2, 1.0), (4, 3.0)])
def test_at_test_it_is_a_clip_with_other_projections(rank, alpha):
    """W + alpha / sqrt(r) B A, for queries, keys and values of every block; zero at first."""
    model = built(rank=rank, alpha=alpha).eval()
    images, plain = torch.randn(2, 3, 32, 32), copy.deepcopy(model.clip)
    first = F.normalize(plain.encode_image(images), dim=-1), texts(plain)
    torch.testing.assert_close(model.image_features(images), first[0])
    moved(model)
    for name, tower in (("text", plain.transformer), ("visual", plain.visual.transformer)):
        part = model.prompt_learner.lora[name]
        for i, block in enumerate(tower.resblocks):
            for j, own in enumerate(block.attn.in_proj_weight.chunk(3)):
                own += alpha / rank**0.5 * part.B[i, j].detach() @ part.A[i, j].detach()
    f, t = F.normalize(plain.encode_image(images), dim=-1), texts(plain)
    torch.testing.assert_close(model.image_features(images), f, atol=1e-5, rtol=0)
    torch.testing.assert_close(model.image_features(images, tokens=True)[0], f, atol=1e-5, rtol=0)
    torch.testing.assert_close(model.text_features(), t, atol=1e-5, rtol=0)
    assert (f - first[0]).abs().max() > 1e-2 and (t - first[1]).abs().max() > 1e-2
    torch.testing.assert_close(model.zero_shot_text(NAMES, TEMPLATE), first[1], atol=1e-6, rtol=0)  # CLIP as it was


def test_dropout_is_of_what_enters_the_matrices_each_for_itself():
    part = moved(built(dropout=0.5)).prompt_learner.lora["visual"].train()
    x = torch.randn(2, 5, part.A.shape[-1])
    torch.manual_seed(3)
    added = part.project(x, 1).chunk(3, dim=-1)
    torch.manual_seed(3)
    kept = F.dropout(torch.ones(3, *x.shape), 0.5)
    assert not torch.equal(kept[0], kept[1])
    for j in range(3):
        expected = part.scale * (kept[j] * x) @ part.A[1, j].t() @ part.B[1, j].t()
        torch.testing.assert_close(added[j], expected, atol=1e-5, rtol=1e-4)


def test_texts_in_parts_have_the_gradient_of_one_and_the_same_dropout():
    """Backward encodes a part again, and must drop what was dropped."""
    model = moved(built()).train()
    model.clip.text_memory = 1  # each prompt by itself
    learner = model.prompt_learner
    weights = torch.randn(3, model.clip.text_projection.shape[1])

    def loss():
        torch.manual_seed(5)
        return (model.text_features() * weights).sum()

    loss().backward()
    part, gradient = learner.lora["text"], learner.lora["text"].B.grad
    direction = torch.randn_like(part.B)
    with torch.no_grad():
        part.B += 1e-3 * direction
        up = loss()
        part.B -= 2e-3 * direction
        down = loss()
    assert ((up - down) / 2e-3).item() == pytest.approx((gradient * direction).sum().item(), rel=0.02)


def test_what_learns_is_saved_and_nothing_else():
    model = moved(built()).train()
    shapes = {name: tuple(value.shape) for name, value in model.prompt_learner.state_dict().items()}
    text, visual = model.clip.transformer, model.clip.visual.transformer
    assert shapes == {
        "lora.text.A": (text.layers, 3, 2, text.width), "lora.text.B": (text.layers, 3, text.width, 2),
        "lora.visual.A": (visual.layers, 3, 2, visual.width), "lora.visual.B": (visual.layers, 3, visual.width, 2),
    }  # fmt: skip
    model(torch.randn(2, 3, 32, 32)).square().sum().backward()
    learned = {name for name, value in model.named_parameters() if value.grad is not None}
    assert learned == {f"prompt_learner.{name}" for name in shapes}
    assert all(value.grad.abs().sum() > 0 for value in model.prompt_learner.parameters())
