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

from clip.parts import Texts, in_parts
from dassl.engine import TRAINER_REGISTRY

from .shared.clip_trainer import ClipTrainer
from .shared.prompted_clip import PromptedCLIP, known_of
from .shared.prompts import ContextLearner
from .shared.published_names import load_clip_to_cpu  # noqa: F401  for other code


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

    def forward(self, contexts: Tensor, classes: slice) -> tuple[Tensor, Tensor]:
        """Contexts (B, m, D), each before the names of so many C classes: prompts (B C, L, D) and their ends (B C,)."""
        B, m, _ = contexts.shape
        embeddings = self.prompts.embeddings[classes].expand(B, -1, -1, -1)  # (B, C, L, D), with placeholders
        contexts = contexts[:, None].expand(-1, embeddings.shape[1], -1, -1)  # (B, C, m, D), which go in their place
        prompts = torch.cat([embeddings[:, :, :1], contexts, embeddings[:, :, 1 + m :]], dim=2)
        return prompts.flatten(0, 1), self.prompts.end[classes].repeat(B)

    @property
    def shared(self) -> int:
        """The places that an image's prompts share: the start token, its context, and words that all classes have."""
        return self.prompts.shared if self.as_written(ConditionalContext) else 0

    @property
    def lengths(self):
        return self.prompts.lengths if self.as_written(ConditionalContext) else None

    def text_work(self, images):
        C, length, _ = self.prompts.embeddings.shape
        return Texts(self.lengths or (length,) * C, self.shared, images)


class ConditionalCLIP(PromptedCLIP):
    """CLIP whose text features depend on the image."""

    conditional = True

    def text_features(self, f: Tensor) -> Tensor:
        """Image features (B, d), unit rows -> (B, C, d), unit rows."""
        learner = self.prompt_learner
        B, contexts = f.shape[0], learner.contexts(f)  # (B, m, D)
        pieces = self.clip.text_parts(learner.text_work(B))
        text = in_parts(lambda images, classes: self.encode_some(contexts[images], classes), pieces, f.device)
        return text.unflatten(0, (B, -1))  # (B, C, d)

    def encode_some(self, contexts: Tensor, classes: slice) -> Tensor:
        """Contexts (B, m, D), of some images, before the names of some C classes -> (B C, d)."""
        learner, B = self.prompt_learner, contexts.shape[0]
        prompts, end = learner(contexts, classes)  # (B C, L, D), (B C,)
        lengths = None if learner.lengths is None else learner.lengths[classes]
        lengths, shared = known_of(prompts, end, lengths, learner.shared, B)
        return F.normalize(self.clip.encode_prompts(prompts, end, (), lengths, shared, B).float(), dim=-1)

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
