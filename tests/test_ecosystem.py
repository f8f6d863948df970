"""A trainer file written for Dassl and CoOp's plain `clip` goes into trainers/ unchanged and trains and tests.

The file below is of that kind: its own text encoder and prompt learner with saved prefix and suffix, its own
`load_model` that drops them, `torch.cuda.amp`, keys it declares nowhere.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPOSITORY, arguments, results

TRAINER = """
import os.path as osp

import torch
import torch.nn as nn
from torch.cuda.amp import GradScaler, autocast
from torch.nn import functional as F

from clip import clip
from clip.simple_tokenizer import SimpleTokenizer as _Tokenizer
from dassl.engine import TRAINER_REGISTRY, TrainerX
from dassl.metrics import compute_accuracy
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.utils import load_checkpoint, load_pretrained_weights

_tokenizer = _Tokenizer()


def fetch_clip(cfg):
    path = clip._download(clip._MODELS[cfg.MODEL.BACKBONE.NAME])
    try:
        archive, weights = torch.jit.load(path, map_location="cpu").eval(), None
    except RuntimeError:
        archive, weights = None, torch.load(path, map_location="cpu")
    return clip.build_model(weights or archive.state_dict())


class Words(nn.Module):
    def __init__(self, cfg, names, model):
        super().__init__()
        count = cfg.TRAINER.SHARED_WORDS.COUNT
        self.words = nn.Parameter(0.02 * torch.randn(count, model.ln_final.weight.shape[0], dtype=model.dtype))
        names = [name.replace("_", " ") for name in names]
        self.lengths = [len(_tokenizer.encode(name)) for name in names]
        self.tokens = torch.cat([clip.tokenize("X " * count + name + ".") for name in names])
        with torch.no_grad():
            embedding = model.token_embedding(self.tokens).type(model.dtype)
        self.register_buffer("token_prefix", embedding[:, :1, :])
        self.register_buffer("token_suffix", embedding[:, 1 + count :, :])

    def forward(self):
        words = self.words.unsqueeze(0).expand(len(self.token_prefix), -1, -1)
        return torch.cat([self.token_prefix, words, self.token_suffix], dim=1)


class Both(nn.Module):
    def __init__(self, cfg, names, model):
        super().__init__()
        self.learner, self.image, self.text = Words(cfg, names, model), model.visual, model.transformer
        self.positions, self.norm, self.projection = model.positional_embedding, model.ln_final, model.text_projection
        self.scale, self.dtype = model.logit_scale, model.dtype

    def forward(self, image):
        x = self.learner() + self.positions.type(self.dtype)
        x = self.text(x.permute(1, 0, 2)).permute(1, 0, 2)
        x = self.norm(x).type(self.dtype)
        text = x[torch.arange(len(x)), self.learner.tokens.argmax(dim=-1)] @ self.projection
        image = self.image(image.type(self.dtype))
        return self.scale.exp() * F.normalize(image, dim=-1) @ F.normalize(text, dim=-1).t()


@TRAINER_REGISTRY.register()
class SharedWords(TrainerX):
    def check_cfg(self, cfg):
        assert cfg.TRAINER.SHARED_WORDS.PREC in ["fp16", "fp32", "amp"]

    def build_model(self):
        model = fetch_clip(self.cfg)
        if self.cfg.TRAINER.SHARED_WORDS.PREC in ["fp32", "amp"]:
            model.float()
        self.model = Both(self.cfg, self.dm.dataset.classnames, model)
        for name, parameter in self.model.named_parameters():
            if "learner" not in name:
                parameter.requires_grad_(False)
        if self.cfg.MODEL.INIT_WEIGHTS:
            load_pretrained_weights(self.model.learner, self.cfg.MODEL.INIT_WEIGHTS)
        self.model.to(self.device)
        self.optim = build_optimizer(self.model.learner, self.cfg.OPTIM)
        self.sched = build_lr_scheduler(self.optim, self.cfg.OPTIM)
        self.register_model("shared_words", self.model.learner, self.optim, self.sched)
        self.scaler = GradScaler() if self.cfg.TRAINER.SHARED_WORDS.PREC == "amp" else None

    def forward_backward(self, batch):
        image, label = self.parse_batch_train(batch)
        output = self.model(image)
        loss = F.cross_entropy(output, label)
        self.model_backward_and_update(loss)
        if (self.batch_idx + 1) == self.num_batches:
            self.update_lr()
        return {"loss": loss.item(), "acc": compute_accuracy(output, label)[0].item()}

    def parse_batch_train(self, batch):
        return batch["img"].to(self.device), batch["label"].to(self.device)

    def load_model(self, directory, epoch=None):
        if not directory:
            return
        for name in self.get_model_names():
            path = osp.join(directory, name, "model-best.pth.tar" if epoch is None else "model.pth.tar-" + str(epoch))
            checkpoint = load_checkpoint(path)
            weights = checkpoint["state_dict"]
            for derived in ("token_prefix", "token_suffix"):
                if derived in weights:
                    del weights[derived]
            print("Loading {} of epoch {}".format(name, checkpoint["epoch"]))
            self._models[name].load_state_dict(weights, strict=False)
"""
DEFAULTS = "TRAINER:\n  SHARED_WORDS:\n    COUNT: 3\n    PREC: fp32\n"


@pytest.fixture
def house(tmp_path) -> Path:
    """A copy of the code, with the trainer file put in and its defaults beside its configs."""
    house = tmp_path / "house"
    for folder in ("clip", "dassl", "datasets", "trainers", "configs"):
        shutil.copytree(REPOSITORY / folder, house / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(REPOSITORY / "train.py", house)
    (house / "trainers" / "shared_words.py").write_text(TRAINER)
    folder = house / "configs" / "trainers" / "SharedWords"
    folder.mkdir()
    (folder / "defaults.yaml").write_text(DEFAULTS)
    shutil.copy(house / "configs" / "trainers" / "CoOp" / "embedded.yaml", folder / "embedded.yaml")
    text = (folder / "embedded.yaml").read_text()
    (folder / "embedded.yaml").write_text(text[: text.index("TRAINER:")])
    return house


def call(house, line):
    return subprocess.run([sys.executable, "train.py", *line], cwd=house, capture_output=True, text=True)


def test_a_foreign_trainer_trains_and_tests(house, data_root, tmp_path):
    config = house / "configs/trainers/SharedWords/embedded.yaml"
    done = call(house, arguments(data_root, tmp_path / "base", "SharedWords", config_file=config))
    assert done.returncode == 0, done.stderr
    record = results(tmp_path / "base")
    assert record["state"] == "finished" and record["trainable_parameters"] == 3 * 128
    for subsample in ("base", "new"):
        line = arguments(
            data_root, tmp_path / f"test_{subsample}", "SharedWords", config_file=config,
            subsample=subsample, model_dir=tmp_path / "base", eval_only=True,
        )  # fmt: skip
        done = call(house, line)
        assert done.returncode == 0, done.stderr
    assert results(tmp_path / "test_base")["accuracy"] == record["accuracy"]


def test_its_keys_are_checked_like_any_other(house, data_root, tmp_path):
    config = house / "configs/trainers/SharedWords/embedded.yaml"
    line = arguments(
        data_root, tmp_path / "out", "SharedWords", config_file=config, options=["TRAINER.SHARED_WORDS.COUNTS", 2]
    )
    done = call(house, line)
    assert done.returncode == 2 and "TRAINER.SHARED_WORDS.COUNT" in done.stderr and "Traceback" not in done.stderr


def test_a_missing_folder_of_defaults_is_explained(house, data_root, tmp_path):
    shutil.rmtree(house / "configs/trainers/SharedWords")
    config = house / "configs/trainers/CoOp/embedded.yaml"
    done = call(house, arguments(data_root, tmp_path / "out", "SharedWords", config_file=config))
    assert done.returncode == 2 and "defaults.yaml" in done.stderr and "Traceback" not in done.stderr
