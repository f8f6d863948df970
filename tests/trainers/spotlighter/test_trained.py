"""What is trained (trainers/spotlighter/trained.py): 21 scalars, and the paper's mapping modules."""

import torch

from tests.trainers.spotlighter.world import NAMES, SCALE, D
from trainers.spotlighter.bank import remember
from trainers.spotlighter.fit import fit_scalars
from trainers.spotlighter.head import SpotlighterHead


def test_exactly_21_scalars(head):
    assert sum(p.numel() for p in head.parameters()) == 21
    assert all(p.requires_grad for p in head.parameters())


def test_the_full_head_adds_its_agreement_to_the_cosines(world):
    shots, t, z, _ = world
    head = SpotlighterHead(SCALE, full=D)
    assert sum(p.numel() for p in head.parameters()) > 21
    remember(head, shots, t, z, NAMES)
    classes = head.describe(t, z, NAMES)
    with torch.no_grad():
        both = head(shots.f, shots.v, classes)
        head.mapping.beta.zero_()
        alone = head(shots.f, shots.v, classes)
        lite = SpotlighterHead(SCALE)
        remember(lite, shots, t, z, NAMES)
    torch.testing.assert_close(alone, lite(shots.f, shots.v, lite.describe(t, z, NAMES)).detach(), atol=1e-5, rtol=0)
    assert (both - alone).abs().max() > 0.1
    fitted = SpotlighterHead(SCALE, full=D)
    before = [p.detach().clone() for p in fitted.mapping.parameters()]
    fit_scalars(fitted, shots, t, z, pull=0.0, levels=0.5, unseen=0.5, seed=1)
    moved = [not torch.equal(p, p0) for p, p0 in zip(fitted.mapping.parameters(), before, strict=True)]
    assert sum(moved) >= len(moved) - 1
