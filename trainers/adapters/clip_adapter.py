"""CLIP-Adapter: Gao et al., "CLIP-Adapter: Better Vision-Language Models with Feature Adapters", IJCV 2024.

A bottleneck of two layers behind the frozen image encoder: what it makes of an image's feature is mixed with the feature
itself. Texts are hand-written. It is the same for all classes, so that it applies to new ones too.

    B images      N patch tokens      C classes      d joint width
"""

import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from clip import InputError
from dassl.engine import TRAINER_REGISTRY
from dassl.metrics import compute_accuracy

from ..shared.clip_trainer import ClipTrainer
from ..shared.features import of_features
from ..shared.prompted_clip import HandWrittenCLIP
from ..shared.prompts import Learner


class FeatureAdapter(Learner):
    """f' = unit(ratio A(f) + (1 - ratio) f), with A(f) = relu(W2 relu(W1 f)).

    The authors mix features as the encoder gives them, and make unit rows of f' only. As A has no bias, A(c f) = c A(f)
    for c > 0, so that unit rows f give the same f'.
    """

    frozen_texts = True

    def __init__(self, width: int, reduction: int, ratio: float):
        super().__init__()
        self.ratio = ratio
        down, up = nn.Linear(width, width // reduction, bias=False), nn.Linear(width // reduction, width, bias=False)
        self.fc = nn.Sequential(down, nn.ReLU(), up, nn.ReLU())

    def forward(self, f: Tensor) -> Tensor:
        """Unit rows (..., d) -> unit rows (..., d)."""
        return F.normalize(self.ratio * self.fc(f) + (1 - self.ratio) * f, dim=-1)


class AdaptedCLIP(HandWrittenCLIP):
    """CLIP with an adapter behind its image encoder; patch tokens pass it as the image's feature does."""

    def image_features(self, images, tokens=False):
        encoded = self.encoders_features(images, tokens)  # (B, d), or with (B, N, d)
        return tuple(map(self.prompt_learner, encoded)) if tokens else self.prompt_learner(encoded)

    @property
    def has_plain_images(self) -> bool:
        """What is learned stands behind the image encoder."""
        return not self.image_edits


@TRAINER_REGISTRY.register()
class CLIPAdapter(ClipTrainer):
    config_node = "CLIPADAPTER"
    config_keys = {
        "RATIO": 0.2,  # share of what the adapter makes of a feature (alpha)
        "REDUCTION": 4,  # how many times narrower the bottleneck is than the feature
    }
    config_ranges = {
        "RATIO": "at least 0 and at most 1",
        "REDUCTION": "at least 1",
    }
    learner_name = "clip_adapter"

    def build_prompted_clip(self, clip_model):
        width = clip_model.visual.output_dim
        if width < self.keys.REDUCTION:
            raise InputError(
                f"TRAINER.CLIPADAPTER.REDUCTION is {self.keys.REDUCTION}, and a feature of this backbone is {width} wide: choose "
                f"1 to {width}."
            )
        learner = FeatureAdapter(width, self.keys.REDUCTION, self.keys.RATIO)
        return AdaptedCLIP(clip_model, self.dm.dataset.classnames, [self.template()], learner)

    @of_features
    def compute_loss(self, images, labels):
        f = self.once_per_image("image", self.model.encoders_features, images)  # (B, d)
        logits = self.model.logits(self.model.prompt_learner(f), self.model.text)  # (B, C)
        return F.cross_entropy(logits, labels), {"acc": compute_accuracy(logits, labels)[0]}
