"""Calibration: probabilities that are right as often as they say, by one temperature (Guo et al., "On Calibration of
Modern Neural Networks", ICML 2017). The order of the classes, and so the accuracy, stays as it is.

    B images      C classes
"""

import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import minimize_scalar
from torch import Tensor

from dassl.errors import InputError
from dassl.utils import write_json

from .config import options_of
from .folder import FILE, alone_in
from .rebuild import logits_of, precision_of, rebuild, record_of_training, refuse_test

BINS = 15  # of confidence, as in the paper
FARTHEST = 4.6  # of the temperature's logarithm from 0: between 0.01 and 100


def expected_calibration_error(probabilities: Tensor, labels: Tensor, bins: int = BINS) -> float:
    """Mean distance of confidence and accuracy over bins of confidence, weighed by their images (eq. 3), in percent.

    probabilities (B, C), labels (B,)
    """
    confidence, guess = probabilities.double().max(dim=1)  # (B,)
    right = (guess == labels).double()
    place = (confidence * bins).ceil().long().clamp(1, bins) - 1  # bins are open below, closed above
    sums = torch.zeros(2, bins, dtype=torch.double).index_add_(1, place, torch.stack([confidence, right]))
    return 100 * (sums[0] - sums[1]).abs().sum().item() / len(labels)


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The T with the least cross-entropy of logits (B, C) / T, held near 1 where images are few.

    A factor of two costs as much as one image whose class has a probability of 1/e: a handful that are all right would
    otherwise ask for certainty.
    """
    logits = logits.double()

    def loss(log_t: float) -> float:
        return F.cross_entropy(logits / np.exp(log_t), labels, reduction="sum").item() + (log_t / np.log(2)) ** 2

    return float(np.exp(minimize_scalar(loss, bounds=(-FARTHEST, FARTHEST), method="bounded").x))


def logits_and_labels(trainer, loader) -> tuple[Tensor, Tensor]:
    """(B, C) and labels (B,) of all images of a loader, on the CPU."""
    found = []
    for batch in loader:
        images, labels = trainer.parse_batch_test(batch)
        found.append((logits_of(trainer, images, batch["impath"]), labels.cpu()))
    logits, labels = map(torch.cat, zip(*found, strict=True))
    return logits, labels


def calibrate(trainer) -> dict:
    """For a run's record: the temperature, fitted on its validation images, and the error before and after, also on test
    images, which had no part in it.
    """
    if trainer.val_loader is None:
        raise InputError(
            f"{trainer.cfg.DATASET.NAME} has no validation images on which a temperature could be fitted: leave out --calibrated, "
            "or train on a data set that has some."
        )
    logits, labels = logits_and_labels(trainer, trainer.val_loader)
    temperature = fit_temperature(logits, labels)
    errors = {}
    for part, loader in (("val", trainer.val_loader), ("test", trainer.test_loader)):
        if loader is not None:
            scores, truth = (logits, labels) if part == "val" else logits_and_labels(trainer, loader)
            errors[part] = [expected_calibration_error((scores / t).softmax(dim=1), truth) for t in (1.0, temperature)]
    return {
        "temperature": temperature,
        "fitted_on": f"{len(labels)} validation images",
        "expected_calibration_error": errors,  # before and after, in percent
    }


def temperature_of(run: Path, epoch: int | None = None, root: str = "", use_cuda: bool | None = None) -> float:
    """A run's temperature: that in its record, else it is fitted now, which needs its data set, and kept there.

    That of an `epoch` by its number is not kept. use_cuda: default where there is a GPU.
    """
    record = record_of_training(run)
    refuse_test(run, record)
    if epoch is None and (known := kept_in(record)) is not None:
        return known
    use_cuda = torch.cuda.is_available() if use_cuda is None else use_cuda
    options = {"USE_CUDA": use_cuda, **precision_of(record, use_cuda)}
    found = calibrate(rebuild(run, root=root, epoch=epoch, options=options_of(options)))
    print(in_words(found), flush=True)
    if epoch is None:
        keep(run, found)
    return found["temperature"]


def kept_in(record: dict) -> float | None:
    """The temperature in a record; None where there is none that a fit gives."""
    found = record.get("calibration")
    temperature = found.get("temperature") if isinstance(found, dict) else None
    return temperature if isinstance(temperature, float) and 0 < temperature < math.inf else None


def keep(run: Path, found: dict) -> None:
    """Where the folder can be written to; else it is computed again the next time."""
    try:
        with alone_in(run):
            write_json(record_of_training(run) | {"calibration": found}, str(run / FILE))
    except (OSError, InputError) as error:
        print(f"The temperature is not kept in {run / FILE}: {error}", flush=True)


def in_words(found: dict) -> str:
    errors = "; ".join(
        f"{part} images {before:.1f}% before, {after:.1f}% after"
        for part, (before, after) in found["expected_calibration_error"].items()
    )
    return (
        f"Temperature {found['temperature']:.3g}, fitted on {found['fitted_on']}. Expected calibration error: {errors}"
    )
