"""CLIP-Adapter (../../../trainers/adapters/clip_adapter.py) against the authors' mixture of features that are no unit rows."""

import pytest
import torch
import torch.nn.functional as F

import clip
import train
from dassl.engine import build_trainer
from tests.helpers import CLASSES, arguments, results


def built(data_root, tmp_path, *options):
    line = arguments(data_root, tmp_path, "CLIPAdapter", options=options)
    return build_trainer(train.build_config(train.parse_arguments(line)))


def test_the_mixture(data_root, tmp_path):
    """unit(0.3 A(x) + 0.7 x) of the encoder's own x, and nothing of it where RATIO is 0; patch tokens pass it too."""
    trainer = built(data_root, tmp_path, "TRAINER.CLIPADAPTER.RATIO", 0.3, "TRAINER.CLIPADAPTER.REDUCTION", 2)
    images, model = torch.randn(3, 3, 64, 64), trainer.model
    down, up = model.prompt_learner.fc[0].weight, model.prompt_learner.fc[2].weight
    width = model.clip.visual.output_dim
    assert down.shape == (width // 2, width) and up.shape == (width, width // 2)
    for x, ours in zip(
        model.clip.encode_image(images, tokens=True), model.image_features(images, tokens=True), strict=True
    ):
        assert (x.norm(dim=-1) - 1).abs().max() > 0.1
        by_hand = 0.3 * (x @ down.t()).relu() @ up.t()
        assert (by_hand < 0).any()  # so that the second relu counts
        expected = F.normalize(by_hand.relu() + 0.7 * x, dim=-1)
        torch.testing.assert_close(ours, expected, atol=1e-6, rtol=1e-5)
    plain = built(data_root, tmp_path, "TRAINER.CLIPADAPTER.RATIO", 0.0).model
    torch.testing.assert_close(plain.image_features(images), F.normalize(plain.clip.encode_image(images), dim=-1))


def test_the_loss_and_what_learns(data_root, tmp_path):
    """Of images as of what is remembered of them, and only the two layers get a gradient."""
    trainer = built(data_root, tmp_path)
    batch = next(iter(trainer.train_loader_x))
    images, labels = trainer.parse_batch_train(batch)
    trainer.batch_index = batch["index"]
    loss, _ = trainer.compute_loss(images, labels)
    text = trainer.model.zero_shot_text(CLASSES[:3], "a photo of a {}.")
    logits = trainer.model.logit_scale() * trainer.model.image_features(images) @ text.t()
    torch.testing.assert_close(loss, F.cross_entropy(logits, labels))
    loss.backward()
    assert all(p.grad.abs().sum() > 0 for p in trainer.model.prompt_learner.parameters())
    learned = {id(p) for p in trainer.model.prompt_learner.parameters()}
    assert len(learned) == 2 and all(p.requires_grad == (id(p) in learned) for p in trainer.model.parameters())
    assert trainer.takes_features_alone()  # so that each image is encoded once, and never decoded again
    assert not trainer.remembered["image"].requires_grad


def test_features_are_kept_as_frozen_clips(data_root, tmp_path, monkeypatch):
    """A second run takes all from the store and encodes nothing, also once it has learned something."""
    assert train.main(arguments(data_root, tmp_path / "without", "CLIPAdapter")) == 0
    kept = ["FEATURES.DIR", tmp_path / "features"]
    assert train.main(arguments(data_root, tmp_path / "first", "CLIPAdapter", options=kept)) == 0
    monkeypatch.delattr(clip.model.CLIP, "encode_image")
    assert train.main(arguments(data_root, tmp_path / "second", "CLIPAdapter", options=kept)) == 0
    for run in ("first", "second"):
        assert results(tmp_path / run)["classwise"] == results(tmp_path / "without")["classwise"]


def test_trains_on_base_and_tests_on_new(data_root, tmp_path):
    assert train.main(arguments(data_root, tmp_path / "base", "CLIPAdapter")) == 0
    record = results(tmp_path / "base")
    assert record["trainable_parameters"] == 2 * 128 * 32
    output = tmp_path / "new"
    line = arguments(data_root, output, "CLIPAdapter", subsample="new", model_dir=tmp_path / "base", eval_only=True)
    assert train.main(line) == 0 and list(results(output)["classwise"]) == CLASSES[3:]


@pytest.mark.parametrize(("key", "value"), [("RATIO", 1.5), ("REDUCTION", 0), ("REDUCTION", 129)])
def test_bad_values(data_root, tmp_path, capsys, key, value):
    assert train.main(arguments(data_root, tmp_path, "CLIPAdapter", options=[f"TRAINER.CLIPADAPTER.{key}", value])) == 2
    assert f"TRAINER.CLIPADAPTER.{key} is {value}" in capsys.readouterr().err
