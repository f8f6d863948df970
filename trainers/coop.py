"""CoOp: Zhou et al., "Learning to Prompt for Vision-Language Models", IJCV 2022.

The words around a class name are learned vectors, shared by all classes or one set for each (CSC); CLIP is frozen.
"""

import torch
import torch.nn as nn
from yacs.config import CfgNode

from dassl.engine import TRAINER_REGISTRY

from .clip_trainer import ClipTrainer
from .prompts import ContextPrompts, initial_context


class PromptLearner(nn.Module):
    """The learned context `ctx`: (m, D), or (n, m, D) with class-specific contexts."""

    def __init__(self, clip_model, classnames, keys):
        super().__init__()
        if keys.CTX_INIT:
            context = initial_context(clip_model, keys.CTX_INIT)  # (m, D)
            if keys.CSC:
                context = context.expand(len(classnames), -1, -1).clone()
        else:
            width = clip_model.ln_final.weight.shape[0]
            shape = (len(classnames), keys.N_CTX, width) if keys.CSC else (keys.N_CTX, width)
            context = nn.init.normal_(torch.empty(shape), std=0.02)
        self.ctx = nn.Parameter(context)
        self.prompts = ContextPrompts(clip_model, classnames, context.shape[-2], keys.CLASS_TOKEN_POSITION)

    def forward(self) -> tuple[torch.Tensor, torch.Tensor]:
        return self.prompts(self.ctx), self.prompts.end  # (n, L, D), (n,)


@TRAINER_REGISTRY.register()
class CoOp(ClipTrainer):
    config_node = "COOP"
    derived_tensors = frozenset({"token_prefix", "token_suffix"})  # in checkpoints of CoOp's own code

    @staticmethod
    def extend_cfg(cfg):
        cfg.TRAINER.COOP = CfgNode()
        cfg.TRAINER.COOP.N_CTX = 16  # context tokens, where CTX_INIT is empty
        cfg.TRAINER.COOP.CSC = False  # a context for each class
        cfg.TRAINER.COOP.CTX_INIT = ""  # words to start from, such as "a photo of a"
        cfg.TRAINER.COOP.CLASS_TOKEN_POSITION = "end"  # end, middle, front
        cfg.TRAINER.COOP.PREC = "auto"  # auto, fp32, fp16, bf16, amp

    def build_learner(self, clip_model, classnames):
        return PromptLearner(clip_model, classnames, self.keys)
