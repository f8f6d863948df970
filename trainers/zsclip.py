"""Zero-shot CLIP: Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021.

One hand-written prompt per data set; nothing is trained.
"""

import torch
from yacs.config import CfgNode

from dassl.engine import TRAINER_REGISTRY

from .clip_trainer import ClipTrainer, PromptedCLIP
from .prompts import template_of, zero_shot_text_features


class ZeroshotModel(PromptedCLIP):
    def __init__(self, clip_model, classnames, template):
        super().__init__(clip_model)
        print(f"Prompts: {template.format(classnames[0])} ... ({len(classnames)} classes)")
        self.register_buffer("text", zero_shot_text_features(clip_model, classnames, template), persistent=False)

    def text_features(self) -> torch.Tensor:
        return self.text  # (n, d)


@TRAINER_REGISTRY.register()
class ZeroshotCLIP(ClipTrainer):
    config_node = "ZSCLIP"

    @staticmethod
    def extend_cfg(cfg):
        cfg.TRAINER.ZSCLIP = CfgNode()
        cfg.TRAINER.ZSCLIP.PREC = "auto"  # auto, fp32, fp16, bf16, amp

    def build_prompted_clip(self, clip_model):
        dataset = self.dm.dataset
        return ZeroshotModel(clip_model, dataset.classnames, template_of(dataset))
