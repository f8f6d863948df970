"""The residual network (../clip/resnet.py); its features are held to open_clip's in test_model.py."""

import pytest
import torch

import clip
from clip import Edit


def test_a_residual_network_has_no_tokens():
    network = clip.model.ModifiedResNet(layers=(1, 1, 1, 1), output_dim=8, heads=2, input_resolution=32, width=4)
    assert network.eval()(torch.zeros(1, 3, 32, 32)).shape == (1, 8)
    with pytest.raises(clip.InputError, match="ViT"):
        network(torch.zeros(1, 3, 32, 32), edits=(Edit(),))
    with pytest.raises(clip.InputError, match="ViT"):
        network(torch.zeros(1, 3, 32, 32), tokens=True)
    with pytest.raises(clip.InputError, match="resized to 32 x 32"):
        network(torch.zeros(1, 3, 64, 64))
