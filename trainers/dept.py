"""DePT: Zhang et al., "DePT: Decoupled Prompt Tuning", CVPR 2024.

A plug-in over a prompt tuner, its host: beside it a head is trained that tells the training classes apart by scaled and
shifted channels of the features. What belongs to these classes alone goes there, and the prompts keep what helps with others.
Where all classes asked for were trained on, a prediction is a mean of the host's logits and the head's; else it is the host's.

B images      C classes trained on      d joint width
"""

from typing import NamedTuple

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from clip import InputError
from dassl.engine import TRAINER_REGISTRY, TrainerX
from dassl.optim import build_optimizer

from .shared.config_keys import ConfigKeys
from .shared.features import of_features
from .shared.plug_in import host_of, over, rows_of
from .shared.prompted_clip import PromptedCLIP


class ChannelWise(nn.Module):
    """Features (..., d), each channel times its `scale` plus its `bias` (the paper's cwT)."""

    def __init__(self, width: int):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * x + self.bias


class TransferHead(nn.Module):
    """The channel-adjusted head: logits (..., C) of features (..., d) as the encoders give them, no unit rows."""

    def __init__(self, width: int, classnames: list[str]):
        super().__init__()
        self.image, self.text = ChannelWise(width), ChannelWise(width)
        self.linear = nn.Linear(width, len(classnames))
        self.classnames = list(classnames)

    def forward(self, f: Tensor) -> Tensor:
        return self.linear(self.image(f))

    def loss(self, f: Tensor, text: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy of images f (B, d), and of their classes' texts, of text (C, d), as B examples more."""
        both = torch.cat([self.text(text[labels]), self.image(f)])  # (2 B, d)
        return F.cross_entropy(self.linear(both), labels.repeat(2))

    def get_extra_state(self):  # the classes that it was trained on, not those now asked for
        return self.classnames

    def set_extra_state(self, state):
        self.classnames = state

    def _load_from_state_dict(self, state_dict, prefix, *args, **kwargs):
        saved, ours = state_dict.get(f"{prefix}linear.weight"), self.linear.weight
        if saved is not None and saved.shape[1:] == ours.shape[1:] and len(saved) != len(ours):
            self.linear = nn.Linear(ours.shape[1], len(saved), device=ours.device)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


class DecoupledCLIP(PromptedCLIP):
    texts: Tensor | None = None  # (C, d), those encoded last, for the head

    def raw_text_features(self):
        self.texts = super().raw_text_features()
        return self.texts


class Asked(NamedTuple):  # the classes asked for
    text: Tensor  # (C', d), unit rows
    rows: Tensor | None  # (C',) where each stands in the head; None where one of them does not


def check_host(fits: bool, name: str) -> None:
    if not fits:
        raise InputError(f"TRAINER.DEPT.HOST cannot be {name}, whose loss is another: name one such as CoOp.")


class DePTOverHost:
    """The layer over a host: a method whose image and text features are plain prompted CLIP's, trained by one loss."""

    @property
    def own(self):  # `keys` are the host's
        return self.cfg.TRAINER.DEPT

    def build_prompted_clip(self, clip_model):
        model = super().build_prompted_clip(clip_model)
        check_host(type(model) is PromptedCLIP, self.own.HOST)
        self.head = TransferHead(clip_model.text_projection.shape[1], self.dm.dataset.classnames).to(self.device)
        return DecoupledCLIP(model.clip, model.prompt_learner)

    def build_model(self):
        super().build_model()
        self.register_model("dept", self.head)

    def build_optimiser(self, learner):  # of both
        rates = ((learner, self.cfg.OPTIM.LR), (self.head, self.cfg.OPTIM.LR * self.own.LR_TIMES))
        groups = [{"params": list(part.parameters()), "lr": rate} for part, rate in rates]
        return build_optimizer(learner, self.cfg.OPTIM, param_groups=groups)

    def facts(self) -> dict:
        extra = sum(parameter.numel() for parameter in self.head.parameters())
        return super().facts() | {"extra_trainable_parameters": extra}

    @of_features
    def train_features(self, images):
        """The host's (B, d), unit rows; as the encoder gives them they stay for the head."""
        raw, frozen = self.model.raw_image_features, self.model.prompt_learner.frozen_images
        self.f = self.once_per_image("raw image", raw, images) if frozen else raw(images)
        return F.normalize(self.f, dim=-1)

    @of_features
    def compute_loss(self, images, labels):
        """(1 - w) of the host's cross-entropy and w of the head's; what else the host's loss has stays whole."""
        loss, shown = super().compute_loss(images, labels)
        f, text = self.f, self.model.texts
        self.f = self.model.texts = None  # which hold a graph
        theirs = F.cross_entropy(self.model.logits(F.normalize(f, dim=-1), F.normalize(text, dim=-1)), labels)
        ours = self.head.loss(f, text, labels)
        return loss + self.own.WEIGHT * (ours - theirs), {**shown, "loss_head": ours.detach()}

    def encode_classes(self) -> Asked:
        text = self.model.text_features()  # (C', d)
        rows = rows_of(self.dm.dataset.classnames, self.head.classnames)
        return Asked(text, None if -1 in rows else torch.tensor(rows, device=text.device))

    def predict(self, images, class_state: Asked):
        f = self.model.raw_image_features(images)  # (B, d)
        logits = self.model.logits(F.normalize(f, dim=-1), class_state.text)  # (B, C')
        return logits if class_state.rows is None else logits.lerp(self.head(f)[:, class_state.rows], self.own.WEIGHT)


class Keys(ConfigKeys):
    config_node = "DEPT"
    config_keys = {
        "HOST": "CoOp",  # a registered method
        "WEIGHT": 0.7,  # of the head, in loss and prediction (lambda)
        "LR_TIMES": 6.5,  # the head's learning rate, in units of OPTIM.LR
    }
    config_ranges = {"WEIGHT": "at least 0 and at most 1", "LR_TIMES": "above 0"}


@TRAINER_REGISTRY.register()
def DePT(cfg) -> TrainerX:
    """The trainer: the class of the registered method that `TRAINER.DEPT.HOST` names, and the layer over it."""
    host = host_of(cfg, "DePT")
    check_host(getattr(host, "adds_up", False), cfg.TRAINER.DEPT.HOST)
    return over(DePTOverHost, host, "DePT")(cfg)


DePT.extend_cfg, DePT.ranges = Keys.extend_cfg, Keys.ranges
DePT.host_key = "TRAINER.DEPT.HOST"  # whose config keys are needed too
