"""What methods share that learn a classifier over frozen features: a vector for each class, which fits no others.

C classes      d joint width
"""

import torch.nn.functional as F
from torch import Tensor

from .prompted_clip import PromptedCLIP
from .prompts import Learner, features_of_templates, imagenet_templates, total


class ClassLearner(Learner):
    """A learner whose call gives the classes' vectors (C, d), of any length, rather than prompts."""

    of_classes = "a vector"
    frozen_texts = True  # texts go through CLIP once, before training


class ClassifierCLIP(PromptedCLIP):
    """Frozen CLIP with learned class vectors in place of text features; logits are scaled cosines with them."""

    prompt_learner: ClassLearner

    def text_features(self, f: Tensor | None = None) -> Tensor:
        return F.normalize(self.prompt_learner(), dim=-1)  # (C, d)


def first_vectors(clip_model, dataset, template: str) -> Tensor:
    """(C, d), fp32, of CLIP's own length: zero-shot CLIP's class vectors, which such methods begin with. Of ImageNet they are
    the means over eight prompts, its own and CLIP's selected ones; of other sets there is one prompt.
    """
    several = imagenet_templates("SIMPLE_IMAGENET_TEMPLATES") if type(dataset).__name__ == "ImageNet" else ()
    templates = [*several, template]
    return features_of_templates(clip_model, dataset.classnames, templates, total) / len(templates)
