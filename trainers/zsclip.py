"""Zero-shot CLIP: Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021.

One hand-written prompt per data set, or an ensemble of prompts; nothing is trained.
"""

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from dassl.engine import TRAINER_REGISTRY

from .clip_trainer import ClipTrainer
from .prompted_clip import PromptedCLIP
from .prompts import features_of_templates, imagenet_templates, total


def mean_of_units(features: Iterable[Tensor]) -> Tensor:
    """The mean (C, d) of what has unit rows by then."""
    return torch.stack([F.normalize(one, dim=-1) for one in features]).mean(dim=0)


class ZeroshotModel(PromptedCLIP):
    """With several templates, a class's feature is the mean of its unit features under each, normalised."""

    def __init__(self, clip_model, classnames: Sequence[str], templates: Sequence[str]):
        super().__init__(clip_model)
        for template in templates:
            print(f"Prompts: {template.format(classnames[0])} ... ({len(classnames)} classes)")
        join = total if len(templates) == 1 else mean_of_units
        text = F.normalize(features_of_templates(clip_model, classnames, templates, join), dim=-1)  # (C, d)
        self.register_buffer("text", text, persistent=False)

    def text_features(self, f=None) -> Tensor:
        return self.text  # (C, d)


@TRAINER_REGISTRY.register()
class ZeroshotCLIP(ClipTrainer):
    config_node = "ZSCLIP"

    def build_prompted_clip(self, clip_model):
        return ZeroshotModel(clip_model, self.dm.dataset.classnames, self.templates())

    def templates(self) -> list[str]:
        return [self.template()]


@TRAINER_REGISTRY.register()
class ZeroshotCLIP2(ZeroshotCLIP):
    """The ensemble of CoOp's tables: CLIP's 7 selected ImageNet templates, and the data set's own."""

    def templates(self) -> list[str]:
        own = [] if type(self.dm.dataset).__name__ == "ImageNet" else super().templates()
        return [*imagenet_templates("SIMPLE_IMAGENET_TEMPLATES"), *own]
