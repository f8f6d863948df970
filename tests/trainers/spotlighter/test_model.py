"""The assembly (trainers/spotlighter/model.py), over a prompted CLIP without a trainer or data."""

import pytest
import torch
import torch.nn.functional as F
from yacs.config import CfgNode

from clip.vit import Attention
from tests.trainers.spotlighter.runs import ShiftedTexts
from tests.trainers.spotlighter.world import SECOND_LOOK
from trainers.shared.prompted_clip import load_clip
from trainers.shared.prompts import zero_shot_text_features
from trainers.spotlighter import Keys, tokens
from trainers.spotlighter.bank import regions, remember
from trainers.spotlighter.drop import SCORES
from trainers.spotlighter.model import SpotlitCLIP
from trainers.spotlighter.survey import survey
from trainers.spotlighter.zoom import ZOOM_WIDTHS, Zoom, cut, window_centres

NAMES = ["red", "green", "blue"]


@pytest.fixture(scope="module")
def clip_model():
    return load_clip("ViT-Embedded/8", "fp32", torch.device("cpu"))


def spotlit_over(clip_model, **keys) -> SpotlitCLIP:
    own = CfgNode(Keys.config_keys)
    own.update(keys)
    texts = zero_shot_text_features(clip_model, NAMES)
    return SpotlitCLIP(ShiftedTexts(clip_model, texts), own, NAMES, "a photo of a {}.", seed=1)


@pytest.fixture(scope="module")
def images():
    return torch.randn(12, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def batches(images):
    labels = torch.arange(12) % 3
    return list(zip(images.split(5), labels.split(5), strict=True))


@torch.no_grad()
def test_shots_are_first_looks_and_all_regions_a_zoom_may_choose(clip_model, images, batches):
    spotlit = spotlit_over(clip_model, ZOOM=3, KEEP=0.6)
    shots = spotlit.encode(batches, count=12, zoom=3)
    first = spotlit.first_look(images)
    assert shots.again.shape == (12, 2, len(ZOOM_WIDTHS), 3, 128) and shots.v.read().shape == (12, 38, 128)
    torch.testing.assert_close(shots.f, first.f)
    for m in range(2):
        for w, width in enumerate(ZOOM_WIDTHS):
            windows = cut(images, window_centres(first.maps[:, m], 3), width)  # (36, 3, 64, 64)
            expected = spotlit.model.image_features(windows).view(12, 3, -1)
            torch.testing.assert_close(shots.again[:, m, w], expected, atol=1e-5, rtol=1e-4)
    assert spotlit.encode(batches, count=12).again is None


@torch.no_grad()
def test_regions_of_many_shots_are_kept_in_half_precision(clip_model, batches, monkeypatch):
    """As their tokens are; they are computed with in fp32."""
    spotlit = spotlit_over(clip_model, ZOOM=3)
    shots = spotlit.encode(batches, count=12, zoom=3)
    monkeypatch.setattr(tokens, "HALF_ABOVE", 0)
    halves = spotlit.encode(batches, count=12, zoom=3)
    assert shots.again.dtype == torch.float32 and halves.again.dtype == halves.v.table.dtype == torch.float16
    assert torch.equal(halves.again, shots.again.half())
    looked = regions(halves, Zoom(map=1, width=ZOOM_WIDTHS[1], count=2, share=1.0))
    assert torch.equal(looked, shots.again[:, 1, 1, :2].half().float())


@torch.no_grad()
def test_a_first_look_stays_when_regions_are_looked_at(clip_model, images):
    """Their attention is not even computed, and the edits are as before for the next images."""
    spotlit = spotlit_over(clip_model, ZOOM=3, KEEP=0.6)
    first = spotlit.first_look(images[:2])
    maps, alive = first.maps.clone(), first.alive.clone()
    rows, row = [], Attention._row
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Attention, "_row", staticmethod(lambda q, k: rows.append(len(q)) or row(q, k)))
        spotlit.look_again(images[:2], torch.rand(2, 3, 2), 0.5)
    assert rows == []
    same = lambda found: torch.allclose(found, maps, rtol=0, atol=0, equal_nan=True)  # noqa: E731
    assert same(first.maps) and same(spotlit.maps.maps) and torch.equal(first.alive, alive)
    again = spotlit.first_look(images[:2])
    assert same(again.maps) and torch.equal(again.f, first.f)


@torch.no_grad()
def test_prediction_without_a_trainer(clip_model, images, batches):
    """Classes seen and new ones; the second look joins by its share."""
    spotlit = spotlit_over(clip_model, ZOOM=3)
    shots = spotlit.encode(batches, count=12, zoom=3)
    remember(spotlit.head, shots, spotlit.model.text_features(), spotlit.zero_shot, NAMES)
    classes = spotlit.describe()
    first = spotlit.predict(images, classes)
    assert first.shape == (12, 3) and torch.isfinite(first).all()
    spotlit.head.zoom = SECOND_LOOK
    remember(spotlit.head, shots, spotlit.model.text_features(), spotlit.zero_shot, NAMES)
    look = spotlit.first_look(images)
    again = spotlit.look_again(images, spotlit.centres(look), SECOND_LOOK.width)
    second = spotlit.head.second_logits(again, classes, spotlit.head.bank)
    torch.testing.assert_close(spotlit.predict(images, classes), (first + second) / 2, atol=1e-3, rtol=1e-4)


@torch.no_grad()
def test_mixed_precision_is_the_encoders_alone(clip_model, images, batches):
    """Given the same features, what is computed of them is the same to the bit: places, classes, both looks."""
    spotlit = spotlit_over(clip_model, ZOOM=3)
    spotlit.head.zoom = SECOND_LOOK
    text = spotlit.model.text_features()
    remember(spotlit.head, spotlit.encode(batches, count=12, zoom=3), text, spotlit.zero_shot, NAMES)
    look, regions = spotlit.first_look(images), torch.randn(12, 3, 128, generator=torch.Generator().manual_seed(1))
    seen = []

    def found():
        return spotlit.centres(look), *spotlit.describe()[:2], spotlit.answer(images, look, spotlit.describe())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spotlit.model, "text_features", lambda: text)
        patch.setattr(spotlit.model, "image_features", lambda x: seen.append(x) or regions.flatten(0, 1))
        expected = found()
        with torch.autocast("cpu"):
            assert (images[0, 0] @ images[0, 0]).dtype == torch.bfloat16
            ours = found()
    assert all(torch.equal(one, other) for one, other in zip(ours, expected, strict=True))
    assert torch.equal(*seen)  # the windows


def test_without_its_keys_no_edit_is_put_in(clip_model, images):
    spotlit = spotlit_over(clip_model)
    look = spotlit.first_look(images[:1])
    assert spotlit.model.image_edits == [] and look.alive is None and look.maps is None
    assert look.v.shape == (1, 64, 128)
    with torch.no_grad():  # places that somebody else chose may be looked at all the same
        again = spotlit.look_again(images[:1], torch.full((1, 1, 2), 0.5), 1.0)
    torch.testing.assert_close(again[:, 0], look.f.detach(), atol=1e-5, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("score", SCORES)
def test_neither_batch_nor_order_matters(clip_model, images, batches, score):
    """Not even where half the patches are dropped by chance, in the image and in its regions."""
    spotlit = spotlit_over(clip_model, ZOOM=3, KEEP=0.5, GRID=0.0, SCORE=score, DROP_AFTER=(1, 2))
    spotlit.head.zoom = SECOND_LOOK
    survey(clip_model.visual, spotlit.head.drop, batches, classes=3)
    shots = spotlit.encode(batches, count=12, zoom=3)
    remember(spotlit.head, shots, spotlit.model.text_features(), spotlit.zero_shot, NAMES)
    classes = spotlit.describe()
    together = spotlit.predict(images, classes)
    alone = torch.cat([spotlit.predict(image, classes) for image in images.split(1)])
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    for other in (alone, spotlit.predict(images[order], classes)[order.argsort()]):
        torch.testing.assert_close(other, together, atol=2e-3, rtol=0)


def test_a_score_may_be_a_function(clip_model, images):
    """Of one's own, in place of a name: it is asked for every drop and decides."""
    spotlit = spotlit_over(clip_model, KEEP=0.5, GRID=0.0)
    spotlit.head.drop.by = lambda drop, x, patches, i: torch.arange(64.0).expand(len(x), -1)
    assert torch.equal(spotlit.first_look(images).alive, torch.arange(32, 64).expand(12, -1))


def test_the_mapping_modules_take_no_random_number_of_the_hosts(clip_model):
    before = torch.get_rng_state()
    one, two = (spotlit_over(clip_model, HEAD="full").head.state_dict() for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(one[name], two[name]) for name in one if torch.is_tensor(one[name]))
    assert F.normalize(one["mapping.text.weight"]).isfinite().all()
