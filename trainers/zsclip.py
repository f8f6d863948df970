"""Zero-shot CLIP: Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021.

One hand-written prompt per data set, or an ensemble of prompts; nothing is trained.
"""

from dassl.engine import TRAINER_REGISTRY

from .shared.clip_trainer import ClipTrainer
from .shared.prompted_clip import HandWrittenCLIP
from .shared.prompts import imagenet_templates


@TRAINER_REGISTRY.register()
class ZeroshotCLIP(ClipTrainer):
    config_node = "ZSCLIP"

    def build_prompted_clip(self, clip_model):
        return HandWrittenCLIP(clip_model, self.dm.dataset.classnames, self.templates())

    def templates(self) -> list[str]:
        return [self.template()]


@TRAINER_REGISTRY.register()
class ZeroshotCLIP2(ZeroshotCLIP):
    """The ensemble of CoOp's tables: CLIP's 7 selected ImageNet templates, and the data set's own."""

    def templates(self) -> list[str]:
        own = [] if type(self.dm.dataset).__name__ == "ImageNet" else super().templates()
        return [*imagenet_templates("SIMPLE_IMAGENET_TEMPLATES"), *own]
