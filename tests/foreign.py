"""Small checkpoints of other libraries, written by these libraries themselves, and what they compute."""

import copy
import json
from pathlib import Path

import pytest
import torch

TRANSFORMERS = {
    "model_type": "clip",
    "projection_dim": 32,
    "vision_config": {"hidden_size": 80, "num_attention_heads": 5, "num_hidden_layers": 2, "intermediate_size": 320, "image_size": 64, "patch_size": 8, "hidden_act": "quick_gelu"},
    "text_config": {"hidden_size": 96, "num_attention_heads": 4, "num_hidden_layers": 2, "intermediate_size": 384, "hidden_act": "quick_gelu"},
}  # fmt: skip
OPEN_CLIP = {
    "embed_dim": 32,
    "vision_cfg": {"layers": 2, "width": 128, "patch_size": 8, "image_size": 32},
    "text_cfg": {"layers": 2, "width": 128, "heads": 2, "context_length": 77, "vocab_size": 49408},
}


def with_changes(config: dict, changes: dict) -> dict:
    """{"vision_config.hidden_act": "gelu"} changes that key."""
    config = copy.deepcopy(config)
    for key, value in changes.items():
        *sections, last = key.split(".")
        node = config
        for each in sections:
            node = node[each]
        node[last] = value
    return config


def moved(model: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Weights at which no norm or bias is trivially one or zero, and at which activations matter."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim():
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
            else:
                parameter.fill_(3.7268)  # the logarithm of a scale
    return model.eval()


def of_transformers(folder: Path, changes: dict | None = None, **options) -> torch.nn.Module:
    """A `CLIPModel` that it has saved in a folder."""
    transformers = pytest.importorskip("transformers", reason="transformers writes and computes the reference")
    config = transformers.CLIPConfig(**with_changes(TRANSFORMERS, changes or {}))
    model = moved(transformers.CLIPModel(config))
    model.save_pretrained(folder, **options)
    return model


def of_open_clip(folder: Path | None = None, changes: dict | None = None, custom: bool = False) -> torch.nn.Module:
    """open_clip's model, and what its hub would have of it in a folder."""
    from open_clip.model import CLIP, CustomTextCLIP
    from safetensors.torch import save_file

    config = with_changes(OPEN_CLIP, changes or {})
    model = moved((CustomTextCLIP if custom else CLIP)(**config))
    if folder is not None:
        folder.mkdir(exist_ok=True)
        save_file(model.state_dict(), folder / "open_clip_model.safetensors")
        (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
    return model


@torch.no_grad()
def features(model: torch.nn.Module, images, tokens) -> tuple[torch.Tensor, torch.Tensor]:
    """Of images and texts, by ours, open_clip's or transformers' model."""
    if not hasattr(model, "get_image_features"):
        return model.encode_image(images), model.encode_text(tokens)
    found = model.get_image_features(pixel_values=images), model.get_text_features(input_ids=tokens)
    return tuple(getattr(each, "pooler_output", each) for each in found)
