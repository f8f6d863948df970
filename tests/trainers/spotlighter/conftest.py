"""Fixtures of the head's tests: shots and texts, a head that remembers them, shots with regions."""

import pytest
import torch

from tests.trainers.spotlighter.world import NAMES, SCALE, B, C, D, N, unit
from trainers.spotlighter.bank import Shots, remember
from trainers.spotlighter.head import SpotlighterHead
from trainers.spotlighter.zoom import ZOOM_WIDTHS


@pytest.fixture
def world():
    """Four classes around four text features; ten images each, twelve tokens an image."""
    g = torch.Generator().manual_seed(0)
    t = unit(torch.randn(C, D, generator=g))
    z = unit(t + 0.5 * torch.randn(C, D, generator=g))
    y = torch.arange(C).repeat(B // C)
    f = unit(t[y] + 0.3 * torch.randn(B, D, generator=g) + 0.5)
    v = unit(f[:, None] + torch.randn(B, N, D, generator=g))
    new = unit(torch.randn(3, D, generator=g))
    return Shots(f, v, y), t, z, new


@pytest.fixture
def head(world):
    shots, t, z, _ = world
    head = SpotlighterHead(SCALE)
    remember(head, shots, t, z, NAMES)
    return head


@pytest.fixture
def zoomed(world):
    """Shots with regions: of the second map, at the second width, the third region shows the class plainly."""
    shots, *_ = world
    g = torch.Generator().manual_seed(1)
    again = unit(torch.randn(B, 2, len(ZOOM_WIDTHS), 3, D, generator=g))
    plainly = unit(world[1][shots.y] + 0.05 * torch.randn(B, D, generator=g))
    again[:, 1, 1, 2] = plainly
    return shots._replace(again=again)
