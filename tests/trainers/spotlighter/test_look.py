"""What a picture shows (trainers/spotlighter/look.py) is what the prediction does: its tokens, levels and windows."""

import pytest
import torch

import train
from dassl.engine import build_trainer
from tests.helpers import arguments
from tests.trainers.spotlighter.world import SECOND_LOOK
from trainers.spotlighter import head, model, over_host
from trainers.spotlighter.centred import Centred
from trainers.spotlighter.head import sample_wise
from trainers.spotlighter.look import look


@pytest.fixture(scope="module")
def trainer(data_root, tmp_path_factory):
    """Trained on the base classes, with tokens dropped and a second look; in the middle of a test."""
    output = tmp_path_factory.mktemp("runs") / "spotlighter"
    options = ["OPTIM.MAX_EPOCH", 1, "TRAINER.SPOTLIGHTER.KEEP", 0.6, "TRAINER.SPOTLIGHTER.ZOOM", 3]
    trainer = build_trainer(
        train.build_config(train.parse_arguments(arguments(data_root, output, "Spotlighter", options=options)))
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(over_host, "choose_zoom", lambda *_: SECOND_LOOK)
        trainer.train()
    trainer.set_model_mode("eval")
    with torch.no_grad():
        trainer.class_state = trainer.encode_classes()
    return trainer


@pytest.fixture(scope="module")
def batch(trainer):
    """Four transformed test images."""
    return torch.stack([sample["img"] for sample in list(trainer.test_loader.dataset)[:4]])


def test_maps_and_selection(trainer, batch):
    """The R largest of the drawn activation are the head's choice, on the whole grid and in its order."""
    seen = look(trainer, batch)
    with torch.no_grad():
        alive = trainer.spotlit.first_look(batch).alive
    assert seen.alive.sum(dim=1).tolist() == [38] * 4  # 0.6 of 64
    assert torch.equal(seen.alive.nonzero()[:, 1].view(4, -1), alive)
    for values in (seen.sample_wise, seen.semantic_wise, seen.activation):
        assert torch.equal(~values.isnan(), seen.alive)
    theta = trainer.head.scalars.theta.detach()
    combined = theta[0] * seen.sample_wise + theta[1] * seen.semantic_wise
    assert torch.allclose(combined, seen.activation, atol=1e-5, equal_nan=True)
    assert torch.equal(seen.activation.nan_to_num(-99.0).topk(5, dim=1).indices, seen.selected)
    assert seen.level.tolist() == [1, 1, 1, 2, 2]
    with torch.no_grad():  # which of the two is which
        f, v = trainer.model.image_features(batch, tokens=True)
        bank, scalars = trainer.head.bank, trainer.head.scalars
        centred = Centred(v, bank.token_mean, scalars.g_v)
        belief = trainer.head.believe(f, trainer.class_state, bank.image_mean)
        expected = sample_wise(centred, belief, trainer.class_state)
    assert torch.allclose(seen.sample_wise.gather(1, alive), expected, atol=1e-5)
    assert not torch.allclose(seen.sample_wise, seen.semantic_wise, atol=1e-3, equal_nan=True)


def test_selection_is_the_heads_own(trainer, batch, monkeypatch):
    """What the prediction selected among living tokens is shown at its place on the grid, also if chance drops."""
    chosen, strongest = [], trainer.head.strongest
    monkeypatch.setattr(
        trainer.head, "strongest", lambda *a: chosen.append((a[0].tokens.read(), strongest(*a))) or chosen[-1][1]
    )
    monkeypatch.setattr(trainer.head.drop, "by", "random")
    before = torch.get_rng_state()
    seen = look(trainer, batch)
    assert torch.equal(torch.get_rng_state(), before)
    (tokens, predicted), (again, shown) = chosen
    predicted, shown = predicted.selection.index, shown.selection.index
    assert torch.equal(tokens, again) and torch.equal(predicted, shown)
    places = [torch.arange(64)[alive][index] for alive, index in zip(seen.alive, predicted, strict=True)]
    assert torch.equal(seen.selected, torch.stack(places))


def test_prediction_and_windows_are_the_trainers(trainer, batch, monkeypatch):
    windows, cut = [], model.cut
    monkeypatch.setattr(model, "cut", lambda *a: windows.append(a[1:]) or cut(*a))
    seen = look(trainer, batch)
    with torch.no_grad():
        assert torch.allclose(seen.probabilities, trainer.model_inference(batch).softmax(dim=1), atol=1e-6)
    centres, width = windows[0]
    assert seen.windows.shape == (4, 3, 4) and width == 0.5
    assert torch.allclose(seen.windows[..., 2:] - seen.windows[..., :2], torch.tensor(0.5))
    assert torch.allclose(seen.windows.unflatten(-1, (2, 2)).mean(dim=-2), centres.clamp(0.25, 0.75))
    assert seen.windows.min() >= 0 and seen.windows.max() <= 1


def test_without_dropping_and_zoom(trainer, batch, monkeypatch):
    monkeypatch.setattr(trainer.model, "image_edits", [])
    monkeypatch.setitem(trainer.head._modules, "drop", None)
    monkeypatch.setattr(trainer.head, "zoom", None)
    monkeypatch.setattr(trainer.head, "level_count", 1)
    seen = look(trainer, batch)
    assert seen.alive.all() and seen.windows.shape == (4, 0, 4) and seen.level.tolist() == [1] * 5
    assert not seen.activation.isnan().any()
    with torch.no_grad():
        f, v = trainer.model.image_features(batch, tokens=True)
        bank = trainer.head.bank
        chosen = trainer.head.explain(f, v, trainer.class_state, bank.image_mean, bank.token_mean).selection
    assert torch.equal(seen.selected, chosen.index)  # all are alive, so they need no translation
    assert torch.allclose(seen.activation.gather(1, seen.selected), chosen.activation, atol=1e-5)


@pytest.mark.parametrize("kept", [1, 2, 3, 5])
@pytest.mark.parametrize("levels", [1, 2])
def test_levels_are_by_the_heads_rule(trainer, batch, monkeypatch, kept, levels):
    """Wherever the head draws the line between its levels, the picture does."""
    monkeypatch.setattr(trainer.head, "kept", kept)
    monkeypatch.setattr(trainer.head, "level_count", levels)
    monkeypatch.setattr(head, "FIRST_LEVEL", 2)
    expected = [1] * min(kept, 2) + [2] * (kept - 2) if levels == 2 else [1] * kept
    assert look(trainer, batch).level.tolist() == expected


def test_the_images_are_encoded_once(trainer, batch, monkeypatch):
    """And their windows once."""
    sizes, encode = [], trainer.model.clip.encode_image
    monkeypatch.setattr(
        trainer.model.clip, "encode_image", lambda x, *a, **k: sizes.append(len(x)) or encode(x, *a, **k)
    )
    look(trainer, batch)
    assert sizes == [4, 4 * 3]
