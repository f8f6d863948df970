"""Random weights in OpenAI's names and shapes, and the same model as open_clip builds it, to compare with."""

import warnings

import torch

import clip

SMALL = dict(
    embed_dim=32, image_resolution=32, vision_layers=2, vision_width=128, vision_patch_size=8, context_length=77,
    vocab_size=49408, transformer_width=128, transformer_heads=2, transformer_layers=2,
)  # fmt: skip
TEXT = dict(context_length=77, vocab_size=49408, transformer_width=512, transformer_heads=8, transformer_layers=12)
FULL = {
    "ViT-B/16": dict(
        embed_dim=512, image_resolution=224, vision_layers=12, vision_width=768, vision_patch_size=16, **TEXT
    ),
    "ViT-B/32": dict(
        embed_dim=512, image_resolution=224, vision_layers=12, vision_width=768, vision_patch_size=32, **TEXT
    ),
    "RN50": dict(
        embed_dim=1024,
        image_resolution=224,
        vision_layers=(3, 4, 6, 3),
        vision_width=64,
        vision_patch_size=None,
        **TEXT,
    ),
}


def random_state(sizes: dict, seed: int = 0) -> dict[str, torch.Tensor]:
    """Weights at which nothing is trivially zero or one: norms and biases are moved off their first values."""
    torch.manual_seed(seed)
    state = clip.model.CLIP(**sizes).state_dict()
    for name, value in state.items():
        if value.dtype.is_floating_point and (
            name.endswith("bias") or "ln_" in name or "bn" in name or "running" in name
        ):
            value.add_(0.1 * torch.rand(value.shape))
    return state


def open_clip_model(state: dict[str, torch.Tensor]):
    """open_clip's model with these weights, fp32, evaluation mode."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from open_clip.model import build_model_from_openai_state_dict

        return (
            build_model_from_openai_state_dict(
                {name: value.clone() for name, value in state.items()}, cast_dtype=torch.float32
            )
            .float()
            .eval()
        )
