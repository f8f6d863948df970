"""The transformer of both encoders, with one loop over its blocks; and the image encoder on it.

Vision transformer: Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021, as in CLIP.

    B images or texts      L tokens      D width      d joint width      N patches
"""

import functools
from collections import OrderedDict
from collections.abc import Sequence

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from .edits import Edit, Edits, TextPrompts, VisualPrompts
from .errors import InputError, check_images


class LayerNorm(nn.LayerNorm):
    """Layer norm computed in fp32, whatever the precision of its input."""

    def forward(self, x: Tensor) -> Tensor:
        if x.dtype == self.weight.dtype:
            return super().forward(x).to(x.dtype)  # PyTorch accumulates in fp32 by itself; autocast returns fp32
        weight, bias = self.weight.float(), self.bias.float()
        return F.layer_norm(x.float(), self.normalized_shape, weight, bias, self.eps).to(x.dtype)


class QuickGELU(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled() and x.requires_grad:
            return x * torch.sigmoid(1.702 * x)
        return (1.702 * x).sigmoid_().mul_(x)  # one temporary in place of three: several times faster on a CPU


ACTIVATIONS: dict[str, type[nn.Module]] = {"quick_gelu": QuickGELU, "gelu": nn.GELU}


class Attention(nn.MultiheadAttention):
    """Self-attention with the parameters (and their first values) of PyTorch's module, through its fused kernel."""

    def forward(  # type: ignore[override]  # of one input, where PyTorch's takes three
        self, x: Tensor, causal: bool = False, first_row: bool = False, rows: int | None = None, edits: Sequence = ()
    ) -> tuple[Tensor, Tensor | None]:
        """x (B, L, D) -> (B, L, D), or of the first `rows` tokens alone, and the first one's attention (B, L) if asked for,
        else None. `edits` are functions, of which each adds something (B, L, 3 D) to queries, keys and values.
        """
        if edits:
            q, k, v = self.split(sum((edit(x) for edit in edits), self.projected(x)))
            q = q[:, :, :rows]
        else:
            q, k, v = self.project(x) if rows is None else self.project_some(x, rows)
        row = self._row(q[:, :, :1], k) if first_row else None
        return self.join(F.scaled_dot_product_attention(q, k, v, is_causal=causal)), row

    def project(self, x: Tensor) -> Tensor:
        """x (B, L, D) -> queries, keys and values (3, B, heads, L, D / heads)"""
        return self.split(self.projected(x))

    def project_some(self, x: Tensor, rows: int) -> tuple[Tensor, Tensor, Tensor]:
        """The same, with the queries (B, heads, rows, D / heads) of the first tokens alone."""
        D, (weight, bias) = x.shape[2], (self.in_proj_weight, self.in_proj_bias)
        q = F.linear(x[:, :rows], weight[:D], bias[:D]).unflatten(2, (self.num_heads, -1)).transpose(1, 2)
        k, v = F.linear(x, weight[D:], bias[D:]).unflatten(2, (2, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        return q, k, v

    def projected(self, x: Tensor) -> Tensor:
        """(B, L, D) -> (B, L, 3 D)"""
        return F.linear(x, self.in_proj_weight, self.in_proj_bias)

    def split(self, projected: Tensor) -> Tensor:
        """(B, L, 3 D) -> (3, B, heads, L, D / heads)"""
        B, L, _ = projected.shape
        return projected.view(B, L, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)

    def join(self, out: Tensor) -> Tensor:
        """What was attended to, (B, heads, L, D / heads) -> (B, L, D)"""
        return self.out_proj(out.transpose(1, 2).flatten(2))

    def first_row(self, x: Tensor) -> Tensor:
        """x (B, L, D) -> (B, L): that row alone, at the cost of the keys and one query."""
        B, L, D = x.shape
        weight, bias = self.in_proj_weight, self.in_proj_bias
        q = F.linear(x[:, :1], weight[:D], bias[:D]).view(B, 1, self.num_heads, -1).transpose(1, 2)
        k = F.linear(x, weight[D : 2 * D], bias[D : 2 * D]).view(B, L, self.num_heads, -1).transpose(1, 2)
        return self._row(q, k)

    @staticmethod
    def _row(q: Tensor, k: Tensor) -> Tensor:
        """q (B, heads, 1, D / heads) and k (B, heads, L, D / heads) -> softmax, averaged over heads: (B, L)."""
        scores = (q @ k.transpose(-1, -2)).float() * q.shape[-1] ** -0.5  # (B, heads, 1, L)
        return scores.softmax(dim=-1).mean(dim=1)[:, 0]


class ResidualAttentionBlock(nn.Module):
    VPT_shallow: nn.Parameter  # only where `build_model` was asked for prompts

    def __init__(self, width: int, heads: int, mlp: int = 0, activation: str = "quick_gelu", eps: float = 1e-5):
        """mlp: the width of its hidden layer; 0 is four times the block's. activation: one of ACTIVATIONS."""
        super().__init__()
        hidden = mlp or 4 * width
        self.attn = Attention(width, heads)
        self.ln_1 = LayerNorm(width, eps)
        layers = [
            ("c_fc", nn.Linear(width, hidden)),
            ("gelu", ACTIVATIONS[activation]()),
            ("c_proj", nn.Linear(hidden, width)),
        ]
        self.mlp = nn.Sequential(OrderedDict(layers))
        self.ln_2 = LayerNorm(width, eps)

    def forward(
        self, x: Tensor, causal: bool = False, first_row: bool = False, rows: int | None = None, **of_attention
    ):
        """x (B, L, D) -> (B, L, D), or of the first `rows` tokens alone, and the first one's attention (B, L) or None."""
        attended, row = self.attn(self.ln_1(x), causal, first_row, rows, **of_attention)
        x = (x if rows is None else x[:, :rows]) + attended
        return x + self.mlp(self.ln_2(x)), row

    def class_attention(self, x: Tensor) -> Tensor:
        """x (B, L, D) -> (B, L): how much the first token is about to attend to each, before the block has run."""
        return self.attn.first_row(self.ln_1(x))


def draw_prompt(count: int, width: int) -> nn.Parameter:
    return nn.Parameter(nn.init.normal_(torch.empty(count, width), std=0.02))


class Transformer(nn.Module):
    def __init__(
        self,
        width: int,
        layers: int,
        heads: int,
        causal: bool = False,
        prompts: int = 0,
        prompt_depth: int = 0,
        **block,
    ):
        """The first `prompt_depth` blocks but the first get `prompts` learned tokens each (see `build_model`).

        block: what else a `ResidualAttentionBlock` takes.
        """
        super().__init__()
        self.width, self.layers, self.heads, self.causal = width, layers, heads, causal
        blocks = []
        for i in range(layers):
            blocks.append(ResidualAttentionBlock(width, heads, **block))
            if prompts and 0 < i < prompt_depth:
                blocks[-1].VPT_shallow = draw_prompt(prompts, width)
        self.resblocks = nn.Sequential(*blocks)

    def own_prompts(self) -> list[nn.Parameter]:
        """Those of blocks 1, 2, ... that `build_model` was asked for and nobody has taken yet."""
        prompts = (getattr(block, "VPT_shallow", None) for block in self.resblocks)
        return [prompt for prompt in prompts if prompt is not None]

    def run(self, x: Tensor, edits: Edits = (), rows: int | None = None) -> Tensor:
        """The one loop over the blocks: x (B, L, D) -> (B, L', D), L' after what the edits did.

        rows: how many tokens, from the first on, the caller wants. The last block computes no more, unless an edit needs them.
        """
        for i, block in enumerate(self.resblocks):
            for edit in edits:
                x = edit.before_block(x, i)
            if any(edit.ends_before(i) for edit in edits):
                break
            few = i + 1 == self.layers and not any(edit.reads_all(i) for edit in edits)
            wanted = [edit.needs_class_attention(i) for edit in edits]
            beside = [functools.partial(edit.project, i=i) for edit in edits if type(edit).project is not Edit.project]
            more = {"edits": beside} if beside else {}
            x, row = block(x, self.causal, any(wanted), rows if few else None, **more)
            length = x.shape[1]
            for edit, wants in zip(edits, wanted, strict=True):
                if wants and x.shape[1] != length:
                    raise InputError(
                        f"An edit wants the attention of block {i} after another has changed its tokens: list it first."
                    )
                x = edit.after_block(x, i, row if wants else None)
        return x

    def forward(self, x: Tensor) -> Tensor:
        """(L, B, D) -> (L, B, D): the order in which other code bases call it, on texts."""
        return self.run(x.transpose(0, 1), [TextPrompts(self.own_prompts())]).transpose(0, 1)


class VisionTransformer(nn.Module):
    """ViT image encoder. The random parameters are drawn in OpenAI's order, for seed-exact comparison."""

    VPT: nn.Parameter  # only where `build_model` was asked for prompts

    def __init__(
        self,
        input_resolution: int,
        patch_size: int,
        width: int,
        layers: int,
        heads: int,
        output_dim: int,
        prompts: int = 0,
        prompt_depth: int = 0,
        eps: float = 1e-5,
        **block,
    ):
        """eps: of the layer norms. block: what else a `ResidualAttentionBlock` takes."""
        super().__init__()
        self.input_resolution, self.output_dim = input_resolution, output_dim
        self.conv1 = nn.Conv2d(3, width, kernel_size=patch_size, stride=patch_size, bias=False)
        if prompts and prompt_depth:
            self.VPT = draw_prompt(prompts, width)
        scale = width**-0.5
        self.class_embedding = nn.Parameter(scale * torch.randn(width))
        self.positional_embedding = nn.Parameter(scale * torch.randn((input_resolution // patch_size) ** 2 + 1, width))
        self.ln_pre = LayerNorm(width, eps)
        self.transformer = Transformer(
            width, layers, heads, prompts=prompts, prompt_depth=prompt_depth, eps=eps, **block
        )
        self.ln_post = LayerNorm(width, eps)
        self.proj = nn.Parameter(scale * torch.randn(width, output_dim))

    def forward(self, image: Tensor, edits: Edits = (), tokens: bool = False):
        """image (B, 3, H, W) -> (B, d); with `tokens` also the patch tokens that the edits left, (B, N, d)."""
        check_images(image, next((edit.size for edit in edits if edit.size), self.input_resolution))
        if hasattr(self, "VPT"):
            edits = [VisualPrompts([self.VPT, *self.transformer.own_prompts()]), *edits]
        for edit in edits:
            edit.see(image)
        x = self.conv1(image).flatten(2).transpose(1, 2)  # (B, D, H/p, W/p) -> (B, N, D)
        patches = x.shape[1]
        x = torch.cat([self.class_embedding.to(x.dtype).expand(x.shape[0], 1, -1), x], dim=1)  # (B, 1 + N, D)
        positions: Tensor = self.positional_embedding
        for edit in edits:
            positions = edit.positions(positions)
        x = x + positions.to(x.dtype)
        for edit in edits:
            x = edit.embed(x)
        x = self.transformer.run(self.ln_pre(x), edits, rows=None if tokens else 1)
        if not tokens:
            return self.ln_post(x[:, 0]) @ self.proj  # (B, d)
        for edit in edits:
            patches = edit.patches_left(patches)
        x = self.ln_post(x[:, : 1 + patches]) @ self.proj  # (B, 1 + N, d)
        return x[:, 0], x[:, 1:]
