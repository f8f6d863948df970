"""CLIP: Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021.

Written anew, in the names and shapes of OpenAI's published state dicts, so that their weights load as they are.
Its encoders stand in `vit.py` and `resnet.py`; all their names are those of this module too, as in OpenAI's code.

    B images      C texts, such as one for each class      L tokens      D width      d joint width      N patches
"""

import math
from collections.abc import Sequence

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from . import facts
from .edits import Edit, Edits, TextPrompts, VisualPrompts, batch_of  # noqa: F401  names of this module too
from .errors import InputError, check_images  # noqa: F401
from .maple import MaPLeText, MaPLeVision
from .parts import Texts, activations_of, in_parts, pieces_of
from .resnet import AttentionPool2d, Bottleneck, ModifiedResNet  # noqa: F401
from .shared import encode_spans, fits, texts_of
from .vit import (  # noqa: F401
    Attention,
    LayerNorm,
    QuickGELU,
    ResidualAttentionBlock,
    Transformer,
    VisionTransformer,
    draw_prompt,
)


class CLIP(nn.Module):
    """Image and text encoder with a joint space of `embed_dim` dimensions."""

    vision_class, text_class = VisionTransformer, Transformer
    text_memory = math.inf  # bytes that the text encoder's activations may take at a time

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
        vision_heads: int = 0,
        vision_mlp: int = 0,
        transformer_mlp: int = 0,
        activation: str = "quick_gelu",
        eps: float = 1e-5,
    ):
        """Prompts, if wanted, are (tokens, depth): drawn while the encoders are, as the field's code draws them.

        vision_heads: 0 is one for each 64 of the width. *_mlp: see `ResidualAttentionBlock`. eps: of the layer norms.
        """
        super().__init__()
        self.context_length, self.vocab_size = context_length, vocab_size
        self.activation, self.eps = activation, eps
        self.visual: VisionTransformer | ModifiedResNet
        if isinstance(vision_layers, int):
            self.visual = self.vision_class(
                input_resolution=image_resolution,
                patch_size=vision_patch_size,  # type: ignore[arg-type]  # None for a residual network alone
                width=vision_width,
                layers=vision_layers,
                heads=vision_heads or vision_width // 64,
                output_dim=embed_dim,
                prompts=vision_prompts[0],
                prompt_depth=vision_prompts[1],
                eps=eps,
                mlp=vision_mlp,
                activation=activation,
            )
        else:
            self.visual = ModifiedResNet(
                layers=vision_layers,
                output_dim=embed_dim,
                heads=vision_heads or vision_width * 32 // 64,
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
            mlp=transformer_mlp,
            activation=activation,
            eps=eps,
        )
        self.token_embedding = nn.Embedding(vocab_size, transformer_width)
        self.positional_embedding = nn.Parameter(torch.empty(context_length, transformer_width))
        self.ln_final = LayerNorm(transformer_width, eps)
        self.text_projection = nn.Parameter(torch.empty(transformer_width, embed_dim))
        self.logit_scale = nn.Parameter(torch.ones([]) * math.log(1 / 0.07))
        self.initialize_parameters()
        self.register_state_dict_post_hook(_add_facts)
        self.register_load_state_dict_pre_hook(_drop_facts)

    @property
    def facts(self) -> dict[str, float]:
        """What it is beside its weights (`facts.py`)."""
        visual = self.visual
        vision = visual.attnpool.num_heads if isinstance(visual, ModifiedResNet) else visual.transformer.heads
        values = (float(self.activation == "quick_gelu"), vision, self.transformer.heads, self.eps)
        return dict(zip(facts.OURS, values, strict=True))

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
            for name, std in (
                ("attn.in_proj_weight", width**-0.5),
                ("attn.out_proj.weight", width**-0.5 * (2 * layers) ** -0.5),
                ("mlp.c_fc.weight", (2 * width) ** -0.5),
                ("mlp.c_proj.weight", width**-0.5 * (2 * layers) ** -0.5),
            ):
                nn.init.normal_(block.get_parameter(name), std=std)
        nn.init.normal_(self.text_projection, std=width**-0.5)

    @property
    def dtype(self) -> torch.dtype:
        """The precision the encoders compute in."""
        return self.visual.conv1.weight.dtype

    def encode_image(self, image: Tensor, edits: Edits = (), tokens: bool = False):
        """(B, 3, H, W) -> (B, d); with `tokens` also (B, N, d)."""
        return self.visual(image.to(self.dtype), edits=edits, tokens=tokens)

    def encode_text(self, text: Tensor, edits: Edits = ()) -> Tensor:
        """Token ids (C, context_length) -> (C, d); a text ends at its largest id."""
        edits = [TextPrompts(self.transformer.own_prompts()), *edits]
        known = texts_of(text)
        return self.encode_prompts(self.token_embedding(text), text.argmax(dim=-1), edits, known.lengths, known.shared)

    def encode_prompts(
        self,
        prompts: Tensor,
        end: Tensor,
        edits: Edits = (),
        lengths: int | Sequence[int] | None = None,
        shared: int = 0,
        groups: int = 1,
    ) -> Tensor:
        """Embedded tokens (C, L, D), without positions, that end at `end` (C,) -> (C, d).

        Runs no further than their ends: under a causal mask what follows cannot change the result. Who knows the
        `lengths`, of each prompt or of the longest, says them; to look them up, a GPU has to be waited for. Prompts that
        take more than `text_memory` together are encoded in parts. The first `shared` places, before any end, are the
        same in all prompts; or in those of each of so many `groups`, which follow one another and are of the same lengths.
        """
        C = prompts.shape[0] // groups
        if lengths is None:
            lengths = (end[:C] + 1).tolist()
        lengths = (lengths,) * C if isinstance(lengths, int) else tuple(lengths)
        length, room = max(lengths, default=1), min(prompts.shape[1], self.context_length)
        if length > room:
            raise InputError(
                f"A prompt takes {length} places and there is room for {room}: shorten its words or context."
            )
        texts = Texts(lengths, shared if C > 1 else 0, groups)
        packs = fits(self.transformer, edits, texts.shared)
        if not packs:
            texts = Texts((length,) * C, 0, groups)

        added = sum(edit.added for edit in edits)

        def encode(some: slice, rows: slice) -> Tensor:
            own = texts.lengths[rows]
            shape = (groups, C, *prompts.shape[1:])
            x = prompts.view(shape)[some, rows, : max(own, default=1)].to(self.dtype)  # (G, C, L, D)
            G, C_some, L, _ = x.shape
            x = (x + self.positional_embedding[:L].to(self.dtype)).flatten(0, 1)  # (G C, L, D)
            edits_here = [edit.of_rows(rows) for edit in edits]
            for edit in edits_here:
                x = edit.embed(x)
            last = end.view(groups, C)[some, rows]  # (G, C)
            if packs and (texts.shared or len(set(own)) > 1):
                x = x.unflatten(0, (G, C_some))
                x = encode_spans(self.transformer, x, last[0], own, texts.shared, edits_here).flatten(0, 1)
            else:
                x = self.transformer.run(x, edits_here)
                x = x[torch.arange(x.shape[0], device=x.device), last.flatten() + added]  # (G C, D)
            return self.ln_final(x).to(self.dtype) @ self.text_projection.to(self.dtype)

        wider = texts._replace(lengths=tuple(length + added for length in texts.lengths))
        return in_parts(encode, self.text_parts(wider), prompts.device, any(edit.draws for edit in edits))

    def text_parts(self, texts: Texts) -> list[tuple[slice, slice]]:
        """The parts in which prompts are encoded: which groups and which of their rows."""
        if torch.compiler.is_compiling():  # what is compiled is never parted
            return [(slice(0, texts.groups), slice(0, len(texts.lengths)))]
        return pieces_of(texts, lambda some: self.text_size(some, torch.is_grad_enabled()), self.text_memory)

    def text_size(self, texts: Texts, learns: bool) -> int:
        """Bytes that the activations of prompts take together."""
        return activations_of(self.transformer, texts, self.dtype, learns, self.text_projection.device.type)

    def forward(self, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of images over texts, (B, C), and of texts over images, (C, B)."""
        images = F.normalize(self.encode_image(image), dim=-1)
        texts = F.normalize(self.encode_text(text), dim=-1)
        logits = self.logit_scale.exp() * images @ texts.t()
        return logits, logits.t()


def _add_facts(model: CLIP, state: dict, prefix: str, *_) -> None:
    """To its state dict, which a model as OpenAI's are does without."""
    width = model.visual.conv1.out_channels  # of a residual network's first layer: a 64th of its last's
    vision_heads = width if isinstance(model.visual, ModifiedResNet) else width // 64
    if tuple(model.facts.values()) != (1.0, vision_heads, model.transformer.width // 64, 1e-5):
        state.update({prefix + name: value for name, value in facts.written(model.facts).items()})


def _drop_facts(model: CLIP, state: dict, prefix: str, *_) -> None:
    for name in facts.OURS:
        state.pop(prefix + name, None)


class MaPLeCLIP(CLIP):
    """CLIP whose encoders take prompts in their call, as trainer files of MaPLe's family hand them over."""

    vision_class, text_class = MaPLeVision, MaPLeText


# --- from a state dict -------------------------------------------------------------------------------------------------


def convert_weights(model: nn.Module, dtype: torch.dtype = torch.float16) -> None:
    """Half precision `dtype` for what multiplies: convolutions, linear layers, attention and projections.

    Layer norms, batch norms, embeddings and the logit scale stay in fp32.
    """
    for module in model.modules():
        if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Linear, nn.MultiheadAttention)):
            for parameter in module.parameters(recurse=False):
                parameter.data = parameter.data.to(dtype)
        for name in ("text_projection", "proj"):
            projection = getattr(module, name, None)
            if isinstance(projection, nn.Parameter):
                projection.data = projection.data.to(dtype)


def architecture(state: dict[str, Tensor]) -> dict:
    """CLIP's constructor arguments, from the shapes of a state dict and the numbers beside its weights (`facts.py`)."""

    def count(prefix: str) -> int:
        return len({name[len(prefix) :].split(".")[0] for name in state if name.startswith(prefix)})

    if "text_projection" not in state or "visual.conv1.weight" not in state:
        raise InputError(
            "This state dict is not a CLIP's: it has no text_projection or no visual.conv1.weight (OpenAI's names)."
        )
    if "visual.proj" in state:
        width, _, patch, _ = state["visual.conv1.weight"].shape
        vision_layers: int | tuple[int, ...] = count("visual.transformer.resblocks.")
        side = round((state["visual.positional_embedding"].shape[0] - 1) ** 0.5)  # patches
        stated = int(facts.read(state, facts.RESOLUTION, 0))
        resolution = stated if stated // patch == side else patch * side  # the last pixels may fill no patch
        vision_heads = facts.heads_of(state, facts.VISION_HEADS, width, width // 64)
        mlp = state["visual.transformer.resblocks.0.mlp.c_fc.weight"].shape[0]
    else:
        width, patch = state["visual.layer1.0.conv1.weight"].shape[0], None
        vision_layers = tuple(count(f"visual.layer{stage}.") for stage in (1, 2, 3, 4))
        resolution = 32 * round((state["visual.attnpool.positional_embedding"].shape[0] - 1) ** 0.5)
        vision_heads, mlp = facts.heads_of(state, facts.VISION_HEADS, 32 * width, width // 2), 0
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
        "transformer_heads": facts.heads_of(state, facts.TEXT_HEADS, text_width, text_width // 64),
        "transformer_layers": count("transformer.resblocks."),
        "vision_heads": vision_heads,
        "vision_mlp": mlp,
        "transformer_mlp": state["transformer.resblocks.0.mlp.c_fc.weight"].shape[0],
        "activation": facts.activation_of(state),
        "eps": facts.read(state, facts.EPS, 1e-5),
    }


def build_model(
    state_dict: dict[str, Tensor], design_details: dict | None = None, dtype: torch.dtype = torch.float16
) -> CLIP:
    """A CLIP in evaluation mode and fp16 (see `convert_weights`), with all sizes inferred from the state dict.

    dtype: another half precision in place of fp16, or `torch.float32`.

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
    kind = MaPLeCLIP if design.get("trainer") == "MaPLe" else CLIP
    try:
        model = kind(**architecture(state_dict) | prompts)
    except KeyError as error:
        raise InputError(f"This state dict is not a whole CLIP: it has no {error.args[0]} (OpenAI's names).") from error
    except InputError:
        raise
    except (IndexError, ValueError, ArithmeticError) as error:
        raise InputError(
            f"This state dict is not a CLIP's: its tensors have shapes that no CLIP has ({error})."
        ) from error
    if dtype != torch.float32:
        convert_weights(model, dtype)
    drawn = {name: value for name, value in model.state_dict().items() if "VPT" in name}
    try:
        model.load_state_dict(drawn | {name: value for name, value in state_dict.items() if name not in facts.NUMBERS})
    except RuntimeError as error:
        reasons = " ".join(line.strip() for line in str(error).splitlines()[1:])
        raise InputError(f"This state dict is not a whole CLIP: {reasons}") from error
    return model.eval()


def take_prompts(model: CLIP) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Take the prompts that `build_model` drew off the encoders, which are plain CLIP again: visual ones, for blocks
    0, 1, ... and textual ones, for blocks 1, 2, ..., as `VisualPrompts` and `TextPrompts` want them.
    """
    visual: list[nn.Parameter] = []
    if isinstance(model.visual, VisionTransformer) and hasattr(model.visual, "VPT"):
        visual = [model.visual.VPT, *model.visual.transformer.own_prompts()]
        del model.visual.VPT
    text = model.transformer.own_prompts()
    for module in [module for module in model.modules() if hasattr(module, "VPT_shallow")]:
        del module.VPT_shallow
    return visual, text
