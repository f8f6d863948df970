"""CLIP in other libraries' checkpoints: Hugging Face's transformers and open_clip, in OpenAI's names.

A config becomes the numbers that stand beside weights (`facts.py`), a state dict one in OpenAI's names. What this CLIP
cannot be is refused, with the reason. Shapes are not looked at here: `model.architecture` reads them.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from . import facts
from .errors import InputError

VOCABULARY = 49408  # tokens of CLIP's own tokenizer
LAST_TOKEN = VOCABULARY - 1  # the end of a text
OPENAIS = "choose one with a ViT of open_clip's own, or a residual network, and CLIP's tokenizer"


def number(config: dict, key: str, default, where: str, kind: type = int):
    """A positive number of a config, which may lack it."""
    value = config.get(key)
    value = default if value is None else value
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 < value < 2**31 or value != kind(value):  # NaN is in no bounds
        raise InputError(f"The config of {where} has {value!r} as its {key}, which is no such number: correct it.")
    return kind(value)


def section(config: dict, key: str, where: str) -> dict:
    part = config.get(key) or {}
    if not isinstance(part, dict):
        raise InputError(f"The config of {where} has a {type(part).__name__} as its {key}: fetch it again.")
    return part


def side(config: dict, key: str, default: int, where: str) -> int:
    """A length of square images."""
    value = config.get(key)
    if isinstance(value, list) and len(value) == 2 and value[0] == value[1]:
        value = value[0]
    return number({key: value}, key, default, where)


def alike(values: set, what: str, where: str):
    """What image and text encoder share."""
    if len(values) > 1:
        said = " and ".join(sorted(map(repr, values)))
        raise InputError(
            f"The encoders of {where} have {said} as their {what}, and here both have one: choose another."
        )
    return values.pop()


WIDTHS = ("visual.class_embedding", "ln_final.weight")  # tensors that are as long as an encoder is wide


def check_widths(state: dict[str, Tensor], widths: tuple[int, int], where: str) -> None:
    """Refuse weights beside another model's config, or one that leaves out an encoder: heads and activation are no shapes."""
    for name, width in zip(WIDTHS, widths, strict=True):
        if name in state and state[name].shape != (width,):
            raise InputError(
                f"The config of {where} has an encoder of width {width}, and its weights one of {state[name].numel()}: "
                "fetch both again, from one place."
            )


# --- Hugging Face's transformers ----------------------------------------------------------------------------------

# In order; of a name, each that fits is replaced.
RENAMES = (
    ("vision_model.embeddings.class_embedding", "visual.class_embedding"),
    ("vision_model.embeddings.patch_embedding.", "visual.conv1."),
    ("vision_model.embeddings.position_embedding.weight", "visual.positional_embedding"),
    ("vision_model.pre_layrnorm.", "visual.ln_pre."),  # so written there
    ("vision_model.post_layernorm.", "visual.ln_post."),
    ("vision_model.encoder.layers.", "visual.transformer.resblocks."),
    ("visual_projection.weight", "visual.proj"),
    ("text_model.embeddings.token_embedding.", "token_embedding."),
    ("text_model.embeddings.position_embedding.weight", "positional_embedding"),
    ("text_model.final_layer_norm.", "ln_final."),
    ("text_model.encoder.layers.", "transformer.resblocks."),
    ("text_projection.weight", "text_projection"),
    (".self_attn.out_proj.", ".attn.out_proj."),
    (".layer_norm1.", ".ln_1."),
    (".layer_norm2.", ".ln_2."),
    (".mlp.fc1.", ".mlp.c_fc."),
    (".mlp.fc2.", ".mlp.c_proj."),
)
TRANSPOSED = ("visual.proj", "text_projection")  # linear layers there
ACTIVATIONS = ("quick_gelu", "gelu")


def is_of_transformers(state: dict[str, Tensor]) -> bool:
    return any(name.startswith(("vision_model.", "text_model.")) for name in state)


def facts_of_transformers(config: dict, where: str) -> dict[str, float]:
    """Of a `CLIPModel`'s config.json."""
    if (kind := config.get("model_type")) != "clip":
        raise InputError(
            f"{where} is a model of type {kind!r} by its config.json, and no CLIP: choose one of type 'clip'."
        )
    vision, text = (encoder(config, name, where) for name in ("vision_config", "text_config"))
    if (size := number(text, "vocab_size", VOCABULARY, where)) != VOCABULARY:
        raise InputError(
            f"{where} has a tokenizer of {size:,} tokens, and this CLIP one of {VOCABULARY:,}: choose one with CLIP's own."
        )
    if (end := text.get("eos_token_id", 2)) not in (2, LAST_TOKEN, None):  # 2 is there for the largest token
        raise InputError(
            f"Texts of {where} end at the token {end!r}, and CLIP's at {LAST_TOKEN}: choose one with CLIP's tokenizer."
        )
    activation = alike({str(part.get("hidden_act", "quick_gelu")) for part in (vision, text)}, "hidden_act", where)
    if activation not in ACTIVATIONS:
        raise InputError(
            f"{where} computes with {activation}, which no CLIP here does: choose one with gelu or quick_gelu."
        )
    return {
        facts.QUICK_GELU: float(activation == "quick_gelu"),
        facts.VISION_HEADS: number(vision, "num_attention_heads", 12, where),
        facts.TEXT_HEADS: number(text, "num_attention_heads", 8, where),
        facts.EPS: alike(
            {number(part, "layer_norm_eps", 1e-5, where, float) for part in (vision, text)}, "layer_norm_eps", where
        ),
        facts.RESOLUTION: side(vision, "image_size", 224, where),
    }


def widths_of_transformers(config: dict, where: str) -> tuple[int, int]:
    """Of the image and the text encoder."""
    vision, text = (encoder(config, name, where) for name in ("vision_config", "text_config"))
    return number(vision, "hidden_size", 768, where), number(text, "hidden_size", 512, where)


def encoder(config: dict, name: str, where: str) -> dict:
    """An encoder's part of the config; older files may have it twice, and that library takes the other one then."""
    return section(config, name if config.get(f"{name}_dict") is None else f"{name}_dict", where)


def from_transformers(state: dict[str, Tensor], where: str) -> dict[str, Tensor]:
    """A `CLIPModel`'s weights in OpenAI's names: queries, keys and values joined, linear projections transposed."""
    renamed = {}
    for name, value in state.items():
        if name.endswith(".position_ids"):  # 0, 1, 2, ..., in files of before
            continue
        for theirs, ours in RENAMES:
            name = name.replace(theirs, ours)
        renamed[name] = value.t() if name in TRANSPOSED else value
    return join_projections(renamed, where)


def join_projections(state: dict[str, Tensor], where: str) -> dict[str, Tensor]:
    joined = {name: value for name, value in state.items() if ".self_attn." not in name}
    for name in state:
        block, _, rest = name.partition(".self_attn.q_proj.")
        if not rest:
            continue
        names = [f"{block}.self_attn.{which}_proj.{rest}" for which in "qkv"]
        if missing := [each for each in names if each not in state]:
            raise InputError(f"{where} is not a whole CLIP: it has no {missing[0]}; fetch it again.")
        joined[f"{block}.attn.in_proj_{rest}"] = torch.cat([state[each] for each in names])  # (3 D, ...)
    return joined


# --- open_clip ----------------------------------------------------------------------------------------------------

KNOWN = {
    "vision_cfg": {"layers", "width", "head_width", "mlp_ratio", "patch_size", "image_size", "patch_dropout"},
    "text_cfg": {"context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio", "output_tokens", "pad_id", "eos_id"},
}  # fmt: skip
USUAL = {"pool_type": ("tok", "argmax"), "pos_embed_type": ("learnable",), "proj_type": ("linear",)}
WHY: dict[str, Callable[[object], str]] = {
    "timm_model_name": lambda name: f"its image encoder is timm's {name}",
    "hf_model_name": lambda name: f"its text encoder is {name}",
    "hf_tokenizer_name": lambda name: f"its tokenizer is that of {name}",
    "tokenizer_kwargs": lambda _: "its tokenizer is not CLIP's",
    "multimodal_cfg": lambda _: "it is a CoCa, with a third encoder",
    "init_logit_bias": lambda _: "it is a SigLIP, whose logits have a bias",
}
NOT_CLIPS = {  # by the beginning of a tensor's name
    "logit_bias": "it is a SigLIP, whose logits have a bias",
    "text_decoder.": "it is a CoCa, with a third encoder",
    "visual.trunk.": "its image encoder is timm's",
    "visual.head.": "its image encoder is timm's",
    "text.transformer.embeddings.": "its text encoder is Hugging Face's",
    "text.proj.": "its text encoder is Hugging Face's",
    "visual.attn_pool.": "its image encoder pools by attention",
}


def facts_of_open_clip(config: dict, where: str, quick_gelu: bool | None = None) -> dict[str, float]:
    """Of a model's config. quick_gelu: what is known of its weights, which the model's name need not say."""
    vision, text = section(config, "vision_cfg", where), section(config, "text_cfg", where)
    if not vision or not text:
        raise InputError(f"The config of {where} has no vision_cfg or no text_cfg: fetch it again.")
    for part in ({key: config.get(key) for key in ("multimodal_cfg", "init_logit_bias")}, vision, text):
        if reason := next((why(part[key]) for key, why in WHY.items() if part.get(key)), ""):
            raise InputError(f"{where} cannot be loaded, as {reason}: {OPENAIS}.")
    for name, part in (("vision_cfg", vision), ("text_cfg", text)):
        for key, value in part.items():
            if key not in KNOWN[name] | {"norm_kwargs"} and value and value not in USUAL.get(key, ()):
                raise InputError(f"{where} cannot be loaded, as its {name} has {key} {value!r}: {OPENAIS}.")
    if (size := number(text, "vocab_size", VOCABULARY, where)) != VOCABULARY:
        raise InputError(f"{where} cannot be loaded, as its tokenizer has {size:,} tokens: {OPENAIS}.")
    residual = isinstance(vision.get("layers"), list)
    width = number(vision, "width", 64 if residual else 768, where) * (32 if residual else 1)
    quick = bool(config.get("quick_gelu")) if quick_gelu is None else quick_gelu
    return {
        facts.QUICK_GELU: float(quick),
        facts.VISION_HEADS: width // number(vision, "head_width", 64, where),
        facts.TEXT_HEADS: number(text, "heads", 8, where),
        facts.EPS: alike({eps_of(part, where) for part in (vision, text)}, "eps", where),
        facts.RESOLUTION: side(vision, "image_size", 224, where),
    }


def widths_of_open_clip(config: dict, where: str) -> tuple[int, int]:
    """Of the image encoder, if it is a ViT, and the text encoder."""
    vision, text = section(config, "vision_cfg", where), section(config, "text_cfg", where)
    return number(vision, "width", 768, where), number(text, "width", 512, where)


def eps_of(part: dict, where: str) -> float:
    return number(section(part, "norm_kwargs", where), "eps", 1e-5, where, float)


def from_open_clip(state: dict[str, Tensor], where: str) -> dict[str, Tensor]:
    """open_clip's weights have OpenAI's names, but for a `text.` before the text encoder's in some."""
    for beginning, reason in NOT_CLIPS.items():
        if any(name.startswith(beginning) for name in state):
            raise InputError(f"{where} cannot be loaded, as {reason}: {OPENAIS}.")
    return {name.removeprefix("text."): value for name, value in state.items() if name != "attn_mask"}
