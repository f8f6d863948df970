"""Learned prompts in both encoders, block by block; shared by IVLP, PromptSRC, PromptKD and VPT.

The text side is CoOp's context, with one of its own for the first blocks (deep language prompting); the image side is
VPT (Jia et al., "Visual Prompt Tuning", ECCV 2022). They are edits of CLIP's encoders (`clip/model.py`), drawn while
CLIP is built, where the published code draws them, so the same seed gives the same first values.

    n classes      m tokens of a prompt      D width of its encoder
"""

from collections.abc import Sequence

import torch
import torch.nn as nn

import clip

from .prompts import ContextPrompts, Learner, initial_context


def design_details(keys) -> dict:
    """What `clip.build_model` is to draw, by a method's keys; an encoder without keys gets nothing."""
    return {
        "trainer": "IVLP",
        "vision_ctx": keys.get("N_CTX_VISION", 0),
        "vision_depth": keys.get("PROMPT_DEPTH_VISION", 0),
        "language_ctx": keys.get("N_CTX_TEXT", 0),
        "language_depth": keys.get("PROMPT_DEPTH_TEXT", 0),
    }


def check_depths(clip_model, keys) -> None:
    """Refuse depths and counts that these encoders cannot have."""
    visual = clip_model.visual
    layers = {
        "VISION": getattr(getattr(visual, "transformer", None), "layers", 0),
        "TEXT": clip_model.transformer.layers,
    }
    for side, most in layers.items():
        depth, count = keys.get(f"PROMPT_DEPTH_{side}", 0), keys.get(f"N_CTX_{side}", 0)
        if not 0 <= depth <= most:
            why = f"has {most} such blocks" if most else "is a residual network, which has no tokens to prompt"
            raise clip.InputError(f"PROMPT_DEPTH_{side} is {depth}, and this backbone {why}: choose 0 to {most}.")
        if depth > 0 and count < 1:
            raise clip.InputError(f"N_CTX_{side} is {count} with PROMPT_DEPTH_{side} {depth}: set it to 1 or more.")


class DeepPromptLearner(Learner):
    """`ctx` (m, D) before the class names, `text` [(m, D)] for the next text blocks, `visual` [(m, D)] from the first on.

    The model must have been built with `design_details(keys)`; its prompts move here.
    """

    frozen_images = False

    def __init__(self, clip_model, classnames: Sequence[str], keys):
        super().__init__()
        check_depths(clip_model, keys)
        visual, text = clip.take_prompts(clip_model)
        self.visual, self.text = nn.ParameterList(visual), nn.ParameterList(text)
        for prompt in self.parameters():
            prompt.requires_grad_(True)
        words = keys.CTX_INIT if keys.N_CTX_TEXT <= 4 else ""  # as published: longer contexts start at random
        if words:
            context = initial_context(clip_model, words)[: keys.N_CTX_TEXT]  # (m, D)
        else:
            width = clip_model.ln_final.weight.shape[0]
            context = nn.init.normal_(torch.empty(keys.N_CTX_TEXT, width), std=0.02)
        self.ctx = nn.Parameter(context)
        self.prompts = ContextPrompts(clip_model, classnames, len(context), words=words or None)

    def forward(self) -> tuple[torch.Tensor, torch.Tensor]:
        return self.prompts(self.ctx), self.prompts.end  # (n, L, D), (n,)

    def image_edits(self):
        return [clip.VisualPrompts(list(self.visual))] if len(self.visual) else []

    def text_edits(self):
        return [clip.TextPrompts(list(self.text))]


def from_published(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The learned tensors in a checkpoint of the published IVLP, PromptSRC or VPT, which holds the whole model."""
    if not any(name.startswith("image_encoder.") for name in state):
        return state  # one of ours
    learned = {}
    for name, value in state.items():
        if name == "prompt_learner.ctx":
            learned["ctx"] = value
        elif name == "image_encoder.VPT":
            learned["visual.0"] = value
        elif name.endswith(".VPT_shallow"):
            block = int(name.split("resblocks.")[1].split(".")[0])
            learned[f"visual.{block}" if name.startswith("image_encoder.") else f"text.{block - 1}"] = value
    return learned
