"""Runs on backbones of other libraries, from a folder or a file: what they are is a part of the run."""

import json

import pytest
import torch

import clip
import train
from dassl.errors import InputError
from one_run.predictor import Predictor
from tests.foreign import of_open_clip, of_transformers
from tests.helpers import arguments, results
from tests.test_train import one_sentence

GELU = {"vision_config.hidden_act": "gelu", "text_config.hidden_act": "gelu"}
ONCE = ["OPTIM.MAX_EPOCH", 1]
LARGE = {"vision_cfg.image_size": 64}


def test_a_folder_of_transformers(data_root, tmp_path, capsys):
    """Trained, skipped when it has finished, tested on the new classes; refused once another activation is said."""
    folder, base = tmp_path / "clip", tmp_path / "base"
    of_transformers(folder, GELU | {"text_config.max_position_embeddings": 40})
    line = arguments(data_root, base, backbone=folder, options=ONCE)
    assert train.main(line) == 0
    said = capsys.readouterr().out
    assert f"Loading CLIP (backbone: {folder}, activation: gelu, precision: fp32, device: cpu)" in said
    record = results(base)
    assert record["identity"]["files"]["MODEL.BACKBONE.NAME"] == clip.hub.find(str(folder)).sha256()
    assert train.main(line) == 0 and "Loading CLIP" not in capsys.readouterr().out
    flags = {"backbone": folder, "model_dir": base, "eval_only": True, "options": ONCE}
    assert train.main(arguments(data_root, tmp_path / "new", subsample="new", **flags)) == 0
    Predictor(base)
    path = folder / "config.json"
    path.write_text(path.read_text().replace('"gelu"', '"quick_gelu"'))
    capsys.readouterr()
    assert train.main(arguments(data_root, tmp_path / "other", subsample="new", **flags)) == 2
    assert "the file of MODEL.BACKBONE.NAME has changed" in one_sentence(capsys)
    with pytest.raises(InputError, match=r"the file of MODEL\.BACKBONE\.NAME has changed"):
        Predictor(base)
    (folder / "model.safetensors").unlink()
    assert train.main(arguments(data_root, tmp_path / "none", backbone=folder, options=ONCE)) == 2
    assert f"{folder} has no weights, which would be model.safetensors or" in one_sentence(capsys)


def test_a_file_that_does_not_say_its_activation(data_root, tmp_path, capsys):
    path = tmp_path / "epoch_1.pt"
    torch.save({"epoch": 1, "name": "mine", "state_dict": of_open_clip(changes=LARGE).state_dict()}, path)
    assert train.main(arguments(data_root, tmp_path / "none", backbone=path, options=ONCE)) == 2
    assert "set MODEL.BACKBONE.ACT to gelu" in one_sentence(capsys)
    assert (
        train.main(
            arguments(data_root, tmp_path / "none", backbone=path, options=[*ONCE, "MODEL.BACKBONE.ACT", "relu"])
        )
        == 2
    )
    assert "MODEL.BACKBONE.ACT is 'relu'" in one_sentence(capsys)
    gelu, base = [*ONCE, "MODEL.BACKBONE.ACT", "gelu"], tmp_path / "base"
    assert train.main(arguments(data_root, base, backbone=path, options=gelu)) == 0
    assert "activation: gelu" in capsys.readouterr().out
    flags = {"backbone": path, "model_dir": base, "eval_only": True}
    quick = [*ONCE, "MODEL.BACKBONE.ACT", "quick_gelu"]
    assert train.main(arguments(data_root, tmp_path / "test", options=quick, **flags)) == 2
    assert "MODEL.BACKBONE.ACT is 'gelu' there and 'quick_gelu' here" in one_sentence(capsys)
    assert train.main(arguments(data_root, tmp_path / "test", options=gelu, **flags)) == 0


def test_images_of_another_size(data_root, tmp_path, capsys):
    folder = tmp_path / "clip"
    of_open_clip(folder)  # of 32 pixels
    size = [*ONCE, "INPUT.SIZE", (48, 48)]
    assert train.main(arguments(data_root, tmp_path / "a", backbone=folder, options=size)) == 2
    assert "MODEL.BACKBONE.RESIZE_POSITIONS to True" in one_sentence(capsys)
    size += ["MODEL.BACKBONE.RESIZE_POSITIONS", True]
    assert train.main(arguments(data_root, tmp_path / "a", backbone=folder, options=size)) == 0


def test_pixels_that_are_normalised_otherwise(data_root, tmp_path, capsys):
    folder = tmp_path / "clip"
    of_open_clip(folder, LARGE)
    for mean, warned in (([0.5, 0.5, 0.5], True), (list(clip.clip.MEAN), False)):
        path = folder / "open_clip_config.json"
        config = json.loads(path.read_text()) | {"preprocess_cfg": {"mean": mean, "std": list(clip.clip.STD)}}
        path.write_text(json.dumps(config))
        assert train.main(arguments(data_root, tmp_path / str(warned), "ZeroshotCLIP", backbone=folder)) == 0
        assert ("was trained on pixels with INPUT.PIXEL_MEAN [0.5, 0.5, 0.5]" in capsys.readouterr().out) is warned


@pytest.mark.parametrize("name", ["hf:clip", "open_clip:ViT-B-16/none", "openai/clip-vit-base-patch16"])
def test_a_name_of_nothing(data_root, tmp_path, capsys, name):
    assert train.main(arguments(data_root, tmp_path / "none", backbone=name)) == 2
    assert name.split(":")[-1].split("/")[-1] in one_sentence(capsys)


@pytest.mark.parametrize("method", ["MaPLe", "PromptSRC", "CLIPFit", "Spotlighter"])
def test_methods_that_reach_into_the_encoders(data_root, tmp_path, method):
    folder = tmp_path / "clip"
    of_open_clip(
        folder,
        LARGE
        | {"vision_cfg.head_width": 32, "text_cfg.context_length": 100, "vision_cfg.layers": 3, "text_cfg.layers": 3},
    )
    assert train.main(arguments(data_root, tmp_path / method, method, backbone=folder, options=ONCE)) == 0
    assert results(tmp_path / method)["state"] == "finished"


def test_a_folder_that_is_called_like_a_model(data_root, tmp_path, monkeypatch):
    (tmp_path / "ViT-Embedded/8").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert train.main(arguments(data_root, tmp_path / "a", "ZeroshotCLIP")) == 0
