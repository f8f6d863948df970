"""CLIPFit: Li et al., "Vision-Language Model Fine-Tuning via Simple Parameter-Efficient Modification", EMNLP 2024.

No prompt is learned: CLIP's own layer norms in the image encoder and biases of the text encoder's MLPs are, held close
to where they began by the texts of CLIP as it was.
"""

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

import clip
from dassl.engine import TRAINER_REGISTRY
from dassl.metrics import compute_accuracy

from .shared.clip_trainer import ClipTrainer
from .shared.prompts import Learner, embedded_prompts, readable, zero_shot_text_features


class ShiftBlocks(clip.Edit):
    """Adds shift[i] (D,) to what block i gives: the same as adding it to the bias of the MLP's second layer."""

    def __init__(self, shift: list[Tensor]):
        self.shift = shift

    def after_block(self, x, i, class_attention):
        return x + self.shift[i].to(x.dtype)


class FitLearner(Learner):
    """`norms`, the image encoder's own layer norms, and `biases` [(D,)], the text blocks' own `mlp.c_proj.bias`.

    A bias is the last thing a block adds, so the learned one enters as an edit, and the text encoder stays CLIP's own:
    hand-written prompts without the edit are the original's at any time. What is learned is fp32 in any precision.
    """

    def __init__(self, clip_model, classnames, template):
        super().__init__()
        norms = [module for module in clip_model.visual.modules() if isinstance(module, clip.model.LayerNorm)]
        self.norms = nn.ModuleList(norms).float().requires_grad_(True)
        self.frozen_images = not norms  # a residual network has batch norms, which the authors leave alone
        first = [block.mlp.c_proj.bias.detach().float() for block in clip_model.transformer.resblocks]
        self.biases = nn.ParameterList([nn.Parameter(bias.clone()) for bias in first])
        prompts, end = embedded_prompts(clip_model, classnames, template)  # (C, L, D), (C,)
        self.register_buffer("first_biases", torch.stack(first), persistent=False)  # (blocks, D)
        self.register_buffer("prompts", prompts, persistent=False)
        self.register_buffer("end", end, persistent=False)  # (C,)
        text = zero_shot_text_features(clip_model, classnames, template)  # (C, d)
        self.register_buffer("first_text", text, persistent=False)

    def forward(self):
        return self.prompts, self.end

    def text_edits(self):
        return [ShiftBlocks([now - first for now, first in zip(self.biases, self.first_biases, strict=True)])]


@TRAINER_REGISTRY.register()
class CLIPFit(ClipTrainer):
    config_node = "CLIPFIT"
    config_keys = {
        "W": 8.0,  # weight of the distance to CLIP's texts; the authors' few-shot runs mostly take 2
    }
    config_ranges = {
        "W": "at least 0",
    }

    def build_learner(self, clip_model, classnames):
        template = self.template()
        print(f"Prompts: {template.format(readable(classnames[0]))} ... ({len(classnames)} classes)")
        return FitLearner(clip_model, classnames, template)

    def from_published(self, state):
        """A checkpoint of the authors' code holds both encoders whole."""
        image, blocks = "image_encoder.", "text_encoder.transformer.resblocks."
        if f"{blocks}0.mlp.c_proj.bias" not in state:
            return state  # one of ours
        norms = [name for name in state if name.startswith(image) and "ln_" in name and name.endswith(".weight")]
        norms = [name.removesuffix("weight") for name in norms]  # in the encoder's order, as ours
        learned = {
            f"norms.{i}.{part}": state[name + part] for i, name in enumerate(norms) for part in ("weight", "bias")
        }
        depth = len(self.model.prompt_learner.biases)
        return learned | {f"biases.{i}": state[f"{blocks}{i}.mlp.c_proj.bias"] for i in range(depth)}

    def compute_loss(self, images, labels):
        text = self.model.text_features()  # (C, d)
        logits = self.model.logits(self.train_features(images), text)  # (B, C)
        fit = F.cross_entropy(logits, labels)
        drift = 1 - (text * self.model.prompt_learner.first_text).sum(dim=-1).mean()  # 1 - cosine, mean over classes
        shown = {"fit": fit.detach(), "drift": drift.detach(), "acc": compute_accuracy(logits, labels)[0]}
        return fit + self.keys.W * drift, shown
