"""IVLP: independent vision-language prompting, the comparison of Khattak et al., "MaPLe", CVPR 2023, section 4.

Both encoders get learned prompts in their first blocks, and the two sets know nothing of each other. With
PROMPT_DEPTH_VISION 0 it is deep language prompting.
"""

from dassl.engine import TRAINER_REGISTRY

from .shared.clip_trainer import ClipTrainer
from .shared.deep_prompts import DeepPromptLearner, design_details, from_published


@TRAINER_REGISTRY.register()
class IVLP(ClipTrainer):
    config_node = "IVLP"
    config_keys = {
        "N_CTX_VISION": 2,  # learned tokens in the image encoder
        "N_CTX_TEXT": 2,  # learned tokens in the text encoder
        "CTX_INIT": "a photo of a",  # words whose first N_CTX_TEXT tokens are learned; "": at random
        "PROMPT_DEPTH_VISION": 9,  # image blocks with tokens of their own; 1 is shallow, 0 is none
        "PROMPT_DEPTH_TEXT": 9,  # text blocks with tokens of their own; 1 is CoOp's context
    }
    config_ranges = {
        "N_CTX_VISION": "at least 0",
        "N_CTX_TEXT": "at least 1",
        "PROMPT_DEPTH_VISION": "at least 0",
        "PROMPT_DEPTH_TEXT": "at least 1",
    }
    learner_name = "VLPromptLearner"

    def design_details(self):
        return design_details(self.keys)

    def build_learner(self, clip_model, classnames):
        return DeepPromptLearner(clip_model, classnames, self.keys)

    def from_published(self, state):
        return from_published(state)
