"""TextRefiner (../trainers/textrefiner.py): write, read and losses again, in plain loops over tokens and entries."""

import math

import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F
from yacs.config import CfgNode

import clip
import train
from dassl.engine import build_trainer
from tests.clip_weights import SMALL, random_state
from tests.helpers import CLASSES, arguments, results
from trainers import textrefiner
from trainers.textrefiner import RefinedCLIP, RefinerLearner

NAMES = ["cat", "german_shepherd", "ice cream"]
KEYS = CfgNode(dict(N_CTX=4, CTX_INIT="a photo of a", MEMORY_SIZE=5, ALPHA=0.3, MOMENTUM=0.6))


def unit(x):
    return x / x.norm()


@pytest.fixture(scope="module")
def small():
    return clip.build_model(random_state(SMALL)).float().requires_grad_(False).eval()


@pytest.fixture
def learner(small):
    torch.manual_seed(0)
    return RefinerLearner(small, NAMES, KEYS)


def built(data_root, output, **settings):
    return build_trainer(
        train.build_config(train.parse_arguments(arguments(data_root, output, "TextRefiner", **settings)))
    )


def written(cache, tokens, momentum):
    """The cache after one write, entry by entry and token by token."""
    tokens = [unit(token) for token in tokens]
    nearest = [max(range(len(cache)), key=lambda j: (token @ cache[j]).item()) for token in tokens]
    new = []
    for j, entry in enumerate(cache):
        over_tokens = torch.softmax(torch.stack([token @ entry for token in tokens]), 0)
        mine = [i for i in range(len(tokens)) if nearest[i] == j]
        if mine:
            total = sum(over_tokens[i] / over_tokens.max() * tokens[i] for i in mine)
            entry = unit(momentum * entry + (1 - momentum) * total)
        new.append(entry)
    return torch.stack(new)


def test_write(learner):
    torch.manual_seed(1)
    learner.cache = torch.cat([F.normalize(torch.randn(4, 32), dim=-1), -F.normalize(torch.ones(1, 32), dim=-1)])
    tokens = 3 * torch.randn(20, 32) + 1  # nothing is like the last entry
    before, expected = learner.cache.clone(), written(learner.cache, tokens, 0.6)
    learner.write(tokens)
    torch.testing.assert_close(learner.cache, expected, atol=1e-6, rtol=0)
    assert torch.allclose(expected[4], before[4]) and (expected[:4] - before[:4]).abs().max() > 0.1
    assert not learner.cache.requires_grad and "cache" in dict(learner.named_buffers())


def test_read(learner):
    text = F.normalize(torch.randn(3, 32), dim=-1)
    refined = learner.refine(text)
    for t, ours in zip(text, refined, strict=True):
        share = [math.exp(t @ entry) for entry in learner.cache]
        read = sum(s / sum(share) * entry for s, entry in zip(share, learner.cache, strict=True))
        torch.testing.assert_close(ours, t + 0.3 * learner.refiner.weight @ torch.cat([t, read]), atol=1e-6, rtol=0)


def last_block_by_pytorch(visual, images):
    """Tokens (B, 1 + N, d) and the class token's attention to the patches (B, N), from PyTorch's own attention."""
    x = visual.conv1(images).flatten(2).transpose(1, 2)
    x = torch.cat([visual.class_embedding.expand(len(x), 1, -1), x], dim=1) + visual.positional_embedding
    x = visual.ln_pre(x)
    for block in visual.transformer.resblocks:
        h = block.ln_1(x)
        out, weights = nn.MultiheadAttention.forward(block.attn, *[h.transpose(0, 1)] * 3)  # weights (B, L, L)
        x = x + out.transpose(0, 1)
        x = x + block.mlp(block.ln_2(x))
    return visual.ln_post(x) @ visual.proj, weights[:, 0, 1:]


def test_tokens_are_ranked_by_attention(small, learner):
    images = torch.randn(2, 3, 32, 32)
    ours = RefinedCLIP(small, learner).ranked_tokens(images)
    tokens, attention = last_block_by_pytorch(small.visual, images)
    assert ours.shape == (2, 1 + 16, 32)
    for b in range(2):
        order = sorted(range(16), key=lambda i: -attention[b, i].item())
        expected = torch.stack([tokens[b, 0], *(tokens[b, 1 + i] for i in order)])
        torch.testing.assert_close(ours[b], expected, atol=1e-4, rtol=0)


def test_loss_and_what_it_writes(data_root, tmp_path):
    trainer = built(data_root, tmp_path, options=["TRAINER.TEXTREFINER.BALANCE", 4.0])
    trainer.set_model_mode("train")
    learner, model = trainer.model.prompt_learner, trainer.model
    trainer.is_transform_fixed = lambda: False  # these are not the training images
    torch.manual_seed(0)
    images, labels = torch.randn(3, 3, 64, 64), torch.tensor([2, 0, 1])
    cache = learner.cache.clone()
    loss, shown = trainer.compute_loss(images, labels)

    scale = model.logit_scale()
    text = model.plain_text_features()
    refined = learner.refine(text)  # tested above; the new cache must not be in it
    assert not torch.equal(cache, learner.cache)
    kept, learner.cache = learner.cache, cache
    refined = learner.refine(text)
    tokens, attention = last_block_by_pytorch(model.clip.visual, images)
    hidden = learner.project[0](tokens)
    hidden = (hidden - hidden.mean(dim=(0, 1))) / (hidden.var(dim=(0, 1), correction=0) + 1e-5).sqrt()
    norm = learner.project[1]
    local = learner.project[3]((hidden * norm.weight + norm.bias).clamp_min(0))
    globally, locally = [], []
    for b, label in enumerate(labels):
        globally.append(-(scale * refined @ unit(tokens[b, 0])).log_softmax(0)[label])
        five = attention[b].topk(5).indices
        for token in [local[b, 0], *(local[b, 1 + i] for i in five), local[b].mean(dim=0)]:
            locally.append(-(scale * text @ token).log_softmax(0)[label])
    distance = sum((unit(r) - t).abs().mean() for r, t in zip(refined, text, strict=True)) / len(text)
    parts = [sum(globally) / 3, sum(locally) / 21, distance]
    assert [shown[name] for name in ("global", "local", "distance")] == pytest.approx(
        [part.item() for part in parts], rel=1e-3
    )
    torch.testing.assert_close(loss, parts[0] + parts[1] / 4 + 20 * parts[2], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(kept, written(cache, local.flatten(0, 1).detach(), 0.8), atol=1e-3, rtol=0)


def test_what_is_learned_and_saved(small, learner):
    linear = {"weight": (32, 32), "bias": (32,)}
    expected = {"ctx": (4, 128), "cache": (5, 32), "refiner.weight": (32, 64)}
    expected |= {f"project.{i}.{kind}": linear[kind] for i in (0, 3) for kind in linear}
    expected |= {"project.1.weight": (32,), "project.1.bias": (32,)}
    assert {name: tuple(value.shape) for name, value in learner.state_dict().items()} == expected
    assert {name for name, _ in learner.named_parameters()} == expected.keys() - {"cache"}


@pytest.fixture(scope="module")
def trained(data_root, tmp_path_factory):
    output = tmp_path_factory.mktemp("textrefiner")
    assert train.main(arguments(data_root, output, "TextRefiner")) == 0
    return output


def test_the_cache_survives(data_root, trained, tmp_path):
    trainer = built(data_root, tmp_path, seed=7)
    first = trainer.model.prompt_learner.cache.clone()
    trainer.load_model(str(trained), epoch=3)
    cache = trainer.model.prompt_learner.cache
    saved = torch.load(trained / "prompt_learner" / "model.pth.tar-3", weights_only=False)["state_dict"]["cache"]
    assert torch.equal(cache, saved) and not torch.allclose(cache, first)
    assert trainer.test() == results(trained)["accuracy"]
    text = trainer.model.text_features()
    trainer.model.prompt_learner.cache = first
    assert not torch.allclose(trainer.model.text_features(), text)  # it is read at test


@pytest.mark.parametrize("subsample", ["base", "new"])
def test_tests_on_base_and_new(data_root, trained, tmp_path, subsample):
    line = arguments(data_root, tmp_path, "TextRefiner", subsample=subsample, model_dir=trained, eval_only=True)
    assert train.main(line) == 0
    record = results(tmp_path)
    assert list(record["classwise"]) == (CLASSES[:3] if subsample == "base" else CLASSES[3:])
    assert subsample == "new" or record["accuracy"] == results(trained)["accuracy"]


def test_remembered_tokens_are_those_of_each_batch(data_root, trained, tmp_path, monkeypatch):
    """Without room to remember them the same run learns the same."""
    monkeypatch.setattr(textrefiner, "REMEMBERED", 0)
    assert train.main(arguments(data_root, tmp_path, "TextRefiner")) == 0
    ours, theirs = (
        torch.load(root / "prompt_learner" / "model.pth.tar-3", weights_only=False)["state_dict"]
        for root in (trained, tmp_path)
    )
    for name, value in ours.items():
        torch.testing.assert_close(value, theirs[name], atol=1e-4, rtol=0, msg=name)


@pytest.mark.parametrize("key, value", [("MEMORY_SIZE", 0), ("MOMENTUM", 1.5), ("BALANCE", 0.0)])
def test_bad_keys(data_root, tmp_path, capsys, key, value):
    options = [f"TRAINER.TEXTREFINER.{key}", value]
    assert train.main(arguments(data_root, tmp_path, "TextRefiner", options=options)) == 2
    assert f"TRAINER.TEXTREFINER.{key} is {value}" in capsys.readouterr().err
