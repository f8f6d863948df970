"""Spotlighter over zero-shot CLIP: 21 scalars and nothing else, from one look at each shot; its new classes and its uses."""

import json

import pytest
import torch

import export
import predict
import train
from dassl.engine import build_trainer
from datasets.caltech101 import Caltech101
from one_run.config import build_config
from tests.helpers import CLASSES, REPOSITORY, arguments, results
from trainers.shared.prompted_clip import PromptedCLIP
from trainers.shared.prompts import zero_shot_text_features
from trainers.spotlighter.trained import Scalars

CONFIGS = REPOSITORY / "configs/trainers/Spotlighter"
SHOTS = 3 * 4  # base classes, and images of each


def line(root, output, options=(), **flags) -> list[str]:
    options = ["OPTIM.MAX_EPOCH", 1, *options]
    return arguments(
        root, output, "Spotlighter", options=options, config_file=CONFIGS / "embedded_zeroshot.yaml", **flags
    )


@pytest.fixture(scope="module")
def run(data_root, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "over"
    assert train.main(line(data_root, folder)) == 0
    return folder


def picture(data_root, name) -> str:
    return str(data_root / "caltech-101" / "101_ObjectCategories" / name / "test_0.png")


@pytest.mark.parametrize("name", ["embedded_zeroshot", "vit_b16_zeroshot"])
def test_configs(name):
    cfg = build_config("Spotlighter", [CONFIGS / f"{name}.yaml"])
    assert (cfg.TRAINER.SPOTLIGHTER.HOST, cfg.OPTIM.MAX_EPOCH) == ("ZeroshotCLIP", 1)
    alone = build_config("ZeroshotCLIP", [REPOSITORY / f"configs/trainers/ZeroshotCLIP/{name.split('_zero')[0]}.yaml"])
    for part in ("MODEL", "INPUT", "DATALOADER"):
        assert cfg[part] == alone[part]


def test_21_scalars_are_all_that_is_saved_and_trained(run):
    """Beside them there are the bank's buffers, which nothing trains."""
    record = results(run)
    assert record["trainable_parameters"] == record["extra_trainable_parameters"] == 21
    assert record["epoch"] == 1 and [path.parent.name for path in run.rglob("model.pth.tar-*")] == ["spotlighter"]
    checkpoint = torch.load(run / "spotlighter" / "model.pth.tar-1", weights_only=True)
    assert checkpoint["optimizer"] is None
    scalars, start = checkpoint["state_dict"], Scalars().state_dict()
    assert sum(value.numel() for value in start.values()) == 21
    assert all((scalars[f"scalars.{name}"] != value).all() for name, value in start.items())  # they were fitted


@pytest.mark.parametrize("epochs", [1, 3])
def test_one_look_at_each_shot_and_no_gradient_through_clip(data_root, tmp_path, capsys, monkeypatch, epochs):
    """However many epochs are asked for; and what is said beforehand is what happens."""
    seen, image_features = [], PromptedCLIP.image_features

    def noted(self, images, *args, **kwargs):
        assert not torch.is_grad_enabled() and not any(p.requires_grad for p in self.parameters())
        seen.append(len(images))
        return image_features(self, images, *args, **kwargs)

    monkeypatch.setattr(PromptedCLIP, "image_features", noted)
    assert train.main(line(data_root, tmp_path, ["TEST.NO_TEST", True, "OPTIM.MAX_EPOCH", epochs])) == 0
    assert sum(seen) == SHOTS
    log = capsys.readouterr().out
    assert "Spotlighter over ZeroshotCLIP: 21 trainable scalars and nothing else" in log
    assert f"3 classes, {SHOTS} training images, nothing to train in steps\n" in log
    assert "A step's activations" not in log and "batch [" not in log


def test_its_texts_are_the_data_sets_hand_written_ones(data_root, tmp_path, capsys, monkeypatch):
    """Those of the host and those that anchor the head are one and the same, of the prompt that the log shows."""
    monkeypatch.setattr(Caltech101, "template", "a square of {} on noise.")
    cfg = train.build_config(train.parse_arguments(line(data_root, tmp_path)))
    trainer = build_trainer(cfg)
    assert "Prompts: a square of red on noise. ... (3 classes)" in capsys.readouterr().out
    assert torch.equal(trainer.model.text_features(), trainer.spotlit.zero_shot)
    by_hand = zero_shot_text_features(trainer.model.clip, CLASSES[:3], "a square of {} on noise.")
    assert torch.equal(trainer.spotlit.zero_shot, by_hand)


def test_new_classes(run, data_root, tmp_path):
    assert train.main(line(data_root, tmp_path, subsample="new", model_dir=run, eval_only=True)) == 0
    record = results(tmp_path)
    assert len(record["classwise"]) == 2 and record["epoch"] == 1


def test_any_class_names(run, data_root, capsys):
    """A class that it knows keeps its place in the bank; the other one has none there."""
    assert predict.main([str(run), picture(data_root, "red"), "--classes", "a cow,red", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert {found["class"], found["runners_up"][0]["class"]} == {"a cow", "red"}


def test_it_is_exported(run, tmp_path):
    pytest.importorskip("onnxruntime", reason="it comes with requirements-test.txt")
    assert export.main([str(run), "--out", str(tmp_path / "out"), "--pictures", "0"]) == 0
    found = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert found["model.onnx"]["largest_difference"] < 1e-4 and found["model.onnx"]["same_class"] == 100


def test_one_shot_keeps_the_initial_scalars(data_root, tmp_path, capsys):
    assert train.main(line(data_root, tmp_path, ["DATASET.NUM_SHOTS", 1, "DATALOADER.TRAIN_X.BATCH_SIZE", 2])) == 0
    assert "keeps its initial scalars: with one shot a class there is none to hold out" in capsys.readouterr().out
    scalars = torch.load(tmp_path / "spotlighter" / "model.pth.tar-1", weights_only=True)["state_dict"]
    assert all(torch.equal(scalars[f"scalars.{name}"], value) for name, value in Scalars().state_dict().items())
