"""The bank (trainers/spotlighter/bank.py): what is computed from the shots in closed form, against its definition."""

import pytest
import torch

from tests.trainers.spotlighter.world import NAMES, SCALE, B, C, D, K, ridge_by_clusters, unit
from trainers.spotlighter.bank import cluster, remember
from trainers.spotlighter.classes import Classes
from trainers.spotlighter.head import SpotlighterHead


@pytest.mark.parametrize("count", [K, 15])  # 20 and 60 clusters, beside 48 features
def test_the_bank_solves_its_ridge(world, count):
    """In whichever form is smaller it is its definition, in double precision."""
    shots, t, z, _ = world
    head = SpotlighterHead(SCALE, prototypes=count)
    with torch.no_grad():
        remember(head, shots, t, z, NAMES)
        bank, q = head.bank, head.scalars
        described = head.describe(t, z, NAMES)
        levels = head.levels(head.explain(shots.f, shots.v, described, bank.image_mean, bank.token_mean).selection)
        index = cluster(shots.f, shots.y, C, count)
        x = head.interaction(shots.f, levels, bank)
        anchored = unit(t + q.b * z)
        expected = ridge_by_clusters(index, x, shots.f, anchored, q.log_lambda.exp(), count)
    assert bank.map.shape == (3 * D, D)
    torch.testing.assert_close(bank.map, expected, atol=1e-5, rtol=0)


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
    chosen = head.explain(
        shots.f, shots.v, Classes(bank.text, bank.text[:, None]), bank.image_mean, bank.token_mean, semantic=False
    ).selection
    first = head.levels(chosen)[:, 0]
    for m in index.unique().tolist():
        torch.testing.assert_close(bank.prototypes[m // K, m % K], unit(first[index == m].mean(0)), atol=1e-5, rtol=0)
