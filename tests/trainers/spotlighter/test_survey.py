"""What a drop knows beforehand (trainers/spotlighter/survey.py), with sums over every patch of every image."""

import pytest
import torch
import torch.nn.functional as F

import clip
from tests.trainers.spotlighter.encoder import (
    LAYERS,
    SIDE,
    WIDTH,
    Witness,
    attention_of_class,
    dropper,
    encoder,
    normed,
    plain,
)
from trainers.spotlighter.drop import DropTokens, standardise
from trainers.spotlighter.survey import survey


@pytest.fixture(scope="module")
def visual():
    return encoder()


def batches_of(images, labels, size):
    return zip(images.split(size), labels.split(size), strict=True)


@pytest.fixture(scope="module")
def shots():
    images = torch.randn(9, 3, 4 * SIDE, 4 * SIDE, generator=torch.Generator().manual_seed(5))
    return images, torch.arange(9) % 3


def test_survey_by_hand(visual, shots):
    """Probe, mean and prototypes, with a sum over every patch of every image."""
    images, labels = shots
    drop = DropTokens(visual, 0.6, (0, 2), "prototypes", 0.5)
    survey(visual, drop, batches_of(images, labels, 4), classes=3, ridge=7.0, top=4)
    for depth, i in enumerate(drop.after):
        gram, moment = 7.0 * torch.eye(WIDTH, dtype=torch.float64), torch.zeros(WIDTH, dtype=torch.float64)
        everything, of_class = [], {0: [], 1: [], 2: []}
        for image, label in zip(images, labels.tolist(), strict=True):
            witness = Witness()
            visual(image[None], (witness,))
            patches = [plain(token).double() for token in witness.seen[i + 1][0, 1:]]
            target = torch.zeros(16)
            for later in range(i + 1, LAYERS):
                row = attention_of_class(visual.transformer.resblocks[later], witness.seen[later][0])
                target = target + normed(list(row[1:].log()))
            centre = sum(patches) / 16
            for patch, wanted in zip(patches, target, strict=True):
                gram += torch.outer(patch - centre, patch - centre)
                moment += wanted.double() * (patch - centre)
            everything += patches
            strongest = sorted(range(16), key=lambda j: -target[j].item())[:4]
            of_class[label].append(sum(patches[j] for j in strongest) / 4)
        mean = sum(everything) / len(everything)
        probe = torch.linalg.solve(gram, moment)
        assert (drop.probe[depth] - probe).abs().max() < 1e-3 * probe.abs().max()
        torch.testing.assert_close(drop.mean[depth].double(), mean, atol=1e-5, rtol=1e-4)
        for label, members in of_class.items():
            prototype = sum(members) / len(members) - mean
            torch.testing.assert_close(
                drop.prototypes[depth, label].double(), prototype / prototype.norm(), atol=1e-4, rtol=1e-3
            )
    assert drop.probe.shape == drop.mean.shape == (2, WIDTH) and drop.prototypes.shape == (2, 3, WIDTH)


def test_survey_does_not_depend_on_batches(visual, shots):
    filled = []
    for size in (1, 4, 9):
        drop = DropTokens(visual, 0.6, (0, 2), "probe", 0.5)
        survey(visual, drop, batches_of(*shots, size), classes=3)
        filled.append((drop.probe, drop.mean, drop.prototypes))
    for other in filled[1:]:
        for mine, theirs in zip(other, filled[0], strict=True):
            assert (mine - theirs).abs().max() < 1e-4 * theirs.abs().max()


def test_survey_uses_the_whole_encoder(visual, shots):
    """It looks at images without the drop, whose state and settings do not matter."""
    probes = []
    for keep in (0.9, 0.1):
        drop = dropper(visual, keep=keep, after=(0, 2))
        visual(shots[0], (drop,))
        survey(visual, drop, batches_of(*shots, 9), classes=3)
        probes.append(drop.probe)
    assert torch.equal(*probes)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_survey_in_half_precision(shots, dtype):
    half = encoder()
    clip.model.convert_weights(half, dtype)
    drop = DropTokens(half, 0.6, (0,), "probe", 0.5)
    survey(half, drop, batches_of(*shots, 9), classes=3)
    full = DropTokens(encoder(), 0.6, (0,), "probe", 0.5)
    survey(encoder(), full, batches_of(*shots, 9), classes=3)
    assert drop.probe.dtype == torch.float32
    for name in ("probe", "mean", "prototypes"):
        mine, theirs = getattr(drop, name), getattr(full, name)
        assert F.cosine_similarity(mine.flatten(), theirs.flatten(), dim=0) > 0.98


def test_the_probe_ranks_better_than_chance(visual):
    """On images that it has not seen, it agrees with the attention of the later blocks; an unfitted one does not."""
    generator = torch.Generator().manual_seed(6)
    images = torch.randn(140, 3, 4 * SIDE, 4 * SIDE, generator=generator)
    drop = DropTokens(visual, 0.5, (0,), "probe", 0.0)
    survey(visual, drop, batches_of(images[:100], torch.zeros(100, dtype=torch.long), 50), classes=1)
    witness = Witness(attention=True)
    visual(images[100:], (witness,))
    target = sum(standardise(witness.rows[i][:, 1:].log()) for i in range(1, LAYERS))
    strongest = target.topk(8, dim=1).indices
    hits = []
    for probe in (drop.probe, torch.randn(drop.probe.shape, generator=generator)):
        drop.probe = probe
        visual(images[100:], (drop,))
        hits.append((drop.alive[:, :, None] == strongest[:, None]).any(dim=-1).float().mean().item())
    assert hits[0] > 0.65 and abs(hits[1] - 0.5) < 0.12  # chance keeps half of the strongest half
