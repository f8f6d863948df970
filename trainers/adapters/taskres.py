"""TaskRes: Yu et al., "Task Residual for Tuning Vision-Language Models", CVPR 2023.

To each class's text feature t, as frozen CLIP gives it, a learned vector x is added: t' = t + a x (eq. 4).
"""

import contextlib
import os

import torch
import torch.nn as nn
from torch import Tensor

import inert
from clip import InputError
from dassl.engine import TRAINER_REGISTRY
from dassl.utils import load_checkpoint

from ..shared.classifier import ClassifierCLIP, ClassLearner, first_vectors
from ..shared.clip_trainer import ClipTrainer
from ..shared.prompts import readable


class ResidualLearner(ClassLearner):
    """`text_feature_residuals` (C, d), zero at first. `base_text_features` (C, d), which they are added to, are saved beside
    them, as the authors do: those of an enhanced base need no file of their own at test.
    """

    of_classes = "a residual"

    def __init__(self, base: Tensor, scale: float):
        super().__init__()
        self.scale = scale
        self.register_buffer("base_text_features", base)
        self.text_feature_residuals = nn.Parameter(torch.zeros_like(base))

    def forward(self) -> Tensor:
        return self.base_text_features + self.scale * self.text_feature_residuals  # (C, d)


@contextlib.contextmanager
def enhanced(clip_model, path: str):
    """Within it, texts are projected by the matrix (d, D) in the authors' file, which they trained on the set's shots."""
    own = clip_model.text_projection
    if path:
        if not os.path.isfile(path):
            raise InputError(
                f"TRAINER.TASKRES.ENHANCED_BASE {path} is no file: name one of the authors' files, of this backbone, or leave "
                "it empty."
            )
        try:
            weight = inert.weights_of(load_checkpoint(path)).get("weight")
        except ValueError as error:  # InputError, of ours and of Dassl
            raise InputError(f"TRAINER.TASKRES.ENHANCED_BASE: {error}") from error
        if weight is None or weight.shape != own.t().shape:
            raise InputError(
                f"TRAINER.TASKRES.ENHANCED_BASE {path} holds no projection of {own.shape[0]} to {own.shape[1]} numbers: name "
                "one of the authors' files, of this backbone."
            )
        clip_model.text_projection = nn.Parameter(weight.t().to(own), requires_grad=False)
    try:
        yield
    finally:
        clip_model.text_projection = own


@TRAINER_REGISTRY.register()
class TaskRes(ClipTrainer):
    config_node = "TASKRES"
    config_keys = {
        "RESIDUAL_SCALE": 0.5,  # a: how much of the residual is added
        "ENHANCED_BASE": "",  # a file of the authors' with a text projection trained beforehand; "": CLIP's own
    }
    config_ranges = {
        "RESIDUAL_SCALE": "a number",
    }

    def build_prompted_clip(self, clip_model):
        template = self.template()
        print(f"Prompts: {template.format(readable(self.dm.dataset.classnames[0]))} ... ({self.num_classes} classes)")
        with enhanced(clip_model, self.keys.ENHANCED_BASE):
            base = first_vectors(clip_model, self.dm.dataset, template)  # (C, d)
        return ClassifierCLIP(clip_model, ResidualLearner(base, self.keys.RESIDUAL_SCALE))
