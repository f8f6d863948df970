"""Short runs of Spotlighter through train.py, and hosts of other kinds than this project's."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from yacs.config import CfgNode

from dassl.engine import TrainerX
from dassl.optim import build_lr_scheduler, build_optimizer
from tests.helpers import REPOSITORY, arguments
from trainers.shared.clip_trainer import ClipTrainer
from trainers.shared.prompted_clip import load_clip
from trainers.shared.prompts import zero_shot_text_features

PREFIX = "TRAINER.SPOTLIGHTER."
ZERO_SHOT = REPOSITORY / "configs/trainers/ZeroshotCLIP/embedded.yaml"  # declares no host's keys
EPOCHS = 2


def line(data_root, output, trainer="Spotlighter", options=(), **keys) -> list[str]:
    """A short run; keys in capitals are Spotlighter's own."""
    own = [part for name in list(keys) if name.isupper() for part in (PREFIX + name, keys.pop(name))]
    if "ZeroshotCLIP" in own or "PlugInHost" in own:
        keys["config_file"] = ZERO_SHOT
    return arguments(data_root, output, trainer, options=["OPTIM.MAX_EPOCH", EPOCHS, *options, *own], **keys)


def learned(output, name, epoch=EPOCHS) -> dict:
    return torch.load(output / name / f"model.pth.tar-{epoch}", weights_only=True)["state_dict"]


def one_sentence(capsys) -> str:
    errors = [text for text in capsys.readouterr().err.splitlines() if text.strip()]
    assert len(errors) == 1 and errors[0].startswith("error: ") and errors[0].endswith(".")
    return errors[0]


class ShiftedTexts(nn.Module):
    """CLIP with one learned vector added to every text feature: all that a host has to offer, and no more."""

    def __init__(self, clip_model, texts):
        super().__init__()
        self.clip, self.image_edits = clip_model, []
        self.register_buffer("texts", texts, persistent=False)
        self.shift = nn.Parameter(torch.zeros(texts.shape[1]))

    def image_features(self, images, tokens=False):
        if not tokens:
            return F.normalize(self.clip.encode_image(images, self.image_edits).float(), dim=-1)
        return [F.normalize(x.float(), dim=-1) for x in self.clip.encode_image(images, self.image_edits, tokens=True)]

    def text_features(self):
        return F.normalize(self.texts + self.shift, dim=-1)

    def logit_scale(self):
        return self.clip.logit_scale.exp().float()

    def forward(self, images, texts=None):
        return self.logit_scale() * self.image_features(images) @ self.text_features().t()


class PlugInHost(ClipTrainer):
    config_node = "PLUGIN"

    @staticmethod
    def extend_cfg(cfg):
        cfg.TRAINER.PLUGIN = CfgNode({"PREC": "fp32"})

    def build_model(self):
        self.precision, self.scaler = "fp32", None
        clip_model = load_clip(self.cfg.MODEL.BACKBONE.NAME, "fp32", self.device)
        self.model = ShiftedTexts(clip_model, zero_shot_text_features(clip_model, self.dm.dataset.classnames))
        self.optim = build_optimizer([self.model.shift], self.cfg.OPTIM)
        self.sched = build_lr_scheduler(self.optim, self.cfg.OPTIM)
        self.register_model("shift", nn.ParameterList([self.model.shift]), self.optim, self.sched)

    def compute_loss(self, images, labels):
        return F.cross_entropy(self.model(images), labels), {}


class PlainHost(TrainerX):
    """A host that is no ClipTrainer, but has what a host needs."""

    extend_cfg = staticmethod(PlugInHost.extend_cfg)
    build_model = PlugInHost.build_model

    def forward_backward(self, batch):
        loss = F.cross_entropy(self.model(batch["img"]), batch["label"])
        self.model_backward_and_update(loss)
        return {"loss": loss.item()}
