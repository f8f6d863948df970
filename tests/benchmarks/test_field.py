"""The field's usual evaluation and loader, re-created: they give what ours give."""

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.field import FieldDataset, FieldEvaluation, UnfusedAttention
from benchmarks.fps.predictors import build_clip, class_names, config
from clip.model import CLIP
from dassl.data.datasets import Datum
from trainers.shared.clip_trainer import PromptedCLIP
from trainers.shared.prompts import ContextLearner

BACKBONE = "ViT-Embedded/8"
NAMES = class_names()[:7]


@pytest.fixture(scope="module")
def model() -> CLIP:
    return build_clip(BACKBONE, "fp32", torch.device("cpu"))


@torch.no_grad()
def test_the_fields_evaluation_gives_coops_logits(model):
    images = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    learner = ContextLearner(model, NAMES, config(BACKBONE, 1.0).TRAINER.COOP)
    field = FieldEvaluation(model, learner)
    torch.testing.assert_close(field(images), PromptedCLIP(model, learner)(images), rtol=1e-4, atol=1e-4)
    assert all(a is b for a, b in zip(field.clip.parameters(), model.parameters(), strict=True))
    assert not any(isinstance(module, UnfusedAttention) for module in model.modules())


def test_every_attention_of_the_twin_is_unfused(model):
    field = FieldEvaluation(model, learner=None)
    for encoder in (field.clip.visual.transformer, field.clip.transformer):
        assert all(isinstance(block.attn, UnfusedAttention) for block in encoder.resblocks)


def test_the_fields_loader_opens_an_image_each_time(tmp_path):
    path = tmp_path / "one.png"
    Image.new("L", (4, 3), 7).save(path)
    dataset = FieldDataset([Datum(str(path), label=2, domain=1)], np.asarray)
    assert len(dataset) == 1
    assert (dataset[0]["img"] == 7).all() and dataset[0]["img"].shape == (3, 4, 3)
    Image.new("RGB", (4, 3), (9, 9, 9)).save(path)
    batch = dataset[0]
    assert (batch.pop("img") == 9).all()
    assert batch == {"label": 2, "domain": 1, "impath": str(path), "index": 0}
