"""KgCoOp: Yao et al., "Visual-Language Prompt Tuning with Knowledge-guided Context Optimization", CVPR 2023.

CoOp's learned context, whose text features are held near those of hand-written prompts.
"""

import functools

import torch.nn.functional as F
from torch import Tensor

from dassl.engine import TRAINER_REGISTRY
from dassl.metrics import compute_accuracy

from .shared.clip_trainer import ClipTrainer
from .shared.features import of_features
from .shared.prompts import ContextLearner
from .shared.published_names import load_clip_to_cpu  # noqa: F401  for other code


@TRAINER_REGISTRY.register()
class KgCoOp(ClipTrainer):
    config_node = "KGCOOP"
    config_keys = {
        "N_CTX": 4,  # context tokens, where CTX_INIT is empty
        "CTX_INIT": "a photo of a",  # words to start from; "" starts at random
        "W": 8.0,  # times the distance from the hand-written prompts' features (lambda, eq. 5)
    }
    config_ranges = {
        "N_CTX": "at least 1",
        "W": "at least 0",
    }
    unused_tensors = frozenset({"bias_vectors", "meta_net.linear1.weight", "meta_net.linear1.bias"})

    def build_learner(self, clip_model, classnames):
        return ContextLearner(clip_model, classnames, self.keys)

    @functools.cached_property
    def hand_written(self) -> Tensor:
        """Text features (C, d) of the data set's hand-written prompts; only training asks for them."""
        return self.model.zero_shot_text(self.dm.dataset.classnames, self.template())

    @of_features
    def compute_loss(self, images, labels):
        text = self.model.text_features()  # (C, d)
        logits = self.model.logits(self.train_features(images), text)  # (B, C)
        distance = (1 - (text * self.hand_written).sum(dim=-1)).mean()  # both have unit rows
        loss = F.cross_entropy(logits, labels) + self.keys.W * distance
        return loss, {"acc": compute_accuracy(logits, labels)[0], "loss_kg": distance.detach()}
