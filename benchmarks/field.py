"""What the field's published code usually does, re-created for comparison: its evaluation and its loader."""

import copy

import torch
import torch.nn as nn
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from clip import Edit
from clip.model import CLIP, Attention
from dassl.data.chance import SeededBatches
from dassl.data.datasets import Datum
from trainers.shared.prompts import ContextLearner


class UnfusedAttention(nn.Module):
    """Attention as PyTorch had it before its fused kernels: the whole (L, L) matrix of every head is stored."""

    def __init__(self, attention: Attention):
        """Its parameters are those of `attention`, not copies."""
        super().__init__()
        self.attention = attention

    def forward(self, x: Tensor, causal: bool = False, first_row: bool = False, rows: int | None = None):
        """x (B, L, D) -> (B, L, D), None; of all rows, as `AllTokens` sees to."""
        B, L, D = x.shape
        own = self.attention
        projected = F.linear(x, own.in_proj_weight, own.in_proj_bias)
        q, k, v = projected.view(B, L, 3, own.num_heads, -1).permute(2, 0, 3, 1, 4)  # (B, heads, L, D / heads)
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)  # (B, heads, L, L)
        if causal:
            scores = scores + torch.full((L, L), -torch.inf, device=x.device, dtype=x.dtype).triu(1)
        out = scores.softmax(dim=-1) @ v
        return own.out_proj(out.transpose(1, 2).reshape(B, L, D)), None


def with_unfused_attention(model: CLIP) -> CLIP:
    """The same CLIP, sharing every parameter, that stores its attention matrices."""
    twin = copy.deepcopy(model, memo={id(p): p for p in model.parameters()})
    for block in (*twin.visual.transformer.resblocks, *twin.transformer.resblocks):
        block.attn = UnfusedAttention(block.attn)
    return twin


class AllTokens(Edit):
    """Has the last block compute all tokens, as published code does."""

    def reads_all(self, i):
        return True


class FieldEvaluation:
    """CoOp evaluated as published code does: every batch encodes all classes anew, over all 77 places.

    A plain re-creation for comparison; its logits are CoOp's.
    """

    def __init__(self, model: CLIP, learner: ContextLearner):
        self.clip, self.learner = with_unfused_attention(model), learner

    def text_features(self) -> Tensor:
        """(n, d) unit rows"""
        model, (prompts, end) = self.clip, self.learner()  # (n, L, D), (n,)
        padding = model.token_embedding.weight[0].expand(len(prompts), model.context_length - prompts.shape[1], -1)
        x = torch.cat([prompts.to(model.dtype), padding.to(model.dtype)], dim=1)  # (n, 77, D)
        x = model.transformer.run(x + model.positional_embedding.to(model.dtype))
        x = model.ln_final(x)[torch.arange(len(x), device=x.device), end]  # (n, D)
        return F.normalize((x @ model.text_projection).float(), dim=-1)

    def __call__(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> logits (B, n)"""
        text = self.text_features()
        features = F.normalize(self.clip.encode_image(images, [AllTokens()]).float(), dim=-1)  # (B, d)
        return self.clip.logit_scale.exp().float() * features @ text.t()


class FieldDataset(SeededBatches):
    """Opens, converts and transforms an image each time, as CoOp's and Dassl's does; its crops are drawn as ours are."""

    def __init__(self, items: list[Datum], transform):
        self.items, self.transform = items, transform

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> dict:
        item = self.items[index]
        image = self.transform(Image.open(item.impath).convert("RGB"))
        return {"label": item.label, "domain": item.domain, "impath": item.impath, "index": index, "img": image}
