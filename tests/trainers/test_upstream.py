"""All methods over a stand-in for upstream Dassl (upstream.py), whose trainers and loaders have upstream's names only."""

import importlib
import json
import pkgutil
from pathlib import Path

import pytest
import torch

import clip
from tests.helpers import CLASSES, REPOSITORY
from tests.trainers.upstream import upstream

DEPTHS = {"PROMPT_DEPTH_VISION": 2, "PROMPT_DEPTH_TEXT": 2}
SETTINGS = {  # of methods whose defaults are for larger encoders
    "ATPrompt": {"ATTRIBUTES": "color, shape"},
    "IVLP": DEPTHS,
    "MaPLe": {"PROMPT_DEPTH": 2},
    "PromptKD": {"PROMPT_DEPTH_VISION": 2, "TEACHER_NAME": "ViT-Embedded/8"},
    "PromptSRC": DEPTHS | {"N_CTX_VISION": 2, "N_CTX_TEXT": 2},
    "Spotlighter": {"ZOOM": 1, "KEEP": 0.5},
    "TCP": {"BLOCK": 3},
    "MMA": {"ADAPTER_START": 3, "ADAPTER_END": 4},
    "MMRL": {"REP_LAYERS": (3, 4)},
    "MMRLpp": {"REP_LAYERS": (3, 4)},
    "VPT": {"PROMPT_DEPTH_VISION": 2},
}
ZERO_SHOT = ("ZeroshotCLIP", "ZeroshotCLIP2")
LEARNING = [
    "ATPrompt", "CLAP", "CLIPAdapter", "CLIPFit", "CLIPLoRA", "CoCoOp", "CoOp", "DePT", "IVLP", "KgCoOp", "LinearProbe", "MaPLe",
    "MMA", "MMRL", "MMRLpp", "ProGrad", "PromptKD", "PromptSRC", "Spotlighter", "TaskRes", "TCP", "TextRefiner", "VPT",
    "GDA", "TipAdapter", "TipAdapterF",
]  # fmt: skip
FIXED, BY_CHANCE = ("normalize",), ("random_flip", "normalize")


@pytest.fixture(scope="module")
def registry(data_root):
    """The methods' registry, with a data set that has upstream's names alone."""
    with upstream():
        from dassl.data.datasets import DATASET_REGISTRY, DatasetBase, Datum
        from dassl.engine import TRAINER_REGISTRY

        folder = data_root / "caltech-101"
        split = json.loads((folder / "split_zhou_Caltech101.json").read_text())

        @DATASET_REGISTRY.register()
        class Squares(DatasetBase):
            def __init__(self, cfg):
                parts = {
                    part: [
                        Datum(impath=str(folder / "101_ObjectCategories" / path), label=label, domain=0, classname=name)
                        for path, label, name in split[part]
                    ]
                    for part in ("train", "val", "test")
                }
                super().__init__(train_x=parts["train"], val=parts["val"], test=parts["test"])

        for module in pkgutil.walk_packages([str(REPOSITORY / "trainers")], "trainers."):
            importlib.import_module(module.name)
        yield TRAINER_REGISTRY


def config(registry, name: str, output: Path, transforms=FIXED, **keys):
    from dassl.config import get_cfg_default

    cfg = get_cfg_default()
    registry.get(name).extend_cfg(cfg)
    if hasattr(registry.get(name), "host_key"):
        registry.get(cfg.TRAINER[name.upper()].HOST).extend_cfg(cfg)
    for key, value in {**SETTINGS.get(name, {}), **keys}.items():
        cfg.TRAINER[name.upper()][key] = value
    cfg.TRAINER.NAME, cfg.OUTPUT_DIR, cfg.DATASET.NAME = name, str(output), "Squares"
    cfg.MODEL.BACKBONE.NAME = "ViT-Embedded/8"
    cfg.INPUT.SIZE, cfg.INPUT.TRANSFORMS = (64, 64), transforms
    cfg.INPUT.INTERPOLATION = "bicubic"
    cfg.INPUT.PIXEL_MEAN, cfg.INPUT.PIXEL_STD = list(clip.clip.MEAN), list(clip.clip.STD)
    cfg.DATALOADER.TRAIN_X.BATCH_SIZE, cfg.OPTIM.MAX_EPOCH = 10, 1
    cfg.OPTIM.NAME, cfg.OPTIM.LR, cfg.OPTIM.LR_SCHEDULER = "sgd", 0.002, "cosine"
    cfg.freeze()
    return cfg


def built(cfg):
    from dassl.engine import build_trainer

    torch.manual_seed(0)
    return build_trainer(cfg)


@pytest.fixture(scope="module")
def teacher(registry, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("teacher")
    built(config(registry, "PromptSRC", output)).train()
    return output


def test_every_method_is_here(registry):
    assert sorted(registry.registered_names()) == sorted([*LEARNING, *ZERO_SHOT])


def test_nothing_of_ours_alone_is_there(registry):
    """What this stand-in has not cannot be used: names that only this repository's Dassl has."""
    for module in ("dassl.errors", "dassl.checkpoints", "dassl.utils.files"):
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module(module)
    trainer = built(config(registry, "CoOp", Path("unused")))
    assert not hasattr(trainer.dm, "tfm_train") and not hasattr(trainer, "is_kept")
    assert "KEEP_MB" not in trainer.cfg.DATALOADER


@pytest.mark.parametrize(
    ("name", "transforms"), [*((name, FIXED) for name in LEARNING), ("CoOp", BY_CHANCE), ("PromptKD", BY_CHANCE)]
)
def test_trains_and_is_loaded_again(registry, request, tmp_path, name, transforms):
    keys = {"TEACHER_DIR": str(request.getfixturevalue("teacher"))} if name == "PromptKD" else {}
    cfg = config(registry, name, tmp_path, transforms, **keys)
    trainer = built(cfg)
    trainer.train()
    again = built(cfg)
    again.load_model(str(tmp_path), epoch=1)
    assert again.test() == trainer.last_result > 100 / len(CLASSES)


@pytest.mark.parametrize("name", ZERO_SHOT)
def test_zero_shot(registry, tmp_path, name):
    """It is tested alone: without a model to train, upstream's own training does not start."""
    trainer = built(config(registry, name, tmp_path))
    trainer.load_model("")
    assert trainer.test() > 100 / len(CLASSES)


def test_the_best_on_validation_images(registry, tmp_path):
    cfg = config(registry, "CoOp", tmp_path)
    cfg.defrost()
    cfg.TEST.FINAL_MODEL = "best_val"
    built(cfg).train()
    assert (tmp_path / "prompt_learner" / "model-best.pth.tar").is_file()
