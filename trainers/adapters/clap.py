"""CLAP: Silva-Rodriguez et al., "A Closer Look at the Few-Shot Adaptation of Large Vision-Language Models", CVPR 2024.

A linear probe by cosines that begins with zero-shot CLIP's class vectors (ZS-LP: CONSTRAINT none), and is held near them, each
class as firmly as zero-shot CLIP believes in its shots. No setting is chosen on validation images.

    V views      N training images      B images      C classes      d joint width
"""

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from dassl.engine import TRAINER_REGISTRY
from dassl.metrics import compute_accuracy

from ..shared.classifier import ClassifierCLIP, ClassLearner, first_vectors
from ..shared.clip_trainer import ClipTrainer
from ..shared.features import of_features
from ..shared.prompts import readable


class PrototypeLearner(ClassLearner):
    """`prototypes` (C, d), at first `base_text_features` (C, d), which are saved beside them, as the authors do."""

    of_classes = "a prototype"

    def __init__(self, base: Tensor):
        super().__init__()
        self.register_buffer("base_text_features", base)
        self.prototypes = nn.Parameter(base.clone())

    def forward(self) -> Tensor:
        return self.prototypes

    def distances(self) -> Tensor:
        """(C,) squared, from where they began."""
        return (self.prototypes - self.base_text_features).square().sum(dim=1)


def multipliers(probabilities: Tensor, labels: Tensor) -> Tensor:
    """(C,): the mean probability (N, C) of each class over its own images, with labels (N,); 0 where there are none."""
    own = F.one_hot(labels, probabilities.shape[1]).to(probabilities)  # (N, C)
    return (probabilities * own).sum(dim=0) / own.sum(dim=0).clamp_min(1)


@TRAINER_REGISTRY.register()
class CLAP(ClipTrainer):
    config_node = "CLAP"
    config_keys = {
        "CONSTRAINT": "l2",  # l2: squared distances from zero-shot CLIP's vectors join the loss; none: ZS-LP
    }
    config_ranges = {
        "CONSTRAINT": ("l2", "none"),
    }
    learner_name = "adapter"

    def build_prompted_clip(self, clip_model):
        template = self.template()
        print(f"Prompts: {template.format(readable(self.dm.dataset.classnames[0]))} ... ({self.num_classes} classes)")
        return ClassifierCLIP(clip_model, PrototypeLearner(first_vectors(clip_model, self.dm.dataset, template)))

    @of_features
    def compute_loss(self, images, labels):
        logits = self.model.logits(self.train_features(images), self.model.text_features())  # (B, C)
        loss, shown = F.cross_entropy(logits, labels), {"acc": compute_accuracy(logits, labels)[0]}
        if self.keys.CONSTRAINT == "none":
            return loss, shown
        held = (self.multipliers() * self.model.prompt_learner.distances()).mean()
        return loss + held, {"fit": loss.detach(), "held": held.detach(), **shown}

    @torch.no_grad()
    def multipliers(self) -> Tensor:
        """(C,), of all training images in all their views, by zero-shot CLIP; computed once."""
        if "multipliers" not in self.remembered:
            f = self.of_training_images("image", self.model.image_features)  # (V, N, d)
            text = F.normalize(self.model.prompt_learner.base_text_features, dim=-1)  # (C, d)
            labels = torch.tensor([item.label for item in self.train_loader_x.dataset.data_source], device=f.device)
            probabilities = self.model.logits(f, text).softmax(dim=-1).flatten(0, 1)  # (V N, C)
            self.remembered["multipliers"] = multipliers(probabilities, labels.repeat(len(f)))
        return self.remembered["multipliers"]
