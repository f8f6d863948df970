"""MaPLe: Khattak et al., "MaPLe: Multi-modal Prompt Learning", CVPR 2023.

Both encoders get learned prompts in their first blocks, and the visual ones are linear maps of the textual ones.
"""

from dassl.engine import TRAINER_REGISTRY

from .shared.clip_trainer import ClipTrainer
from .shared.deep_prompts import CoupledPromptLearner, learner_of


@TRAINER_REGISTRY.register()
class MaPLe(ClipTrainer):
    config_node = "MAPLE"
    config_keys = {
        "N_CTX": 2,  # learned tokens in either encoder
        "CTX_INIT": "a photo of a",  # words whose first N_CTX tokens are learned; "": at random
        "PROMPT_DEPTH": 9,  # blocks of either encoder with tokens of their own; 1 is shallow
    }
    config_ranges = {
        "N_CTX": "at least 1",
        "PROMPT_DEPTH": "at least 1",
    }
    learner_name = "MultiModalPromptLearner"

    def build_learner(self, clip_model, classnames):
        return CoupledPromptLearner(clip_model, classnames, self.keys)

    def from_published(self, state):
        """A checkpoint of MaPLe's own code holds the whole model; its learner has our names."""
        return learner_of(state)
