"""CoCoOp: Zhou et al., "Conditional Prompt Learning for Vision-Language Models", CVPR 2022.

A small network shifts CoOp's learned context by what it sees in the image, so every image has prompts of its own.
They are B times as many as CoOp's, and run through the text encoder in chunks, under a memory bound.

    B images    C classes    m context tokens    D width of the text encoder    d joint width
"""

import functools
from collections import OrderedDict

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from dassl.engine import TRAINER_REGISTRY

from .clip_trainer import ClipTrainer
from .prompted_clip import PromptedCLIP
from .prompts import ContextLearner, prompts_at_once


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


class ConditionalCLIP(PromptedCLIP):
    """CLIP whose text features depend on the image; the text encoder works on `memory_mb` MiB at a time."""

    conditional = True

    def __init__(self, clip_model, prompt_learner: ConditionalContext, memory_mb: float):
        super().__init__(clip_model, prompt_learner)
        self.memory_mb = memory_mb

    def text_features(self, f: Tensor) -> Tensor:
        """Image features (B, d), unit rows -> (B, C, d), unit rows.

        Where a chunk does not hold all pairs of image and class, backward encodes each chunk again, and so keeps to
        the bound too.
        """
        C, length, _ = self.prompt_learner.prompts.embeddings.shape
        chunks = torch.arange(len(f) * C, device=f.device).split(prompts_at_once(self.clip, length, self.memory_mb))
        encode = self.encode_pairs
        if len(chunks) > 1 and torch.is_grad_enabled():
            encode = functools.partial(checkpoint, encode, use_reentrant=False, preserve_rng_state=False)
        contexts = self.prompt_learner.contexts(f)  # (B, m, D)
        return torch.cat([encode(contexts, pairs) for pairs in chunks]).view(len(f), C, -1)

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
    features_suffice = True
    config_keys = {
        "N_CTX": 16,  # context tokens, where CTX_INIT is empty
        "CTX_INIT": "",  # words to start from, such as "a photo of a"
        "MEMORY_MB": 1024.0,  # MiB that the text encoder's activations may take at a time
    }
    config_ranges = {
        "N_CTX": "at least 1",
        "MEMORY_MB": "above 0",
    }

    def build_prompted_clip(self, clip_model):
        learner = ConditionalContext(clip_model, self.dm.dataset.classnames, self.keys)
        return ConditionalCLIP(clip_model, learner, self.keys.MEMORY_MB)

    def encode_classes(self):
        """Nothing: the class names' embeddings are the learner's buffers, and all the rest depends on the image."""

    def predict(self, images, class_state):
        return self.model(images)
