"""PromptSRC: Khattak et al., "Self-regulating Prompts: Foundational Model Adaptation without Forgetting", ICCV 2023.

Prompts in both encoders as in IVLP, with three brakes: their features and logits stay near frozen CLIP's, whose texts
are the mean over many templates; and the prompts of all epochs are averaged, with Gaussian weights.

    B images      C classes      d joint width      P learned numbers
"""

import functools

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from dassl.engine import TRAINER_REGISTRY
from dassl.metrics import compute_accuracy

from .shared.clip_trainer import ClipTrainer
from .shared.deep_prompts import DeepPromptLearner, design_details, from_published
from .shared.prompted_clip import PromptedCLIP
from .shared.prompts import DEFAULT_TEMPLATE, features_of_templates, imagenet_templates, total

TEMPLATE_COUNT = 60  # as published: "a photo of a {}." and the first 59 others of CLIP's 80 for ImageNet


def templates() -> list[str]:
    """The prompts of frozen CLIP's texts."""
    return [DEFAULT_TEMPLATE, *(one for one in imagenet_templates() if one != DEFAULT_TEMPLATE)][:TEMPLATE_COUNT]


def epoch_weights(epochs: int, mean: float, std: float) -> Tensor:
    """(epochs,) float64: a Gaussian at epochs 1, 2, ..., with sum 1 (eq. 6)."""
    distance = (torch.arange(1, epochs + 1, dtype=torch.float64) - mean) / std
    return (-0.5 * distance**2).softmax(dim=0)  # also where each of them is too small for a number


class AggregatedPromptLearner(DeepPromptLearner):
    """The prompts, and the weighted sum (P,) of those of the epochs so far, which is saved so that a run can go on."""

    def __init__(self, clip_model, classnames, keys):
        super().__init__(clip_model, classnames, keys)
        self.register_buffer("aggregate", torch.zeros_like(self.flat()))

    def flat(self) -> Tensor:
        """All prompts in one vector (P,)."""
        return parameters_to_vector(self.parameters()).detach()

    def aggregate_epoch(self, weight: float) -> None:
        self.aggregate += weight * self.flat()

    def deploy_aggregate(self) -> None:
        with torch.no_grad():
            vector_to_parameters(self.aggregate.clone(), self.parameters())


@TRAINER_REGISTRY.register()
class PromptSRC(ClipTrainer):
    config_node = "PROMPTSRC"
    config_keys = {
        "N_CTX_VISION": 4,  # learned tokens in the image encoder
        "N_CTX_TEXT": 4,  # learned tokens in the text encoder
        "CTX_INIT": "a photo of a",  # words whose first N_CTX_TEXT tokens are learned; "": random
        "PROMPT_DEPTH_VISION": 9,  # image blocks with tokens of their own; 1 is shallow, 0 is none
        "PROMPT_DEPTH_TEXT": 9,  # text blocks with tokens of their own; 1 is CoOp's context
        "TEXT_LOSS_WEIGHT": 25.0,  # times the distance from frozen text features
        "IMAGE_LOSS_WEIGHT": 10.0,  # times the distance from frozen image features
        "GPA_MEAN": 15.0,  # the epoch whose prompts weigh most in the average
        "GPA_STD": 1.0,  # how many epochs around it count
    }
    config_ranges = {
        "N_CTX_VISION": "at least 0",
        "N_CTX_TEXT": "at least 1",
        "PROMPT_DEPTH_VISION": "at least 0",
        "PROMPT_DEPTH_TEXT": "at least 1",
        "TEXT_LOSS_WEIGHT": "at least 0",
        "IMAGE_LOSS_WEIGHT": "at least 0",
        "GPA_MEAN": "a number",
        "GPA_STD": "above 0",
    }
    learner_name = "VLPromptLearner"

    def design_details(self):
        return design_details(self.keys)

    def build_learner(self, clip_model, classnames):
        return AggregatedPromptLearner(clip_model, classnames, self.keys)

    # --- frozen CLIP --------------------------------------------------------------------------------------

    @functools.cached_property
    def frozen_text(self) -> Tensor:
        """(C, d) unit rows: the mean over the templates, taken before normalisation."""
        names = self.dm.dataset.classnames
        return F.normalize(features_of_templates(self.model.clip, names, templates(), total), dim=-1)

    @functools.cached_property
    def frozen(self) -> PromptedCLIP:
        """The one CLIP there is, without prompts."""
        return PromptedCLIP(self.model.clip)

    # --- training -----------------------------------------------------------------------------------------

    def compute_loss(self, images, labels):
        f, t = self.train_features(images), self.model.text_features()  # (B, d), (C, d)
        frozen_f, frozen_t = self.once_per_image("frozen", self.frozen.image_features, images), self.frozen_text
        logits, frozen_logits = self.model.logits(f, t), self.model.logits(frozen_f, frozen_t)  # (B, C)
        class_loss = F.cross_entropy(logits, labels)
        text_loss = self.keys.TEXT_LOSS_WEIGHT * F.l1_loss(t, frozen_t)  # eq. 3
        image_loss = self.keys.IMAGE_LOSS_WEIGHT * F.l1_loss(f, frozen_f)
        # eq. 4; as published, the divergence of an image is divided by the number of classes too
        divergence = F.kl_div(logits.log_softmax(1), frozen_logits.log_softmax(1), reduction="sum", log_target=True)
        divergence = divergence / logits.numel()
        losses = {"loss_text": text_loss, "loss_image": image_loss, "loss_logits": divergence}
        shown = {name: loss.detach() for name, loss in losses.items()} | {"acc": compute_accuracy(logits, labels)[0]}
        return class_loss + text_loss + image_loss + divergence, shown

    def run_epoch(self):
        """The epoch, then its part in the average, which takes the prompts' place after the last one."""
        super().run_epoch()
        learner = self.model.prompt_learner
        weights = epoch_weights(self.max_epoch, self.keys.GPA_MEAN, self.keys.GPA_STD)
        learner.aggregate_epoch(weights[self.epoch].item())
        if self.epoch + 1 == self.max_epoch:
            learner.deploy_aggregate()

    # --- checkpoints --------------------------------------------------------------------------------------

    def from_published(self, state):
        """Checkpoints of the authors' code hold no running average."""
        return {"aggregate": self.model.prompt_learner.aggregate, **from_published(state)}
