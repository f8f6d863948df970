"""VPT: Jia et al., "Visual Prompt Tuning", ECCV 2022; in CLIP as in MaPLe's comparison (Khattak et al., CVPR 2023).

Learned tokens in the image encoder, at its input (shallow) or anew before each block (deep); the texts are
hand-written and never change.
"""

from dassl.engine import TRAINER_REGISTRY

from .shared.clip_trainer import ClipTrainer
from .shared.deep_prompts import VisualPromptLearner, design_details, from_published
from .shared.prompted_clip import HandWrittenCLIP


@TRAINER_REGISTRY.register()
class VPT(ClipTrainer):
    config_node = "VPT"
    config_keys = {
        "N_CTX_VISION": 8,  # learned tokens in the image encoder
        "CTX_INIT": "a photo of a",  # the words before a class name
        "PROMPT_DEPTH_VISION": 12,  # image blocks with tokens of their own; 1 is shallow prompting
    }
    config_ranges = {
        "N_CTX_VISION": "at least 1",
        "PROMPT_DEPTH_VISION": "at least 1",
    }

    def design_details(self):
        return design_details(self.keys)

    def build_prompted_clip(self, clip_model):
        learner = VisualPromptLearner(clip_model, self.keys)
        words = self.keys.CTX_INIT.replace("{", "{{").replace("}", "}}")  # which are words, not places for a name
        template = f"{words} {{}}.".lstrip()
        return HandWrittenCLIP(clip_model, self.dm.dataset.classnames, [template], learner)

    def from_published(self, state):
        return from_published(state)
