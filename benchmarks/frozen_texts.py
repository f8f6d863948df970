"""What it takes to find texts of hand-written prompts, beside encoding them (`trainers/shared/texts.py`): processor time.

    python -m benchmarks.frozen_texts      # a minute on one core; it prints, and keeps nothing

To find them, the text encoder's weights are hashed, and a file is read. The shipped tiny CLIP, and one of ViT-B/16's size
with random weights, are asked for one template of so many class names.
"""

import argparse
import contextlib
import io
import sys
import tempfile
import time
from statistics import median

import torch

import clip
from benchmarks.steps import EMBEDDED, VIT_B_16, random_weights
from dassl.data.features import FeatureStore
from one_run.command import carry_out
from trainers.shared import texts
from trainers.shared.prompted_clip import load_clip
from trainers.shared.prompts import template_features

PROMPTS = (16, 64, 256)
TURNS = 5  # the median of so many, in pairs


def seconds(compute) -> float:
    begun = time.process_time()
    compute()
    return time.process_time() - begun


def measure(model: clip.model.CLIP, store: FeatureStore, count: int) -> tuple[float, float]:
    """Seconds to encode so many prompts, and to find them."""
    names, pairs = [f"thing number {i}" for i in range(count)], []
    for turn in range(TURNS + 1):  # the first leaves a file
        pair = []
        for model.text_store in (None, store):
            pair.append(seconds(lambda: template_features(model, names, "a photo of a {}.")))
        pairs += [pair] if turn else []
    return tuple(median(of) for of in zip(*pairs, strict=True))


def report(backbones: list[str], prompts: list[int]) -> None:
    torch.set_num_threads(1)
    device, said = torch.device("cpu"), io.StringIO()
    print("| CLIP | prompts | encoded, s | found, s | found / encoded |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder, patched(texts.LEAST, "cpu", 1):
        for label in backbones:
            store = FeatureStore(folder, label.replace("/", "-"), folder, device)
            with contextlib.redirect_stdout(said):
                model = load_clip(random_weights(folder, VIT_B_16) if label == "ViT-B/16" else label, "fp32", device)
            for count in prompts:
                with contextlib.redirect_stdout(said):
                    encoded, found = measure(model, store, count)
                print(f"| {label} | {count} | {encoded:.3f} | {found:.3f} | {found / encoded:.2f} |", flush=True)


@contextlib.contextmanager
def patched(values: dict, key, value):
    """Another value for a while."""
    before, values[key] = values[key], value
    try:
        yield
    finally:
        values[key] = before


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.frozen_texts", description=__doc__.splitlines()[0])
    backbones = (EMBEDDED, "ViT-B/16")
    parser.add_argument("--backbones", nargs="+", choices=backbones, default=backbones, metavar="CLIP")
    parser.add_argument("--prompts", nargs="+", type=int, default=PROMPTS, help="how many are asked for")
    args = parser.parse_args(argv)
    return carry_out(lambda: report(args.backbones, args.prompts), interrupted="nothing is kept")


if __name__ == "__main__":
    sys.exit(main())
