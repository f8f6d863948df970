"""Positions for images and texts of other lengths (../clip/positions.py)."""

import pytest
import torch

import clip
from clip.errors import InputError
from tests.clip_weights import SMALL, random_state
from tests.foreign import of_open_clip

RESNET = SMALL | dict(vision_layers=(1, 1, 1, 1), vision_width=64, vision_patch_size=None, image_resolution=64)


@torch.no_grad()
@pytest.mark.parametrize("size", [64, 16, 67, 8])
def test_larger_and_smaller_images(tmp_path, size):
    """As open_clip moves its own models."""
    from open_clip.model import resize_pos_embed

    state = of_open_clip(tmp_path).state_dict()
    theirs = of_open_clip(changes={"vision_cfg.image_size": size})
    resize_pos_embed(state, theirs)
    theirs.load_state_dict(state)
    ours = clip.build_model(clip.load_weights(str(tmp_path), size=size), dtype=torch.float32)
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    assert ours.visual.input_resolution == size
    torch.testing.assert_close(ours.encode_image(images), theirs.encode_image(images), atol=1e-4, rtol=1e-5)


def test_the_same_size_changes_nothing():
    state = clip.load_weights("ViT-Embedded/8")
    assert torch.equal(clip.load_weights("ViT-Embedded/8", size=64)["visual.positional_embedding"], state["visual.positional_embedding"])  # fmt: skip


def test_what_cannot_be_resized(tmp_path):
    torch.save(random_state(RESNET), tmp_path / "resnet.pt")
    with pytest.raises(InputError, match="residual network are not resized: set MODEL.BACKBONE.RESIZE_POSITIONS False"):
        clip.load_weights(str(tmp_path / "resnet.pt"), size=96)
    with pytest.raises(InputError, match="INPUT.SIZE 7 is smaller than one patch of 8 pixels"):
        clip.load_weights("ViT-Embedded/8", size=7)
    for shape in ((4, 64), (66, 64), (65,), (), (0, 64)):  # 3 and 65 patches fill no square
        torch.save(random_state(SMALL) | {"visual.positional_embedding": torch.zeros(shape)}, tmp_path / "other.pt")
        with pytest.raises(InputError, match="are none of a square image's patches"):
            clip.load_weights(str(tmp_path / "other.pt"), size=96)


@torch.no_grad()
def test_long_clip(tmp_path):
    """Its own files have a second table, which counts from the 21st place on."""
    state = random_state(SMALL | {"context_length": 248})
    behind = torch.randn(state["positional_embedding"].shape)
    torch.save(state | {"positional_embedding_res": behind}, tmp_path / "longclip.pt")
    model = clip.build_model(clip.load_weights(str(tmp_path / "longclip.pt"))).float()
    mask = (torch.arange(248) < 20).float()[:, None]
    torch.testing.assert_close(model.positional_embedding, mask * state["positional_embedding"] + (1 - mask) * behind)
    tokens = clip.tokenize("very " * 100 + "long", model.context_length)
    assert model.encode_text(tokens).shape == (1, 32) and model.context_length == 248
