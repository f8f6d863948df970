"""Folders with a CLIP of another library: their configs and indices say other things, or are cut short."""

import json
import shutil
from random import Random

import torch
from safetensors.torch import save_file

import clip

from .harness import RIGHT, Kind, Wrong
from .mutate import perhaps_spoilt, spoilt_json

TRANSFORMERS = {
    "model_type": "clip",
    "text_config": {"hidden_size": 8, "hidden_act": "gelu", "num_attention_heads": 2, "layer_norm_eps": 1e-5, "vocab_size": 49408, "eos_token_id": 2},
    "vision_config": {"hidden_size": 8, "hidden_act": "gelu", "num_attention_heads": 4, "layer_norm_eps": 1e-5, "image_size": 16, "patch_size": 8},
}  # fmt: skip
OPEN_CLIP = {
    "model_cfg": {
        "embed_dim": 4,
        "quick_gelu": True,
        "vision_cfg": {"image_size": 16, "layers": 1, "width": 8, "head_width": 2, "patch_size": 8},
        "text_cfg": {"context_length": 5, "vocab_size": 49408, "width": 8, "heads": 2, "layers": 1},
    },
    "preprocess_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
}
SIZES = dict(
    embed_dim=4, image_resolution=16, vision_layers=1, vision_width=8, vision_patch_size=8, context_length=5, vocab_size=49408,
    transformer_width=8, transformer_layers=1, transformer_heads=2, vision_heads=4,
)  # fmt: skip
DEAREST = (
    "hidden_act", "num_attention_heads", "layer_norm_eps", "vocab_size", "eos_token_id", "image_size", "model_type", "quick_gelu",
    "vision_cfg", "text_cfg", "head_width", "heads", "mean", "weight_map",
)  # fmt: skip


def in_names_of_transformers(state: dict) -> dict:
    """What `clip.foreign` turns round."""
    theirs = {}
    for name, value in state.items():
        if ".attn.in_proj_" in name:
            block, kind = name.split(".attn.in_proj_")
            parts = {
                f"{block}.self_attn.{which}_proj.{kind}": part
                for which, part in zip("qkv", value.chunk(3), strict=True)
            }
        else:
            parts = {name: value.t() if name in clip.foreign.TRANSPOSED else value}
        for name, value in parts.items():
            for other, ours in reversed(clip.foreign.RENAMES):
                name = name.replace(ours, other) if ours.startswith(".") or name.startswith(ours) else name
            theirs[name] = value.contiguous().clone()
    return theirs


class Backbones(Kind):
    name, inputs = "backbones", 300

    def __init__(self, folder):
        super().__init__(folder)
        torch.manual_seed(0)
        self.state = clip.model.CLIP(**SIZES).state_dict()
        self.state = {name: value for name, value in self.state.items() if name not in clip.facts.NUMBERS}
        self.first, self.second, self.open = (
            folder / name for name in ("a.safetensors", "b.safetensors", "c.safetensors")
        )
        names = in_names_of_transformers(self.state)
        half = len(names) // 2
        save_file(dict([*names.items()][:half]), self.first)
        save_file(dict([*names.items()][half:]), self.second)
        save_file(self.state, self.open)
        self.index = {"weight_map": {name: f"{'ab'[i >= half]}.safetensors" for i, name in enumerate(names)}}

    def one(self, chance: Random) -> str:
        there = self.folder / "there"
        shutil.rmtree(there, ignore_errors=True)
        there.mkdir()
        of_transformers = chance.random() < 0.6
        config = perhaps_spoilt(chance, spoilt_json(chance, TRANSFORMERS if of_transformers else OPEN_CLIP, DEAREST))
        (there / ("config.json" if of_transformers else "open_clip_config.json")).write_bytes(config)
        if of_transformers:
            index = spoilt_json(chance, self.index, DEAREST) if chance.random() < 0.3 else json.dumps(self.index)
            (there / "model.safetensors.index.json").write_bytes(perhaps_spoilt(chance, index, 0.1))
            for file in (self.first, self.second):
                (there / file.name).symlink_to(file)
        else:
            (there / "open_clip_model.safetensors").symlink_to(self.open)
        model = clip.build_model(clip.load_weights(str(there)), dtype=torch.float32)
        self.compare(model, json.loads(config), of_transformers)
        return RIGHT

    def compare(self, model, config: dict, of_transformers: bool) -> None:
        if of_transformers:
            text, said = config.get("text_config") or {}, "quick_gelu"
            said, heads = text.get("hidden_act", said), text.get("num_attention_heads") or 8
        else:
            model_cfg = config["model_cfg"]
            said, heads = (
                "quick_gelu" if model_cfg.get("quick_gelu") else "gelu",
                model_cfg["text_cfg"].get("heads") or 8,
            )
        if (model.activation, model.transformer.heads) != (said, heads):
            raise Wrong(f"{model.activation} and {model.transformer.heads} heads, where {said} and {heads} are said")
        for name, value in model.state_dict().items():
            if name in self.state and not torch.equal(value, self.state[name]):
                raise Wrong(f"other numbers under {name}")
