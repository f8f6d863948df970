"""The bank (trainers/spotlighter/bank.py): what is computed from the shots in closed form, against its definition."""

import pytest
import torch

from tests.trainers.spotlighter.world import NAMES, SCALE, B, C, D, K, unit
from trainers.spotlighter.bank import cluster, remember
from trainers.spotlighter.classes import Classes
from trainers.spotlighter.head import SpotlighterHead


def test_the_bank_solves_its_ridge(head, world):
    """S minimises |sqrt(N) (X X' S - R)|^2 + lambda tr(S' X X' S), so (X X' + lambda / N) S = R."""
    shots, t, z, _ = world
    bank, q = head.bank, head.scalars
    anchored = unit(t + q.b * z)
    index = cluster(shots.f, shots.y, C, K)
    for m in range(C * K):
        mine = index == m
        assert bank.counts[m] == mine.sum()
        if not mine.any():
            continue
        mean_image = (shots.f[mine] - shots.f.mean(0)).mean(0)
        torch.testing.assert_close(bank.keys[m, :D], q.omega[0] * mean_image, atol=1e-5, rtol=0)
        target = anchored[m // K] - anchored.mean(0) - mean_image
        left = bank.keys[m] @ bank.keys.t() @ bank.map + q.log_lambda.exp() / mine.sum() * bank.map[m]
        torch.testing.assert_close(left, target, atol=1e-4, rtol=0)


def test_clusters_stay_within_their_class(world):
    shots, *_ = world
    index = cluster(shots.f, shots.y, C, K)
    assert torch.equal(index // K, shots.y)
    assert len(index.unique()) > 2 * C  # more than two clusters a class are in use
    means = torch.stack([unit(shots.f[index == m].mean(0)) for m in index.unique()])
    nearest = (shots.f @ means.t()).masked_fill((index.unique() // K)[None] != shots.y[:, None], -2).argmax(1)
    assert (index.unique()[nearest] == index).float().mean() > 0.8  # nearly settled after a few steps


@pytest.mark.parametrize("shots_a_class", [1, 2, 3])
def test_few_shots_leave_clusters_empty_and_numbers_finite(world, shots_a_class):
    shots, t, z, new = world
    head = SpotlighterHead(SCALE)
    few = shots[torch.arange(C * shots_a_class)]
    remember(head, few, t, z, NAMES)
    assert all(torch.isfinite(buffer).all() for buffer in head.buffers())
    logits = head(shots.f, shots.v, head.describe(new, new, ["a", "b", "c"]))
    assert torch.isfinite(logits).all() and logits.shape == (B, 3)


def test_prototypes_are_means_of_first_levels(head, world):
    """Each prototype is the mean first-level vector of its cluster's images."""
    shots, *_ = world
    bank, index = head.bank, cluster(shots.f, shots.y, C, K)
    chosen = head.select(
        shots.f, shots.v, Classes(bank.text, bank.text[:, None]), bank.image_mean, bank.token_mean, semantic=False
    )
    first = head.levels(chosen)[:, 0]
    for m in index.unique().tolist():
        torch.testing.assert_close(bank.prototypes[m // K, m % K], unit(first[index == m].mean(0)), atol=1e-5, rtol=0)
