"""What exported files say beside what the run says, on the run's test pictures: differences, accuracy, speed."""

import statistics
import time
from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from .classifier import Classifier
from .formats import Function

AT_MOST = 1e-4  # of probabilities, in fp32
ROUNDS, WARM_UP = 5, 1  # of timing, in which all take turns


def some(items: list, count: int) -> list:
    """So many of them, spread evenly; 0 is all."""
    if not 0 < count < len(items):
        return items
    return [items[number * len(items) // count] for number in range(count)]


def compare(
    classifier: Classifier, files: dict[str, Function], batches: Iterable[tuple[Tensor, Tensor]], labelled: bool = True
) -> dict[str, dict]:
    """Of batches of images (B, 3, H, W) and labels (B,): "run" and each file -> accuracy in percent, if labels are of these
    classes, and of a file the largest difference of a probability, and for how many pictures, in percent, it says the same class.
    """
    right, count = dict.fromkeys(["run", *files], 0), 0
    difference, same = dict.fromkeys(files, 0.0), dict.fromkeys(files, 0)
    for images, labels in batches:
        with torch.no_grad():
            ours = classifier(images).numpy()  # (B, C)
        count += len(labels)
        right["run"] += int((ours.argmax(axis=1) == labels.numpy()).sum())
        for name, run in files.items():
            theirs = run(images.numpy())
            right[name] += int((theirs.argmax(axis=1) == labels.numpy()).sum())
            same[name] += int((theirs.argmax(axis=1) == ours.argmax(axis=1)).sum())
            apart = np.nan_to_num(np.abs(theirs - ours), nan=1.0)  # what is no number could not be farther
            difference[name] = max(difference[name], float(apart.max()))
    found: dict[str, dict] = {name: {"accuracy": 100.0 * right[name] / count} if labelled else {} for name in right}
    for name in files:
        found[name] |= {"largest_difference": difference[name], "same_class": 100.0 * same[name] / count}
    return found


def speeds(files: dict[str, Function], images: np.ndarray, rounds: int = ROUNDS) -> dict[str, float]:
    """Images per second of each file, on one batch (B, 3, H, W): medians of rounds in which they take turns."""
    seconds: dict[str, list[float]] = {name: [] for name in files}
    for number in range(WARM_UP + rounds):
        for name, run in files.items():
            start = time.perf_counter()
            run(images)
            if number >= WARM_UP:
                seconds[name].append(time.perf_counter() - start)
    return {name: len(images) / statistics.median(each) for name, each in seconds.items()}


def in_words(found: dict[str, dict], pictures: int) -> Iterator[str]:
    right = {name: f"{each['accuracy']:.2f}% right, " if "accuracy" in each else "" for name, each in found.items()}
    yield f"The run: {right['run']}{pictures:,} test pictures"
    for name, each in found.items():
        if name != "run":
            yield (
                f"{name}: {right[name]}the same class for {each['same_class']:.2f}% of them, probabilities within "
                f"{each['largest_difference']:.1e}, {each['images_per_second']:,.1f} images/s, {each['megabytes']:,.1f} MB"
            )
