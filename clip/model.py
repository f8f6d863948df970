"""CLIP: Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021.

Written anew, in the names and shapes of OpenAI's published state dicts, so that their weights load as they are.
There is one loop over transformer blocks, and one way to reach into it: an `Edit`.

    B images or prompts      L tokens      D width      d joint width      N patches      n classes
"""

import math
from collections import OrderedDict
from collections.abc import Sequence

import torch
import torch.nn as nn
import torch.nn.functional as F

from .errors import InputError


class Edit:
    """What a method does to a token sequence between blocks; x is (B, L, D), the class token first in an image.

    Override what is needed, and return the sequence, of any length. An edit may also be an nn.Module.
    """

    def embed(self, x: torch.Tensor) -> torch.Tensor:
        """Once, before the first block; in the image encoder after the positions, before `ln_pre`."""
        return x

    def before_block(self, x: torch.Tensor, i: int) -> torch.Tensor:
        return x

    def needs_class_attention(self, i: int) -> bool:
        """Whether `after_block` wants block i's attention; it costs one row, not the whole matrix."""
        return False

    def after_block(self, x: torch.Tensor, i: int, class_attention: torch.Tensor | None) -> torch.Tensor:
        """`class_attention` (B, L): how much the first token attends to each, averaged over heads; None unless needed."""
        return x

    def patches_left(self, count: int) -> int:
        """How many of `count` patch tokens this edit leaves; they stand right behind the class token."""
        return count


Edits = Sequence[Edit]


class VisualPrompts(Edit):
    """Learned tokens at the end of an image's sequence (VPT, Jia et al., ECCV 2022): prompts[i] (m, D) is for block i.

    The first enter before `ln_pre`; those of a later block take the place of what the former ones have become.
    """

    def __init__(self, prompts: Sequence[torch.Tensor]):
        self.prompts = prompts

    def embed(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x, batch_of(self.prompts[0], x)], dim=1)  # (B, 1 + N + m, D)

    def before_block(self, x: torch.Tensor, i: int) -> torch.Tensor:
        if not 0 < i < len(self.prompts):
            return x
        return torch.cat([x[:, : -len(self.prompts[i])], batch_of(self.prompts[i], x)], dim=1)


class TextPrompts(Edit):
    """Learned tokens behind a text's start token: prompts[i] (m, D) replaces its positions 1..m before block i + 1.

    The first block's context stands in the prompt itself, so there is none for it here.
    """

    def __init__(self, prompts: Sequence[torch.Tensor]):
        self.prompts = prompts

    def before_block(self, x: torch.Tensor, i: int) -> torch.Tensor:
        if not 0 < i <= len(self.prompts):
            return x
        prompt = self.prompts[i - 1]
        return torch.cat([x[:, :1], batch_of(prompt, x), x[:, 1 + len(prompt) :]], dim=1)


def batch_of(prompt: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """A prompt (m, D) for every sequence of x (B, L, D), in its precision: (B, m, D)."""
    return prompt.to(x.dtype).expand(len(x), -1, -1)


# --- transformer -------------------------------------------------------------------------------------------------


class LayerNorm(nn.LayerNorm):
    """Layer norm computed in fp32, whatever the precision of its input."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.dtype == self.weight.dtype:
            return super().forward(x).to(x.dtype)  # PyTorch accumulates in fp32 by itself; autocast returns fp32
        weight, bias = self.weight.float(), self.bias.float()
        return F.layer_norm(x.float(), self.normalized_shape, weight, bias, self.eps).to(x.dtype)


class QuickGELU(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if torch.is_grad_enabled() and x.requires_grad:
            return x * torch.sigmoid(1.702 * x)
        return (1.702 * x).sigmoid_().mul_(x)  # one temporary in place of three: several times faster on a CPU


class Attention(nn.MultiheadAttention):
    """Self-attention with the parameters (and their first values) of PyTorch's module, through its fused kernel."""

    def forward(self, x: torch.Tensor, causal: bool = False, first_row: bool = False):
        """x (B, L, D) -> (B, L, D), and the first token's attention (B, L) if asked for, else None."""
        B, L, D = x.shape
        q, k, v = (
            F.linear(x, self.in_proj_weight, self.in_proj_bias).view(B, L, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        )
        row = self._row(q[:, :, :1], k) if first_row else None
        out = F.scaled_dot_product_attention(q, k, v, is_causal=causal)  # (B, heads, L, D / heads)
        return self.out_proj(out.transpose(1, 2).reshape(B, L, D)), row

    def first_row(self, x: torch.Tensor) -> torch.Tensor:
        """x (B, L, D) -> (B, L): that row alone, at the cost of the keys and one query."""
        B, L, D = x.shape
        weight, bias = self.in_proj_weight, self.in_proj_bias
        q = F.linear(x[:, :1], weight[:D], bias[:D]).view(B, 1, self.num_heads, -1).transpose(1, 2)
        k = F.linear(x, weight[D : 2 * D], bias[D : 2 * D]).view(B, L, self.num_heads, -1).transpose(1, 2)
        return self._row(q, k)

    @staticmethod
    def _row(q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        """q (B, heads, 1, D / heads) and k (B, heads, L, D / heads) -> softmax, averaged over heads: (B, L)."""
        scores = (q @ k.transpose(-1, -2)).float() * q.shape[-1] ** -0.5  # (B, heads, 1, L)
        return scores.softmax(dim=-1).mean(dim=1)[:, 0]


class ResidualAttentionBlock(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.attn = Attention(width, heads)
        self.ln_1 = LayerNorm(width)
        layers = [("c_fc", nn.Linear(width, 4 * width)), ("gelu", QuickGELU()), ("c_proj", nn.Linear(4 * width, width))]
        self.mlp = nn.Sequential(OrderedDict(layers))
        self.ln_2 = LayerNorm(width)

    def forward(self, x: torch.Tensor, causal: bool = False, first_row: bool = False):
        attended, row = self.attn(self.ln_1(x), causal, first_row)
        x = x + attended
        return x + self.mlp(self.ln_2(x)), row

    def class_attention(self, x: torch.Tensor) -> torch.Tensor:
        """x (B, L, D) -> (B, L): how much the first token is about to attend to each, before the block has run."""
        return self.attn.first_row(self.ln_1(x))


def draw_prompt(count: int, width: int) -> nn.Parameter:
    return nn.Parameter(nn.init.normal_(torch.empty(count, width), std=0.02))


class Transformer(nn.Module):
    def __init__(
        self, width: int, layers: int, heads: int, causal: bool = False, prompts: int = 0, prompt_depth: int = 0
    ):
        """The first `prompt_depth` blocks but the first get `prompts` learned tokens each (see `build_model`)."""
        super().__init__()
        self.width, self.layers, self.causal = width, layers, causal
        blocks = []
        for i in range(layers):
            blocks.append(ResidualAttentionBlock(width, heads))
            if prompts and 0 < i < prompt_depth:
                blocks[-1].VPT_shallow = draw_prompt(prompts, width)
        self.resblocks = nn.Sequential(*blocks)

    def own_prompts(self) -> list[nn.Parameter]:
        """Those of blocks 1, 2, ... that `build_model` was asked for and nobody has taken yet."""
        return [block.VPT_shallow for block in self.resblocks if hasattr(block, "VPT_shallow")]

    def run(self, x: torch.Tensor, edits: Edits = ()) -> torch.Tensor:
        """The one loop over the blocks: x (B, L, D) -> (B, L', D), L' after what the edits did."""
        for i, block in enumerate(self.resblocks):
            for edit in edits:
                x = edit.before_block(x, i)
            wanted = [edit.needs_class_attention(i) for edit in edits]
            x, row = block(x, self.causal, any(wanted))
            for edit, wants in zip(edits, wanted, strict=True):
                if wants and row.shape[1] != x.shape[1]:
                    raise InputError(
                        f"An edit wants the attention of block {i} after another has changed its tokens: list it first."
                    )
                x = edit.after_block(x, i, row if wants else None)
        return x

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(L, B, D) -> (L, B, D): the order in which other code bases call it, on texts."""
        return self.run(x.transpose(0, 1), [TextPrompts(self.own_prompts())]).transpose(0, 1)


def check_images(image: torch.Tensor, size: int) -> None:
    """Refuse what is not a batch (B, 3, size, size)."""
    if image.shape[1:] != (3, size, size):
        raise InputError(
            f"The images have shape {tuple(image.shape)} and this backbone takes (B, 3, {size}, {size}): "
            f"give a batch of RGB images resized to {size} x {size}."
        )


class VisionTransformer(nn.Module):
    """ViT image encoder. The random parameters are drawn in OpenAI's order, for seed-exact comparison."""

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
    ):
        super().__init__()
        self.input_resolution, self.output_dim = input_resolution, output_dim
        self.conv1 = nn.Conv2d(3, width, kernel_size=patch_size, stride=patch_size, bias=False)
        if prompts and prompt_depth:
            self.VPT = draw_prompt(prompts, width)
        scale = width**-0.5
        self.class_embedding = nn.Parameter(scale * torch.randn(width))
        self.positional_embedding = nn.Parameter(scale * torch.randn((input_resolution // patch_size) ** 2 + 1, width))
        self.ln_pre = LayerNorm(width)
        self.transformer = Transformer(width, layers, heads, prompts=prompts, prompt_depth=prompt_depth)
        self.ln_post = LayerNorm(width)
        self.proj = nn.Parameter(scale * torch.randn(width, output_dim))

    def forward(self, image: torch.Tensor, edits: Edits = (), tokens: bool = False):
        """image (B, 3, H, W) -> (B, d); with `tokens` also the patch tokens that the edits left, (B, N, d)."""
        check_images(image, self.input_resolution)
        if hasattr(self, "VPT"):
            edits = [VisualPrompts([self.VPT, *self.transformer.own_prompts()]), *edits]
        x = self.conv1(image).flatten(2).transpose(1, 2)  # (B, D, H/p, W/p) -> (B, N, D)
        patches = x.shape[1]
        x = torch.cat([self.class_embedding.to(x.dtype).expand(len(x), 1, -1), x], dim=1)  # (B, 1 + N, D)
        x = x + self.positional_embedding.to(x.dtype)
        for edit in edits:
            x = edit.embed(x)
        x = self.transformer.run(self.ln_pre(x), edits)
        if not tokens:
            return self.ln_post(x[:, 0]) @ self.proj  # (B, d)
        for edit in edits:
            patches = edit.patches_left(patches)
        x = self.ln_post(x[:, : 1 + patches]) @ self.proj  # (B, 1 + N, d)
        return x[:, 0], x[:, 1:]


# --- residual network ----------------------------------------------------------------------------------------------


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1; a stride is an average pooling before the last, so that nothing is aliased."""

    expansion = 4

    def __init__(self, inplanes: int, planes: int, stride: int = 1):
        super().__init__()
        out = planes * self.expansion
        self.conv1 = nn.Conv2d(inplanes, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.relu2 = nn.ReLU(inplace=True)
        self.avgpool = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()
        self.conv3 = nn.Conv2d(planes, out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out)
        self.relu3 = nn.ReLU(inplace=True)
        self.downsample = None
        if stride > 1 or inplanes != out:
            conv = nn.Conv2d(inplanes, out, 1, bias=False)
            self.downsample = nn.Sequential(
                OrderedDict([("-1", nn.AvgPool2d(stride)), ("0", conv), ("1", nn.BatchNorm2d(out))])
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.relu1(self.bn1(self.conv1(x)))
        out = self.avgpool(self.relu2(self.bn2(self.conv2(out))))
        out = self.bn3(self.conv3(out))
        return self.relu3(out + (x if self.downsample is None else self.downsample(x)))


class AttentionPool2d(nn.Module):
    """Attention of the mean feature over all places, as the last layer of the residual network."""

    def __init__(self, spacial_dim: int, embed_dim: int, num_heads: int, output_dim: int):
        super().__init__()
        self.positional_embedding = nn.Parameter(torch.randn(spacial_dim**2 + 1, embed_dim) / embed_dim**0.5)
        self.k_proj = nn.Linear(embed_dim, embed_dim)
        self.q_proj = nn.Linear(embed_dim, embed_dim)
        self.v_proj = nn.Linear(embed_dim, embed_dim)
        self.c_proj = nn.Linear(embed_dim, output_dim)
        self.num_heads = num_heads

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, D, h, w) -> (B, d)"""
        x = x.flatten(2).transpose(1, 2)  # (B, hw, D)
        x = torch.cat([x.mean(dim=1, keepdim=True), x], dim=1)  # (B, 1 + hw, D)
        x = x + self.positional_embedding.to(x.dtype)
        heads = lambda y: y.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)  # (B, heads, L, D / heads)  # noqa: E731
        out = F.scaled_dot_product_attention(heads(self.q_proj(x[:, :1])), heads(self.k_proj(x)), heads(self.v_proj(x)))
        return self.c_proj(out.transpose(1, 2).flatten(1))


class ModifiedResNet(nn.Module):
    """ResNet with three convolutions in its stem, anti-aliased strides and an attention pool."""

    def __init__(
        self, layers: Sequence[int], output_dim: int, heads: int, input_resolution: int = 224, width: int = 64
    ):
        super().__init__()
        self.output_dim, self.input_resolution = output_dim, input_resolution
        self.conv1 = nn.Conv2d(3, width // 2, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width // 2)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width // 2, width // 2, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width // 2)
        self.relu2 = nn.ReLU(inplace=True)
        self.conv3 = nn.Conv2d(width // 2, width, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        self.relu3 = nn.ReLU(inplace=True)
        self.avgpool = nn.AvgPool2d(2)
        inplanes = width
        for stage, blocks in enumerate(layers):
            planes, stride = width * 2**stage, 1 if stage == 0 else 2
            first = Bottleneck(inplanes, planes, stride)
            inplanes = planes * Bottleneck.expansion
            setattr(
                self,
                f"layer{stage + 1}",
                nn.Sequential(first, *(Bottleneck(inplanes, planes) for _ in range(1, blocks))),
            )
        self.attnpool = AttentionPool2d(input_resolution // 32, width * 32, heads, output_dim)

    def forward(self, image: torch.Tensor, edits: Edits = (), tokens: bool = False) -> torch.Tensor:
        """image (B, 3, H, W) -> (B, d)"""
        if edits or tokens:
            raise InputError(
                "A residual network has no visual tokens to edit or return: choose a ViT backbone, such as ViT-B/16."
            )
        check_images(image, self.input_resolution)
        x = image.to(self.conv1.weight.dtype)
        for conv, norm, relu in (
            (self.conv1, self.bn1, self.relu1),
            (self.conv2, self.bn2, self.relu2),
            (self.conv3, self.bn3, self.relu3),
        ):
            x = relu(norm(conv(x)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(self.avgpool(x)))))  # (B, 32 width, H/32, W/32)
        return self.attnpool(x)


# --- both towers -----------------------------------------------------------------------------------------------------


class CLIP(nn.Module):
    """Image and text encoder with a joint space of `embed_dim` dimensions."""

    vision_class, text_class = VisionTransformer, Transformer

    def __init__(
        self,
        embed_dim: int,
        image_resolution: int,
        vision_layers: int | Sequence[int],
        vision_width: int,
        vision_patch_size: int | None,
        context_length: int,
        vocab_size: int,
        transformer_width: int,
        transformer_heads: int,
        transformer_layers: int,
        vision_prompts: tuple[int, int] = (0, 0),
        text_prompts: tuple[int, int] = (0, 0),
    ):
        """Prompts, if wanted, are (tokens, depth): drawn while the encoders are, as the field's code draws them."""
        super().__init__()
        self.context_length, self.vocab_size = context_length, vocab_size
        if isinstance(vision_layers, int):
            self.visual = self.vision_class(
                input_resolution=image_resolution,
                patch_size=vision_patch_size,
                width=vision_width,
                layers=vision_layers,
                heads=vision_width // 64,
                output_dim=embed_dim,
                prompts=vision_prompts[0],
                prompt_depth=vision_prompts[1],
            )
        else:
            self.visual = ModifiedResNet(
                layers=vision_layers,
                output_dim=embed_dim,
                heads=vision_width * 32 // 64,
                input_resolution=image_resolution,
                width=vision_width,
            )
        self.transformer = self.text_class(
            transformer_width,
            transformer_layers,
            transformer_heads,
            causal=True,
            prompts=text_prompts[0],
            prompt_depth=text_prompts[1],
        )
        self.token_embedding = nn.Embedding(vocab_size, transformer_width)
        self.positional_embedding = nn.Parameter(torch.empty(context_length, transformer_width))
        self.ln_final = LayerNorm(transformer_width)
        self.text_projection = nn.Parameter(torch.empty(transformer_width, embed_dim))
        self.logit_scale = nn.Parameter(torch.ones([]) * math.log(1 / 0.07))
        self.initialize_parameters()

    def initialize_parameters(self) -> None:
        """First values as CLIP was trained from, drawn in OpenAI's order."""
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        nn.init.normal_(self.positional_embedding, std=0.01)
        if isinstance(self.visual, ModifiedResNet):
            pool = self.visual.attnpool
            for projection in (pool.q_proj, pool.k_proj, pool.v_proj, pool.c_proj):
                nn.init.normal_(projection.weight, std=pool.c_proj.in_features**-0.5)
            for stage in (self.visual.layer1, self.visual.layer2, self.visual.layer3, self.visual.layer4):
                for name, parameter in stage.named_parameters():
                    if name.endswith("bn3.weight"):
                        nn.init.zeros_(parameter)
        width, layers = self.transformer.width, self.transformer.layers
        for block in self.transformer.resblocks:
            nn.init.normal_(block.attn.in_proj_weight, std=width**-0.5)
            nn.init.normal_(block.attn.out_proj.weight, std=width**-0.5 * (2 * layers) ** -0.5)
            nn.init.normal_(block.mlp.c_fc.weight, std=(2 * width) ** -0.5)
            nn.init.normal_(block.mlp.c_proj.weight, std=width**-0.5 * (2 * layers) ** -0.5)
        nn.init.normal_(self.text_projection, std=width**-0.5)

    @property
    def dtype(self) -> torch.dtype:
        """The precision the encoders compute in."""
        return self.visual.conv1.weight.dtype

    def encode_image(self, image: torch.Tensor, edits: Edits = (), tokens: bool = False):
        """(B, 3, H, W) -> (B, d); with `tokens` also (B, N, d)."""
        return self.visual(image.to(self.dtype), edits, tokens)

    def encode_text(self, text: torch.Tensor, edits: Edits = ()) -> torch.Tensor:
        """Token ids (n, context_length) -> (n, d); a text ends at its largest id."""
        edits = [TextPrompts(self.transformer.own_prompts()), *edits]
        return self.encode_prompts(self.token_embedding(text), text.argmax(dim=-1), edits)

    def encode_prompts(self, prompts: torch.Tensor, end: torch.Tensor, edits: Edits = ()) -> torch.Tensor:
        """Embedded tokens (n, L, D), without positions, that end at `end` (n,) -> (n, d).

        Runs no further than the longest prompt: under a causal mask what follows cannot change the result.
        """
        length, room = int(end.max()) + 1, min(prompts.shape[1], self.context_length)
        if length > room:
            raise InputError(
                f"A prompt takes {length} places and there is room for {room}: shorten its words or context."
            )
        x = prompts[:, :length].to(self.dtype) + self.positional_embedding[:length].to(self.dtype)  # (n, L, D)
        for edit in edits:
            x = edit.embed(x)
        x = self.transformer.run(x, edits)
        x = x[torch.arange(len(x), device=x.device), end]  # (n, D)
        return self.ln_final(x).to(self.dtype) @ self.text_projection.to(self.dtype)

    def forward(self, image: torch.Tensor, text: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits of images over texts, (B, n), and of texts over images, (n, B)."""
        images = F.normalize(self.encode_image(image), dim=-1)
        texts = F.normalize(self.encode_text(text), dim=-1)
        logits = self.logit_scale.exp() * images @ texts.t()
        return logits, logits.t()


# --- from a state dict -------------------------------------------------------------------------------------------------


def convert_weights(model: nn.Module) -> None:
    """Half precision for what multiplies: convolutions, linear layers, attention and projections.

    Layer norms, batch norms, embeddings and the logit scale stay in fp32.
    """
    for module in model.modules():
        if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Linear, nn.MultiheadAttention)):
            for parameter in module.parameters(recurse=False):
                parameter.data = parameter.data.half()
        for name in ("text_projection", "proj"):
            parameter = getattr(module, name, None)
            if isinstance(parameter, nn.Parameter):
                parameter.data = parameter.data.half()


def architecture(state: dict[str, torch.Tensor]) -> dict:
    """CLIP's constructor arguments, from the shapes of a state dict."""

    def count(prefix: str) -> int:
        return len({name[len(prefix) :].split(".")[0] for name in state if name.startswith(prefix)})

    if "text_projection" not in state or "visual.conv1.weight" not in state:
        raise InputError(
            "This state dict is not a CLIP's: it has no text_projection or no visual.conv1.weight (OpenAI's names)."
        )
    if "visual.proj" in state:
        width, _, patch, _ = state["visual.conv1.weight"].shape
        vision_layers = count("visual.transformer.resblocks.")
        resolution = patch * round((state["visual.positional_embedding"].shape[0] - 1) ** 0.5)
    else:
        width, patch = state["visual.layer1.0.conv1.weight"].shape[0], None
        vision_layers = tuple(count(f"visual.layer{stage}.") for stage in (1, 2, 3, 4))
        resolution = 32 * round((state["visual.attnpool.positional_embedding"].shape[0] - 1) ** 0.5)
    text_width = state["ln_final.weight"].shape[0]
    return {
        "embed_dim": state["text_projection"].shape[1],
        "image_resolution": resolution,
        "vision_layers": vision_layers,
        "vision_width": width,
        "vision_patch_size": patch,
        "context_length": state["positional_embedding"].shape[0],
        "vocab_size": state["token_embedding.weight"].shape[0],
        "transformer_width": text_width,
        "transformer_heads": text_width // 64,
        "transformer_layers": count("transformer.resblocks."),
    }


def build_model(state_dict: dict[str, torch.Tensor], design_details: dict | None = None) -> CLIP:
    """A CLIP in evaluation mode and fp16 (see `convert_weights`), with all sizes inferred from the state dict.

    `design_details` is what the MaPLe family's trainer files pass: `trainer`, and how many learned tokens
    (`vision_ctx`, `language_ctx`) the first blocks (`vision_depth`, `language_depth`) of each encoder get. They are
    parameters named as there (`visual.VPT`, `...resblocks.1.VPT_shallow`), drawn at the same place in the sequence of
    random numbers, and the encoders use them until `take_prompts` hands them to a method's own module. With
    `trainer` "MaPLe" the encoders take the prompts in their call (`maple.py`).
    """
    design = design_details or {}
    prompts = {
        "vision_prompts": (design.get("vision_ctx", 0), design.get("vision_depth", 0)),
        "text_prompts": (design.get("language_ctx", 0), design.get("language_depth", 0)),
    }
    if design.get("trainer") == "MaPLe":
        from .maple import MaPLeCLIP as kind
    else:
        kind = CLIP
    try:
        model = kind(**architecture(state_dict), **prompts)
    except KeyError as error:
        raise InputError(f"This state dict is not a whole CLIP: it has no {error.args[0]} (OpenAI's names).") from error
    convert_weights(model)
    sizes = {
        "input_resolution",
        "context_length",
        "vocab_size",
    }  # numbers that OpenAI's archives hold beside the weights
    drawn = {name: value for name, value in model.state_dict().items() if "VPT" in name}
    try:
        model.load_state_dict(drawn | {name: value for name, value in state_dict.items() if name not in sizes})
    except RuntimeError as error:
        reasons = " ".join(line.strip() for line in str(error).splitlines()[1:])
        raise InputError(f"This state dict is not a whole CLIP: {reasons}") from error
    return model.eval()


def take_prompts(model: CLIP) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Take the prompts that `build_model` drew off the encoders, which are plain CLIP again: visual ones, for blocks
    0, 1, ... and textual ones, for blocks 1, 2, ..., as `VisualPrompts` and `TextPrompts` want them.
    """
    visual = [model.visual.VPT, *model.visual.transformer.own_prompts()] if hasattr(model.visual, "VPT") else []
    text = model.transformer.own_prompts()
    for module in [module for module in model.modules() if hasattr(module, "VPT_shallow")]:
        del module.VPT_shallow
    if visual:
        del model.visual.VPT
    return visual, text
