"""Temperatures, and how far probabilities are from what they say (one_run/calibration.py)."""

import json

import pytest
import torch
import torch.nn.functional as F

import train
from dassl.errors import InputError
from one_run.calibration import calibrate, expected_calibration_error, fit_temperature, temperature_of
from one_run.predictor import Predictor
from one_run.rebuild import rebuild
from tests.helpers import arguments, results


def test_the_error_by_hand():
    """Two bins hold images: 0.9 of which three of four are right, and 0.6 of which one of one is."""
    confidence, right = [0.9, 0.9, 0.9, 0.9, 0.6], [True, True, True, False, True]
    probabilities = torch.tensor([[p, 1 - p] for p in confidence])
    labels = torch.tensor([0 if each else 1 for each in right])
    assert expected_calibration_error(probabilities, labels) == pytest.approx(100 * (4 * 0.15 + 1 * 0.4) / 5, abs=1e-4)
    certain = torch.tensor([[1.0, 0.0]])
    assert expected_calibration_error(certain, torch.tensor([0])) == 0
    assert expected_calibration_error(certain, torch.tensor([1])) == 100


@pytest.mark.parametrize("true", [0.25, 1.0, 5.0])
def test_the_temperature_that_labels_were_drawn_with(true):
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(20_000, 4, generator=generator)
    labels = torch.multinomial((logits / true).softmax(dim=1), 1, generator=generator)[:, 0]
    found = fit_temperature(logits, labels)
    assert found == pytest.approx(true, rel=0.05)
    least = F.cross_entropy(logits.double() / found, labels)
    assert all(least <= F.cross_entropy(logits.double() / other, labels) for other in (0.98 * found, 1.02 * found))
    before, after = (expected_calibration_error((logits / t).softmax(dim=1), labels) for t in (1.0, found))
    assert after < 1.5 and (true == 1.0 or before > 5)


def test_a_few_that_are_right_do_not_ask_for_certainty():
    logits, labels = torch.tensor([[2.0, 0.0]]), torch.tensor([0])
    assert 0.5 < fit_temperature(logits, labels) < 1
    assert fit_temperature(logits.repeat(1000, 1), labels.repeat(1000)) < 0.3


@pytest.fixture
def run(data_root, tmp_path):
    assert train.main(arguments(data_root, tmp_path / "run", options=["OPTIM.MAX_EPOCH", 1])) == 0
    return tmp_path / "run"


def test_it_is_fitted_once_and_kept_in_the_record(run, data_root, capsys, monkeypatch):
    before = results(run)
    assert before["calibration"] is None
    temperature = temperature_of(run)
    assert "Expected calibration error: val images" in capsys.readouterr().out
    after = results(run)
    kept = after.pop("calibration")
    assert after == {name: value for name, value in before.items() if name != "calibration"}
    assert kept["temperature"] == temperature != 1 and kept["fitted_on"] == "12 validation images"
    assert kept == calibrate(rebuild(run)) and kept["expected_calibration_error"].keys() == {"val", "test"}
    monkeypatch.setattr("one_run.calibration.calibrate", None)  # who asks again needs no data
    assert temperature_of(run) == temperature

    path = str(data_root / "caltech-101" / "101_ObjectCategories" / "red" / "test_0.png")
    plain, calibrated = (Predictor(run, calibrated=how) for how in (False, True))
    (one,), (other,) = plain.predict([path]), calibrated.predict([path])
    assert calibrated.temperature == temperature
    expected = (one.probabilities.log() / temperature).softmax(dim=0)
    assert torch.allclose(other.probabilities, expected, atol=1e-5)


def test_without_validation_images(run, monkeypatch):
    trainer = rebuild(run)
    trainer.val_loader = None
    with pytest.raises(InputError, match="has no validation images on which a temperature could be fitted"):
        calibrate(trainer)


def test_a_run_that_is_at_work_is_not_written_into(run, capsys, monkeypatch):
    """The temperature is used all the same."""
    from one_run.folder import alone_in

    text = (run / "results.json").read_text()
    with alone_in(run):
        assert temperature_of(run) > 0
    assert "The temperature is not kept" in capsys.readouterr().out
    assert json.loads((run / "results.json").read_text()) == json.loads(text)


@pytest.mark.parametrize("kept", [{}, {"temperature": "1"}, {"temperature": 0.0}, {"temperature": float("nan")}, 1.0])
def test_a_damaged_temperature_is_fitted_anew(run, kept):
    path = run / "results.json"
    path.write_text(json.dumps(results(run) | {"calibration": kept}))
    found = temperature_of(run)
    assert 0.01 < found < 100 and results(run)["calibration"]["temperature"] == found


def test_the_best_epoch_and_the_last_have_their_own(data_root, tmp_path):
    options = ["OPTIM.MAX_EPOCH", 2, "OPTIM.LR", 0.5, "TEST.FINAL_MODEL", "best_val"]
    assert train.main(arguments(data_root, tmp_path / "run", options=options)) == 0
    best = temperature_of(tmp_path / "run")
    path = tmp_path / "run" / "results.json"
    path.write_text(json.dumps(results(tmp_path / "run") | {"calibration": {"temperature": 50.0}}))
    assert temperature_of(tmp_path / "run") == 50.0
    assert temperature_of(tmp_path / "run", epoch=2) != 50.0 and 0.01 < best < 50


def test_logits_that_are_no_numbers_are_refused(run, monkeypatch):
    trainer = rebuild(run)
    monkeypatch.setattr(trainer, "model_inference", lambda images: torch.full((len(images), 3), torch.nan))
    with pytest.raises(FloatingPointError, match="infinite or NaN"):
        calibrate(trainer)
