"""A small CLIP with random weights, for all tests of this folder."""

import pytest

import clip
from tests.clip_weights import SMALL, random_state


@pytest.fixture(scope="module")
def small():
    """fp32, evaluation mode."""
    return clip.build_model(random_state(SMALL)).float()
