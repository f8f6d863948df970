"""What trainer files written for CoOp import from the files beside them: its names and calls, over the parts here.

`from .coop import load_clip_to_cpu` is in nearly every such file. Nothing of this repository's own methods uses these.

    B images      C classes      L tokens of a prompt      m context tokens      D width      d joint width
"""

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

import clip

from .prompts import ContextLearner, readable, token_count


def load_clip_to_cpu(cfg, *_, **__) -> clip.model.CLIP:
    """The plain CLIP that MODEL.BACKBONE.NAME names, in fp16 on the CPU; what else forks of CoOp pass has no say."""
    return clip.build_model(clip.load_weights(cfg.MODEL.BACKBONE.NAME, activation=cfg.MODEL.BACKBONE.get("ACT", "")))


class TextEncoder(nn.Module):
    """Prompts that are embedded already, (C, L, D) without positions, and their token ids (C, L or more) -> (C, d)."""

    def __init__(self, clip_model):
        super().__init__()
        self.transformer, self.ln_final = clip_model.transformer, clip_model.ln_final
        self.positional_embedding, self.text_projection = clip_model.positional_embedding, clip_model.text_projection
        self.dtype = clip_model.dtype

    def forward(self, prompts: Tensor, tokenized_prompts: Tensor) -> Tensor:
        x = prompts.to(self.dtype) + self.positional_embedding[: prompts.shape[1]].to(self.dtype)  # (C, L, D)
        x = self.transformer(x.transpose(0, 1)).transpose(0, 1)
        ends = tokenized_prompts.argmax(dim=-1).to(x.device)  # (C,) the end token has the largest id
        x = self.ln_final(x[torch.arange(len(x), device=x.device), ends])  # (C, D)
        return x.to(self.dtype) @ self.text_projection.to(self.dtype)


class PromptLearner(ContextLearner):
    """CoOp's context, by the keys of TRAINER.COOP; called, it gives all prompts at full length, (C, 77, D)."""

    def __init__(self, cfg, classnames, clip_model):
        super().__init__(clip_model, classnames, cfg.TRAINER.COOP)
        names, room = [readable(name) for name in classnames], clip_model.context_length
        self.n_cls, self.n_ctx, self.dtype = len(names), self.ctx.shape[-2], clip_model.dtype
        self.name_lens = [token_count(name, room) for name in names]
        self.class_token_position = cfg.TRAINER.COOP.CLASS_TOKEN_POSITION
        words, stop = (
            " ".join(["X"] * self.n_ctx),
            "." if self.class_token_position == "end" else " .",
        )  # as `prompts` has it
        self.tokenized_prompts = clip.tokenize([f"{words} {name}{stop}" for name in names], room)  # (C, 77)
        with torch.no_grad():
            embedded = clip_model.token_embedding(self.tokenized_prompts.to(self.ctx.device)).to(self.dtype)
        self.register_buffer("token_prefix", embedded[:, :1], persistent=False)  # (C, 1, D): the start
        self.register_buffer("token_suffix", embedded[:, 1 + self.n_ctx :], persistent=False)  # class, end, padding

    def forward(self) -> Tensor:
        prompts = self.prompts(self.ctx).to(self.dtype)  # (C, L, D), no longer than the longest
        return torch.cat([prompts, self.token_suffix[:, prompts.shape[1] - 1 - self.n_ctx :]], dim=1)


class CustomCLIP(nn.Module):
    """CLIP with CoOp's prompts: images (B, 3, H, W) -> logits (B, C)."""

    def __init__(self, cfg, classnames, clip_model):
        super().__init__()
        self.prompt_learner = PromptLearner(cfg, classnames, clip_model)
        self.tokenized_prompts = self.prompt_learner.tokenized_prompts
        self.image_encoder, self.text_encoder = clip_model.visual, TextEncoder(clip_model)
        self.logit_scale, self.dtype = clip_model.logit_scale, clip_model.dtype

    def forward(self, image: Tensor) -> Tensor:
        text = self.text_encoder(self.prompt_learner(), self.tokenized_prompts)  # (C, d)
        features = self.image_encoder(image.to(self.dtype))  # (B, d)
        return self.logit_scale.exp() * F.normalize(features, dim=-1) @ F.normalize(text, dim=-1).t()
