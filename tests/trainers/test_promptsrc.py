"""PromptSRC (../trainers/promptsrc.py): its loss and its averages by hand, and what of frozen CLIP is computed once."""

import math

import pytest
import torch
import torch.nn.functional as F

import clip
import train
from dassl.engine import TrainerX
from tests.helpers import CLASSES, arguments, results
from tests.trainers.by_hand import (
    as_published,
    built,
    moved,
    texts_by_hand,
    tokens_by_hand,
    write_checkpoint,
)
from trainers.promptsrc import PromptSRC, epoch_weights, templates
from trainers.shared.clip_trainer import ClipTrainer
from trainers.shared.prompted_clip import load_clip
from trainers.shared.prompts import imagenet_templates

SHAPES = {"ctx": (4, 128), **{f"text.{i}": (4, 128) for i in range(2)}, **{f"visual.{i}": (4, 128) for i in range(3)}}


def line(root, output, *options, **flags):
    """Three epochs of three batches, of which the second counts most."""
    options = ["TRAIN.CHECKPOINT_FREQ", 1, "TRAINER.PROMPTSRC.GPA_MEAN", 1.8, *options]
    return arguments(root, output, "PromptSRC", options=options, **flags)


def saved(output, epoch):
    return torch.load(output / f"VLPromptLearner/model.pth.tar-{epoch}", weights_only=True)["state_dict"]


def values(trainer):
    """What is learned, as it is now."""
    return {name: value.detach().clone() for name, value in trainer.model.prompt_learner.named_parameters()}


# --- the loss ---------------------------------------------------------------------------------------------------


def test_templates():
    """As published: the plain prompt, then CLIP's others in their order."""
    chosen, others = templates(), [one for one in imagenet_templates() if one != "a photo of a {}."]
    assert len(chosen) == len(set(chosen)) == 60
    assert chosen[:3] == ["a photo of a {}.", "a bad photo of a {}.", "a photo of many {}."]
    assert chosen[1:] == others[:59]


def frozen_texts(names):
    """Frozen CLIP's: the mean of the templates' features as they leave the encoder, then unit."""
    plain = load_clip("ViT-Embedded/8", "fp32", torch.device("cpu"))
    rows = []
    for name in names:
        features = plain.encode_text(clip.tokenize([one.format(name) for one in templates()]))
        rows.append(features.mean(dim=0) / features.mean(dim=0).norm())
    return torch.stack(rows)


def test_the_loss_of_a_batch(data_root, tmp_path):
    weights = ["TRAINER.PROMPTSRC.TEXT_LOSS_WEIGHT", 3.0, "TRAINER.PROMPTSRC.IMAGE_LOSS_WEIGHT", 7.0]
    trainer = built(line(data_root, tmp_path, *weights))
    trainer.set_model_mode("train")
    learner, names = moved(trainer.model.prompt_learner), trainer.dm.dataset.classnames
    items = trainer.train_loader_x.dataset
    trainer.batch_index = torch.tensor([10, 1, 6, 4])
    images = torch.stack([items[i]["img"] for i in trainer.batch_index.tolist()])
    labels = torch.tensor([2, 0, 1, 1])

    plain = load_clip("ViT-Embedded/8", "fp32", torch.device("cpu"))
    with torch.no_grad():
        f = tokens_by_hand(plain, images, list(learner.visual))[:, 0]
        t = texts_by_hand(plain, names, learner.ctx, list(learner.text))
        f0, t0 = tokens_by_hand(plain, images, [])[:, 0], frozen_texts(names)
        scale = plain.logit_scale.exp()
    cross_entropy = divergence = 0.0
    for b, label in enumerate(labels):
        log_p, log_p0 = (scale * f[b] @ t.t()).log_softmax(0), (scale * f0[b] @ t0.t()).log_softmax(0)
        cross_entropy -= log_p[label] / 4
        divergence += (log_p0.exp() * (log_p0 - log_p)).sum() / (4 * 3)  # over images and, as published, classes
    text, image = (t - t0).abs().sum() / (3 * 128), (f - f0).abs().sum() / (4 * 128)

    loss, shown = trainer.compute_loss(images, labels)
    parts = [3 * text.item(), 7 * image.item(), divergence.item()]
    assert [shown[f"loss_{name}"] for name in ("text", "image", "logits")] == pytest.approx(parts, rel=1e-3)
    torch.testing.assert_close(loss.detach(), cross_entropy + sum(parts), rtol=1e-4, atol=1e-5)
    assert min(parts) > 1e-2
    loss.backward()
    assert all(value.grad.abs().sum() > 0 for value in learner.parameters())
    assert not trainer.frozen_text.requires_grad


@pytest.mark.parametrize("chance", [False, True])
def test_what_is_frozen_is_computed_once(data_root, tmp_path, monkeypatch, chance):
    """The templates' texts in the first step, and each training image, unless chance changes the images."""
    texts, images, encode = [], {True: 0, False: 0}, (clip.model.CLIP.encode_prompts, clip.model.CLIP.encode_image)

    def encode_image(self, x, edits=(), tokens=False):
        images[len(edits) > 0] += len(x)
        return encode[1](self, x, edits, tokens)

    monkeypatch.setattr(clip.model.CLIP, "encode_image", encode_image)
    monkeypatch.setattr(clip.model.CLIP, "encode_prompts", lambda self, x, *rest: texts.append(len(x)) or encode[0](self, x, *rest))  # fmt: skip
    transforms = ["INPUT.TRANSFORMS", ["random_flip", "normalize"]] if chance else []
    assert train.main(line(data_root, tmp_path, "OPTIM.MAX_EPOCH", 2, *transforms)) == 0
    assert texts == [3] * (60 + 2 * 3 + 1)
    assert images == {False: 24 if chance else 12, True: 2 * 12 + 12}


# --- the average over epochs ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("epochs", "mean", "std"), [(3, 1.8, 1.0), (20, 15, 1.0), (1, 9, 2.0), (4, 2.5, 30.0)])
def test_epoch_weights(epochs, mean, std):
    bell = [math.exp(-((epoch - mean) ** 2) / (2 * std**2)) for epoch in range(1, epochs + 1)]
    assert epoch_weights(epochs, mean, std).tolist() == pytest.approx([one / sum(bell) for one in bell], rel=1e-9)


def test_epoch_weights_too_small_for_a_number():
    assert epoch_weights(3, 1000, 0.1).tolist() == [0, 0, 1]


@pytest.fixture(scope="module")
def whole(data_root, tmp_path_factory):
    """A finished run's folder, the prompts after each of its epochs, and those that were tested."""
    output, epochs, tested, run_epoch = tmp_path_factory.mktemp("promptsrc"), [], [], TrainerX.run_epoch
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainerX, "run_epoch", lambda self: run_epoch(self) or epochs.append(values(self)))
        patch.setattr(PromptSRC, "test", lambda self, split=None: tested.append(values(self)) or ClipTrainer.test(self))
        assert train.main(line(data_root, output)) == 0
    return output, epochs, tested


def test_the_average_is_what_is_tested_and_saved(whole):
    output, epochs, (tested,) = whole
    bell = [math.exp(-((epoch - 1.8) ** 2) / 2) for epoch in (1, 2, 3)]
    last = saved(output, 3)
    assert {name: tuple(value.shape) for name, value in tested.items()} == SHAPES
    assert last.keys() == {*SHAPES, "aggregate"}  # which a run needs to go on
    for name, value in tested.items():
        expected = sum(w / sum(bell) * one[name] for w, one in zip(bell, epochs, strict=True))
        torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-7)
        assert torch.equal(last[name], value) and (value - epochs[2][name]).abs().max() > 1e-6
        for epoch in (1, 2):  # until then training goes on from where it is
            assert torch.equal(saved(output, epoch)[name], epochs[epoch - 1][name])
    assert results(output)["trainable_parameters"] == 6 * 4 * 128 == last["aggregate"].numel()


@pytest.mark.parametrize("stop", [1, 2])
def test_a_resumed_run_has_the_same_average(whole, data_root, tmp_path, monkeypatch, stop):
    def broken_off(self):
        if self.epoch == stop:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(TrainerX, "before_epoch", broken_off)
        assert train.main(line(data_root, tmp_path)) == 130
    assert train.main(line(data_root, tmp_path, resume=tmp_path)) == 0
    last = saved(tmp_path, 3)
    assert all(torch.equal(value, last[name]) for name, value in saved(whole[0], 3).items())


def test_evaluation(whole, data_root, tmp_path):
    for half in ("base", "new"):
        argv = line(data_root, tmp_path / half, subsample=half, model_dir=whole[0], eval_only=True)
        assert train.main(argv) == 0
    assert results(tmp_path / "base")["classwise"] == results(whole[0])["classwise"]
    assert list(results(tmp_path / "new")["classwise"]) == CLASSES[3:]


@torch.no_grad()
def test_a_published_checkpoint(data_root, tmp_path):
    """It has no running average; ours, saved after loading it, has, and gives the same logits."""
    images, argv = torch.randn(2, 3, 64, 64), line(data_root, tmp_path)
    source, trainer, again = built(argv), built(argv), built(argv)
    moved(source.model.prompt_learner)
    expected = source.model(images)
    assert (trainer.model(images) - expected).abs().max() > 0.1
    write_checkpoint(tmp_path / "theirs", "VLPromptLearner", as_published(source.model))
    trainer.load_model(str(tmp_path / "theirs"), epoch=5)
    assert torch.equal(trainer.model(images), expected)
    trainer.model.prompt_learner.aggregate.fill_(3.0)
    trainer.save_model(0, str(tmp_path / "ours"))
    again.load_model(str(tmp_path / "ours"), epoch=1)
    assert torch.equal(again.model(images), expected)
    assert (again.model.prompt_learner.aggregate == 3).all()


@torch.no_grad()
def test_frozen_features_are_those_of_a_clip_without_prompts(data_root, tmp_path):
    trainer, images = built(line(data_root, tmp_path)), torch.randn(2, 3, 64, 64)
    plain = load_clip("ViT-Embedded/8", "fp32", torch.device("cpu"))
    expected = F.normalize(plain.encode_image(images), dim=-1)
    torch.testing.assert_close(trainer.frozen.image_features(images), expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(trainer.frozen_text, frozen_texts(CLASSES[:3]), atol=1e-6, rtol=0)


@pytest.mark.parametrize("std", [0.0, -1.0])
def test_a_width_that_is_none(data_root, tmp_path, capsys, std):
    assert train.main(line(data_root, tmp_path, "TRAINER.PROMPTSRC.GPA_STD", std)) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said == f"error: The config key TRAINER.PROMPTSRC.GPA_STD is {std}: it must be above 0."
