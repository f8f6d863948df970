"""CoCoOp: Zhou et al., "Conditional Prompt Learning for Vision-Language Models", CVPR 2022.

A small network shifts CoOp's learned context by what it sees in the image, so every image has prompts of its own.
They are B times as many as CoOp's, so they are put together only when the text encoder comes to their part.

    B images    C classes    m context tokens    D width of the text encoder    d joint width
"""

from collections import OrderedDict

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from clip.parts import in_parts
from dassl.engine import TRAINER_REGISTRY

from .clip_trainer import ClipTrainer
from .prompted_clip import PromptedCLIP
from .prompts import ContextLearner


class ConditionalContext(ContextLearner):
    """CoOp's `ctx` (m, D), and the `meta_net` that turns an image's feature into what is added to each of its tokens."""

    def __init__(self, clip_model, classnames, keys):
        super().__init__(clip_model, classnames, keys)
        width, joint = clip_model.text_projection.shape
        layers = [
            ("linear1", nn.Linear(joint, joint // 16)),
            ("relu", nn.ReLU()),
            ("linear2", nn.Linear(joint // 16, width)),
        ]
        self.meta_net = nn.Sequential(OrderedDict(layers))

    def contexts(self, f: Tensor) -> Tensor:
        """Image features (B, d) -> contexts (B, m, D)."""
        return self.ctx + self.meta_net(f)[:, None]  # (m, D) + (B, 1, D)

    def forward(self, contexts: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
        """Contexts (P, m, D) before the names of classes (P,): prompts (P, L, D) and their ends (P,)."""
        embeddings = self.prompts.embeddings[classes]  # (P, L, D), with placeholders where the context goes
        prompts = torch.cat([embeddings[:, :1], contexts, embeddings[:, 1 + contexts.shape[1] :]], dim=1)
        return prompts, self.prompts.end[classes]

    def text_work(self, images):
        C, length, _ = self.prompts.embeddings.shape
        return images * C, length, 0


class ConditionalCLIP(PromptedCLIP):
    """CLIP whose text features depend on the image."""

    conditional = True

    def text_features(self, f: Tensor) -> Tensor:
        """Image features (B, d), unit rows -> (B, C, d), unit rows."""
        count, length, _ = self.prompt_learner.text_work(len(f))
        pairs = torch.arange(count, device=f.device)  # (B C,)
        contexts = self.prompt_learner.contexts(f)  # (B, m, D)
        parts = self.clip.text_parts(count, length)
        texts = in_parts(lambda rows: self.encode_pairs(contexts, pairs[rows]), count, parts, f.device)
        return texts.view(len(f), count // len(f), -1)

    def encode_pairs(self, contexts: Tensor, pairs: Tensor) -> Tensor:
        """Pairs (P,), counted image by image, -> (P, d)."""
        C = len(self.prompt_learner.prompts.end)
        prompts, end = self.prompt_learner(contexts[pairs // C], pairs % C)  # (P, L, D), (P,)
        return F.normalize(self.clip.encode_prompts(prompts, end, (), prompts.shape[1]).float(), dim=-1)

    def logits(self, f: Tensor, text: Tensor) -> Tensor:
        return self.logit_scale() * (text @ f[..., None]).squeeze(-1)


@TRAINER_REGISTRY.register()
class CoCoOp(ClipTrainer):
    config_node = "COCOOP"
    why_not_compiled = "its texts may be encoded in parts, each a second time for its gradient"
    config_keys = {
        "N_CTX": 16,  # context tokens, where CTX_INIT is empty
        "CTX_INIT": "",  # words to start from, such as "a photo of a"
    }
    config_ranges = {
        "N_CTX": "at least 1",
    }

    def build_prompted_clip(self, clip_model):
        return ConditionalCLIP(clip_model, ConditionalContext(clip_model, self.dm.dataset.classnames, self.keys))

    def encode_classes(self):
        """Nothing: the class names' embeddings are the learner's buffers, and all the rest depends on the image."""

    def predict(self, images, class_state):
        return self.model(images)
