"""IVLP: independent vision-language prompting, the comparison of Khattak et al., "MaPLe", CVPR 2023, section 4.

Both encoders get learned prompts in their first blocks, and the two sets know nothing of each other. With
PROMPT_DEPTH_VISION 0 it is deep language prompting.
"""

from yacs.config import CfgNode

from dassl.engine import TRAINER_REGISTRY

from .clip_trainer import ClipTrainer
from .deep_prompts import DeepPromptLearner, design_details, from_published


@TRAINER_REGISTRY.register()
class IVLP(ClipTrainer):
    config_node = "IVLP"
    learner_name = "VLPromptLearner"

    @staticmethod
    def extend_cfg(cfg):
        cfg.TRAINER.IVLP = CfgNode()
        cfg.TRAINER.IVLP.N_CTX_VISION = 2  # learned tokens in the image encoder
        cfg.TRAINER.IVLP.N_CTX_TEXT = 2  # learned tokens in the text encoder
        cfg.TRAINER.IVLP.CTX_INIT = "a photo of a"  # words whose first N_CTX_TEXT tokens are learned; "": at random
        cfg.TRAINER.IVLP.PROMPT_DEPTH_VISION = 9  # image blocks with tokens of their own; 1 is shallow, 0 is none
        cfg.TRAINER.IVLP.PROMPT_DEPTH_TEXT = 9  # text blocks with tokens of their own; 1 is CoOp's context
        cfg.TRAINER.IVLP.PREC = "auto"  # auto, fp32, fp16, bf16, amp

    def design_details(self):
        return design_details(self.keys)

    def build_learner(self, clip_model, classnames):
        return DeepPromptLearner(clip_model, classnames, self.keys)

    def from_published(self, state):
        return from_published(state)
