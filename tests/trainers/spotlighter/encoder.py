"""A small image encoder with random weights, what stands between its blocks, and attention derived a second time."""

import math

import torch
import torch.nn.functional as F

from clip.edits import Edit
from clip.vit import VisionTransformer
from trainers.spotlighter.drop import DropTokens

SIDE, WIDTH, LAYERS = 4, 64, 4  # 16 patches


def encoder(side: int = SIDE, seed: int = 0) -> VisionTransformer:
    """Random weights under which attention is far from even, and no norm or bias is trivial."""
    torch.manual_seed(seed)
    visual = VisionTransformer(
        input_resolution=4 * side, patch_size=4, width=WIDTH, layers=LAYERS, heads=2, output_dim=8
    )
    with torch.no_grad():
        for name, p in visual.named_parameters():
            if name.endswith("bias") or "ln_" in name:
                p.add_(0.1 * torch.rand(p.shape))
            if name.endswith("in_proj_weight"):
                p.mul_(2)
    return visual.requires_grad_(False).eval()


def dropper(visual, keep=0.6, after=(0,), score="probe", grid=0.5, seed=2) -> DropTokens:
    """A drop whose buffers hold random numbers, as if a survey had filled them."""
    drop, generator = DropTokens(visual, keep, after, score, grid), torch.Generator().manual_seed(seed)
    drop.probe = torch.randn(drop.probe.shape, generator=generator)
    drop.mean = torch.randn(drop.mean.shape, generator=generator)
    drop.prototypes = F.normalize(torch.randn(len(after), 3, WIDTH, generator=generator), dim=-1)
    return drop


class DeepPrompts(Edit, torch.nn.Module):
    """Two visual prompts, other ones before every block; `seen` is the sequence that each block gets."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.prompts = torch.nn.Parameter(torch.randn(LAYERS, 2, WIDTH, generator=generator))
        self.seen = {}

    def embed(self, x):
        return torch.cat([x, self.prompts[0].expand(len(x), -1, -1)], dim=1)

    def before_block(self, x, i):
        if i:
            x = torch.cat([x[:, :-2], self.prompts[i].expand(len(x), -1, -1)], dim=1)
        self.seen[i] = x
        return x


class Witness(Edit):
    """Keeps the sequence that each block gets and, if asked, its attention."""

    def __init__(self, attention=False):
        self.attention, self.seen, self.rows = attention, {}, {}

    def before_block(self, x, i):
        self.seen[i] = x
        return x

    def needs_class_attention(self, i):
        return self.attention

    def after_block(self, x, i, class_attention):
        self.rows[i] = class_attention
        return x


def attention_of_class(block, x):
    """x (L, D) -> (L,): queries and keys of one head after the other."""
    x, attn = block.ln_1(x), block.attn
    D, heads = x.shape[1], attn.num_heads
    weight, bias = attn.in_proj_weight, attn.in_proj_bias
    q, k = x[0] @ weight[:D].t() + bias[:D], x @ weight[D : 2 * D].t() + bias[D : 2 * D]
    total = 0
    for h in range(heads):
        part = slice(h * D // heads, (h + 1) * D // heads)
        total = total + torch.softmax(k[:, part] @ q[part] / math.sqrt(D // heads), dim=0)
    return total / heads


def normed(a):
    """Zero mean and unit deviation (that of a sample) of a few numbers."""
    mean = sum(a) / len(a)
    deviation = (sum((b - mean) ** 2 for b in a) / (len(a) - 1)) ** 0.5
    return torch.stack([(b - mean) / (deviation + 1e-4) for b in a])


def plain(token):
    """A token with its own mean taken away, over its own deviation."""
    token = token - token.mean()
    return token / (token.square().mean() + 1e-5).sqrt()
