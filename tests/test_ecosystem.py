"""A trainer file written for Dassl and CoOp's plain `clip` goes into trainers/ unchanged and trains and tests.

The first file below is of that kind: its own text encoder and prompt learner with saved prefix and suffix, its own
`load_model` that drops them, `torch.cuda.amp`, keys it declares nowhere. The second is of MaPLe's family, whose `clip`
draws prompts into the encoders or takes them in their call; it registers the whole model and loads what fits of it.
"""

import hashlib
import shutil
from pathlib import Path

import pytest
import torch

from tests.helpers import REPOSITORY, arguments, results, train_elsewhere

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
FAMILY = """
import os.path as osp

import torch
import torch.nn as nn
from torch.cuda.amp import GradScaler, autocast
from torch.nn import functional as F

from clip import clip
from clip.simple_tokenizer import SimpleTokenizer as _Tokenizer
from dassl.engine import TRAINER_REGISTRY, TrainerX
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.utils import load_checkpoint

_tokenizer = _Tokenizer()


def fetch_clip(cfg, details):
    path = clip._download(clip._MODELS[cfg.MODEL.BACKBONE.NAME])
    try:
        archive, weights = torch.jit.load(path, map_location="cpu").eval(), None
    except RuntimeError:
        archive, weights = None, torch.load(path, map_location="cpu")
    return clip.build_model(weights or archive.state_dict(), details)


class Words(nn.Module):
    def __init__(self, names, model, count, depth):
        super().__init__()
        width, image_width = model.ln_final.weight.shape[0], model.visual.conv1.weight.shape[0]
        self.ctx = nn.Parameter(0.02 * torch.randn(count, width, dtype=model.dtype))
        self.deeper = nn.ParameterList([nn.Parameter(0.02 * torch.randn(count, width)) for _ in range(depth - 1)])
        self.couplings = nn.ModuleList([nn.Linear(width, image_width) for _ in range(depth)])
        self.tokens = torch.cat([clip.tokenize("X " * count + name.replace("_", " ") + ".") for name in names])
        with torch.no_grad():
            embedding = model.token_embedding(self.tokens).type(model.dtype)
        self.register_buffer("token_prefix", embedding[:, :1, :])
        self.register_buffer("token_suffix", embedding[:, 1 + count :, :])

    def forward(self):
        ctx = self.ctx.unsqueeze(0).expand(len(self.token_prefix), -1, -1)
        return torch.cat([self.token_prefix, ctx, self.token_suffix], dim=1)


class Both(nn.Module):
    def __init__(self, names, model, count, depth, coupled):
        super().__init__()
        self.prompt_learner, self.coupled = Words(names, model, count, depth if coupled else 0), coupled
        self.image_encoder, self.transformer = model.visual, model.transformer
        self.positions, self.norm, self.projection = model.positional_embedding, model.ln_final, model.text_projection
        self.scale, self.dtype = model.logit_scale, model.dtype

    def forward(self, image, label=None):
        learner = self.prompt_learner
        x = (learner() + self.positions.type(self.dtype)).permute(1, 0, 2)
        if self.coupled:
            deep_prompts_text = learner.deeper
            shared_ctx = learner.couplings[0](learner.ctx)
            deep_prompts = [layer(text) for layer, text in zip(learner.couplings[1:], deep_prompts_text)]
            outputs = self.transformer([x, deep_prompts_text, 0])
            x = outputs[0]
            image = self.image_encoder(image.type(self.dtype), shared_ctx, deep_prompts)
        else:
            x = self.transformer(x)
            image = self.image_encoder(image.type(self.dtype))
        x = self.norm(x.permute(1, 0, 2)).type(self.dtype)
        text = x[torch.arange(len(x)), learner.tokens.argmax(dim=-1)] @ self.projection
        logits = self.scale.exp() * F.normalize(image, dim=-1) @ F.normalize(text, dim=-1).t()
        if learner.training:
            return F.cross_entropy(logits, label)
        return logits


class Family(TrainerX):
    def build_model(self):
        keys = self.keys()
        model = fetch_clip(self.cfg, self.details(keys))
        if keys.PREC in ["fp32", "amp"]:
            model.float()
        self.model = Both(self.dm.dataset.classnames, model, keys.COUNT, keys.DEPTH, self.coupled)
        for name, parameter in self.model.named_parameters():
            if "prompt_learner" not in name:
                if "VPT" in name:
                    parameter.requires_grad_(True)
                else:
                    parameter.requires_grad_(False)
        self.model.to(self.device)
        self.optim = build_optimizer(self.model, self.cfg.OPTIM)
        self.sched = build_lr_scheduler(self.optim, self.cfg.OPTIM)
        self.register_model("WholeModel", self.model, self.optim, self.sched)
        self.scaler = GradScaler() if keys.PREC == "amp" else None

    def forward_backward(self, batch):
        image, label = self.parse_batch_train(batch)
        loss = self.model(image, label)
        self.optim.zero_grad()
        loss.backward()
        self.optim.step()
        if (self.batch_idx + 1) == self.num_batches:
            self.update_lr()
        return {"loss": loss.item()}

    def parse_batch_train(self, batch):
        return batch["img"].to(self.device), batch["label"].to(self.device)

    def load_model(self, directory, epoch=None):
        if not directory:
            return
        for name in self.get_model_names():
            path = osp.join(directory, name, "model-best.pth.tar" if epoch is None else "model.pth.tar-" + str(epoch))
            weights = load_checkpoint(path)["state_dict"]
            for derived in ("prompt_learner.token_prefix", "prompt_learner.token_suffix"):
                if derived in weights:
                    del weights[derived]
            self._models[name].load_state_dict(weights, strict=False)


@TRAINER_REGISTRY.register()
class DrawnPrompts(Family):
    coupled = False

    def keys(self):
        return self.cfg.TRAINER.DRAWN_PROMPTS

    def details(self, keys):
        return {
            "trainer": "IVLP",
            "vision_depth": keys.DEPTH, "vision_ctx": keys.COUNT,
            "language_depth": keys.DEPTH, "language_ctx": keys.COUNT,
        }


@TRAINER_REGISTRY.register()
class CoupledPrompts(Family):
    coupled = True

    def keys(self):
        return self.cfg.TRAINER.COUPLED_PROMPTS

    def details(self, keys):
        return {
            "trainer": "MaPLe", "vision_depth": 0, "language_depth": 0, "vision_ctx": 0, "language_ctx": 0,
            "maple_length": keys.COUNT,
        }
"""
BESIDE = """
import torch

from clip import clip
from dassl.engine import TRAINER_REGISTRY, TrainerX

from .coop import load_clip_to_cpu
from .imagenet_templates import IMAGENET_TEMPLATES_SELECT


@TRAINER_REGISTRY.register()
class ZeroshotCLIP2(TrainerX):  # ours gives way; ZeroshotCLIP stays
    def build_model(self):
        self.clip = load_clip_to_cpu(self.cfg).float().to(self.device)
        names = self.dm.dataset.classnames
        texts = [clip.tokenize([text.format(name) for name in names]) for text in IMAGENET_TEMPLATES_SELECT]
        with torch.no_grad():
            self.text = sum(self.clip.encode_text(tokens.to(self.device)) for tokens in texts)

    def model_inference(self, image):
        return self.clip.encode_image(image) @ self.text.t()
"""
# As trainer files with a changed `clip` are: they call what only theirs has.
OWN_CLIP = TRAINER.replace("SharedWords", "OwnClip").replace("clip.build_model(", "clip.build_model_of_mine(")
DEFAULTS = {
    "OwnClip": "TRAINER:\n  SHARED_WORDS:\n    COUNT: 3\n    PREC: fp32\n",
    "SharedWords": "TRAINER:\n  SHARED_WORDS:\n    COUNT: 3\n    PREC: fp32\n",
    "DrawnPrompts": "TRAINER:\n  DRAWN_PROMPTS:\n    COUNT: 2\n    DEPTH: 3\n    PREC: fp32\n",
    "CoupledPrompts": "TRAINER:\n  COUPLED_PROMPTS:\n    COUNT: 2\n    DEPTH: 3\n    PREC: fp32\n",
}
LEARNED = {  # numbers, at width 128 in both encoders
    "OwnClip": 3 * 128,
    "SharedWords": 3 * 128,
    "DrawnPrompts": 2 * 128 * (1 + 2 + 3),  # a context, two deeper ones of the text, three of the image
    "CoupledPrompts": 2 * 128 * (1 + 2) + 3 * (128 * 128 + 128),  # a context, two deeper ones, three couplings
}


@pytest.fixture(scope="module")
def house(tmp_path_factory) -> Path:
    """A copy of the code, with the trainer files put in and their defaults beside their configs."""
    house = tmp_path_factory.mktemp("house")
    for folder in ("clip", "inert", "dassl", "datasets", "trainers", "one_run", "configs"):
        shutil.copytree(REPOSITORY / folder, house / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(REPOSITORY / "train.py", house)
    (house / "trainers" / "shared_words.py").write_text(TRAINER)
    (house / "trainers" / "family.py").write_text(FAMILY)
    (house / "trainers" / "beside.py").write_text(BESIDE)
    (house / "trainers" / "own_clip.py").write_text(OWN_CLIP)
    own = house / "trainers" / "own_clip" / "clip"
    shutil.copytree(REPOSITORY / "clip", own, ignore=shutil.ignore_patterns("__pycache__"))
    with open(own / "clip.py", "a") as file:
        file.write(
            "\n\ndef build_model_of_mine(state):\n    from clip.model import build_model\n    return build_model(state)\n"
        )
    for name, defaults in DEFAULTS.items():
        folder = house / "configs" / "trainers" / name
        folder.mkdir()
        (folder / "defaults.yaml").write_text(defaults)
        (folder / "embedded.yaml").write_text('_BASE_: "../_base/embedded.yaml"\n')
    return house


@pytest.mark.parametrize("name", DEFAULTS)
def test_a_foreign_trainer_trains_and_tests(house, data_root, tmp_path, name):
    config = house / "configs" / "trainers" / name / "embedded.yaml"
    lines = [arguments(data_root, tmp_path / "base", name, config_file=config)]
    for subsample in ("base", "new"):
        line = arguments(
            data_root, tmp_path / f"test_{subsample}", name, config_file=config,
            subsample=subsample, model_dir=tmp_path / "base", eval_only=True,
        )  # fmt: skip
        lines.append(line)
    done = train_elsewhere(*lines, cwd=house)
    assert done.returncode == 0, done.stderr
    record = results(tmp_path / "base")
    assert record["state"] == "finished" and record["trainable_parameters"] == LEARNED[name]
    assert results(tmp_path / "test_base")["accuracy"] == record["accuracy"]


@pytest.mark.parametrize("name", ["DrawnPrompts", "CoupledPrompts"])
def test_the_familys_prompts_are_all_trained(house, data_root, tmp_path, name):
    """The first and the third epoch's checkpoints differ in what is learned, all of it, and in nothing else."""
    config = house / "configs" / "trainers" / name / "embedded.yaml"
    options = ["TRAIN.CHECKPOINT_FREQ", 1, "OPTIM.LR", 0.1, "TEST.NO_TEST", True]
    done = train_elsewhere(arguments(data_root, tmp_path, name, config_file=config, options=options), cwd=house)
    assert done.returncode == 0, done.stderr
    first, last = (
        torch.load(tmp_path / "WholeModel" / f"model.pth.tar-{epoch}", weights_only=False)["state_dict"]
        for epoch in (1, 3)
    )
    moved = {part for part, value in last.items() if not torch.equal(value, first[part])}
    learned = {part for part in last if "prompt_learner" in part or "VPT" in part}
    assert moved == {part for part in learned if "token_" not in part}
    assert sum(last[part].numel() for part in moved) == LEARNED[name]


def test_its_keys_are_checked_like_any_other(house, data_root, tmp_path):
    config = house / "configs/trainers/SharedWords/embedded.yaml"
    line = arguments(
        data_root, tmp_path / "out", "SharedWords", config_file=config, options=["TRAINER.SHARED_WORDS.COUNTS", 2]
    )
    done = train_elsewhere(line, cwd=house)
    assert done.returncode == 2 and "TRAINER.SHARED_WORDS.COUNT" in done.stderr and "Traceback" not in done.stderr


def test_a_missing_folder_of_defaults_is_explained(house, data_root, tmp_path, monkeypatch):
    folder = house / "configs/trainers/SharedWords"
    folder.rename(tmp_path / "elsewhere")
    config = house / "configs/trainers/CoOp/embedded.yaml"
    done = train_elsewhere(arguments(data_root, tmp_path / "out", "SharedWords", config_file=config), cwd=house)
    assert done.returncode == 2 and "defaults.yaml" in done.stderr and "Traceback" not in done.stderr


def test_a_file_takes_the_place_of_ours(house, data_root, tmp_path):
    """It has a method's registered name and another file's name; it finds what is imported from CoOp's files."""
    lines = []
    for name in ("ZeroshotCLIP2", "ZeroshotCLIP"):
        config = house / f"configs/trainers/{name}/embedded.yaml"
        lines.append(arguments(data_root, tmp_path / name, name, config_file=config))
    done = train_elsewhere(*lines, cwd=house)
    assert done.returncode == 0, done.stderr
    said = "ZeroshotCLIP2 is trainers/beside.py's, which takes the place of trainers/zsclip.py's."
    assert done.stdout.count("takes the place of") == 1
    assert said in (tmp_path / "ZeroshotCLIP2/log.txt").read_text()
    assert results(tmp_path / "ZeroshotCLIP2")["accuracy"] > 20
    stated = {name: list(results(tmp_path / name)["methods"].values()) for name in ("ZeroshotCLIP2", "ZeroshotCLIP")}
    sha256 = hashlib.sha256((house / "trainers/beside.py").read_bytes()).hexdigest()
    assert stated == {"ZeroshotCLIP2": [{"file": "trainers/beside.py", "sha256": sha256}], "ZeroshotCLIP": []}


def test_it_is_no_host_of_spotlighter(house, data_root, tmp_path):
    (house / "trainers" / "my_coop.py").write_text(
        TRAINER.replace("SharedWords", "CoOp")
        .replace("SHARED_WORDS.COUNT", "COOP.N_CTX")
        .replace("SHARED_WORDS", "COOP")
    )
    config = REPOSITORY / "configs/trainers/Spotlighter/embedded.yaml"
    options = ["TRAINER.COOP.PREC", "fp32"]
    try:
        line = arguments(data_root, tmp_path, "Spotlighter", config_file=config, options=options)
        done = train_elsewhere(line, cwd=house)
    finally:
        (house / "trainers" / "my_coop.py").unlink()
    says = "TRAINER.SPOTLIGHTER.HOST CoOp cannot carry Spotlighter: its model, trainers.my_coop's, has no "
    assert done.returncode == 2 and says in done.stderr and "Traceback" not in done.stderr
