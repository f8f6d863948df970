"""KgCoOp (../trainers/kgcoop.py): its loss class by class, when hand-written texts are encoded, and CoOp at W 0."""

import pytest
import torch

import clip
import train
from dassl.engine import build_trainer
from tests.helpers import arguments


def built(data_root, output, **settings):
    cfg = train.build_config(train.parse_arguments(arguments(data_root, output, "KgCoOp", **settings)))
    trainer = build_trainer(cfg)
    trainer.is_transform_fixed = lambda: False  # batches here are not of training images
    trainer.set_model_mode("train")
    return trainer


def unit(x):
    return x / x.norm()


def hand_written(model, texts):
    return [unit(model.encode_text(clip.tokenize(text))[0]) for text in texts]


@pytest.mark.parametrize("weight", [0.0, 3.0])
def test_loss_by_hand(data_root, tmp_path, weight):
    """Its value and its gradient: cross-entropy + W times the mean over classes of 1 - cos."""
    trainer = built(data_root, tmp_path, options=["TRAINER.KGCOOP.W", weight])
    model, learner = trainer.model.clip, trainer.model.prompt_learner
    torch.manual_seed(0)
    with torch.no_grad():
        learner.ctx += 0.1 * torch.randn_like(learner.ctx)  # "a photo of a" is at no distance
    images, labels = torch.randn(4, 3, 64, 64), [2, 0, 1, 1]

    learned = [unit(text) for text in model.encode_prompts(*learner())]
    fixed = hand_written(model, [f"a photo of a {name}." for name in ("red", "green", "blue")])
    entropy = 0
    for image, label in zip(images, labels, strict=True):
        f = unit(model.encode_image(image[None])[0])
        logits = torch.stack([model.logit_scale.exp() * f @ text for text in learned])
        entropy = entropy - (logits[label] - logits.exp().sum().log()) / len(images)
    distance = sum(1 - ours @ theirs for ours, theirs in zip(learned, fixed, strict=True)) / 3
    expected = entropy + weight * distance

    loss, shown = trainer.compute_loss(images, torch.tensor(labels))
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)
    assert shown["loss_kg"] == pytest.approx(distance.item(), rel=1e-3) and distance > 0.01
    ours, theirs = (torch.autograd.grad(value, learner.ctx)[0] for value in (loss, expected))
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)


def test_hand_written_texts_are_encoded_once_to_train_and_never_to_test(data_root, tmp_path, monkeypatch):
    texts, encode = [], clip.model.CLIP.encode_text
    monkeypatch.setattr(clip.model.CLIP, "encode_text", lambda self, x: texts.append(len(x)) or encode(self, x))
    assert train.main(arguments(data_root, tmp_path / "train", "KgCoOp")) == 0
    assert texts == [3]
    tested = arguments(data_root, tmp_path / "test", "KgCoOp", model_dir=tmp_path / "train", eval_only=True)
    assert train.main(tested) == 0
    assert texts == [3]


def test_without_the_distance_it_is_coop(data_root, tmp_path):
    def learned(name, trainer, options=()):
        assert train.main(arguments(data_root, tmp_path / name, trainer, options=options)) == 0
        path = tmp_path / name / "prompt_learner" / "model.pth.tar-3"
        return torch.load(path, weights_only=True)["state_dict"]["ctx"]

    coop = learned("coop", "CoOp")
    assert torch.equal(learned("without", "KgCoOp", ["TRAINER.KGCOOP.W", 0.0]), coop)
    assert not torch.allclose(learned("with", "KgCoOp", ["TRAINER.KGCOOP.W", 100.0]), coop, atol=1e-6)


@pytest.mark.parametrize(
    ("dataset", "template"),
    [("DescribableTextures", "a photo of a {}, a type of texture."), ("SomeTextures", "{} texture.")],
)
def test_textures_have_a_prompt_of_its_own(data_root, tmp_path, dataset, template):
    """Its authors wrote another than CoOp's, which any other set keeps."""
    trainer = built(data_root, tmp_path)
    names = ["dotted", "cross_hatched"]
    trainer.dm.dataset = type(dataset, (), {"template": "{} texture.", "classnames": names})()
    expected = hand_written(trainer.model.clip, [template.format(name.replace("_", " ")) for name in names])
    torch.testing.assert_close(trainer.hand_written, torch.stack(expected), rtol=0, atol=1e-5)
