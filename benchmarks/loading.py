"""Images per second of the loaders, from files to batches: the field's plain one beside this one's stores.

    python -m benchmarks.loading
    python -m benchmarks.loading --images 100 --rounds 3 --workers 0

The plain loader opens, converts and transforms every image each time, as CoOp's and Dassl's does. The images are JPEGs
of 500 x 375 and 375 x 500 pixels, made here; they lie in the system's file cache, so a slow disk would only widen the
gap. Every round times every row of a part once, in rotating order; ratios to the plain loader are taken within a round.
Before anything is timed, all loaders have to give the same bits.
"""

import argparse
import hashlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
import PIL
import torch
from PIL import Image, features

from benchmarks.field import FieldDataset
from benchmarks.machine import device_name, result_file, versions
from benchmarks.statistics import quartiles, rotation
from dassl.config import get_cfg_default, merge_options
from dassl.data.data_manager import Loader, build_data_loader
from dassl.data.datasets import Datum
from dassl.data.transforms import build_transform
from dassl.utils import InputError, cores, write_json
from one_run.command import carry_out

SIZE = (500, 375)  # about ImageNet's mean
OPTIONS = [
    "INPUT.SIZE", (224, 224), "INPUT.INTERPOLATION", "bicubic",
    "INPUT.TRANSFORMS", ("random_resized_crop", "random_flip", "normalize"),
]  # fmt: skip
BATCH = {"training": 32, "test": 100}  # the field's


class Pipeline(NamedTuple):
    name: str
    loader: Callable[[], Iterable]  # called before the clock starts; iterating what it gives is what is timed


def make_images(folder: str, count: int) -> list[Datum]:
    """JPEGs of about 100 kB: smooth colours under fine noise."""
    rng, items = np.random.default_rng(0), []
    for number in range(count):
        width, height = SIZE if number % 3 else SIZE[::-1]
        smooth = Image.fromarray(rng.integers(0, 255, (24, 32, 3), dtype=np.uint8)).resize((width, height))
        pixels = np.asarray(smooth) + rng.normal(0, 12, (height, width, 1))
        path = os.path.join(folder, f"{number}.jpg")
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path, quality=90)
        items.append(Datum(path, label=number))
    return items


def pipelines_of(part: str, items: list[Datum], folder: str, workers: int) -> list[Pipeline]:
    """Those of "training" or "test", the plain loader first; caches go into `folder`."""
    cfg = get_cfg_default()
    merge_options(cfg, [*OPTIONS, "DATALOADER.NUM_WORKERS", workers, "DATASET.ROOT", os.path.dirname(items[0].impath)])
    is_train, batch = part == "training", BATCH[part]
    transform = build_transform(cfg, is_train)

    def field():
        pinned = torch.cuda.is_available()
        order = {"batch_size": batch, "shuffle": is_train, "drop_last": is_train and len(items) >= batch}
        return Loader(FieldDataset(items, transform), num_workers=workers, pin_memory=pinned, **order)

    def ours(cache: str | None = None):
        sampler = "RandomSampler" if is_train else "SequentialSampler"
        loader = build_data_loader(cfg, sampler, items, batch, tfm=transform, is_train=is_train)
        if cache:
            loader.dataset.cache_on_disk(cache)
        return loader

    if is_train:
        filled = ours()  # by the first epoch, which is not timed
        return [
            Pipeline("plain", field),
            Pipeline("kept, first epoch", ours),
            Pipeline("kept, later epochs", lambda: filled),
        ]
    return [
        Pipeline("plain", field),
        Pipeline("first time, building the cache", lambda: ours(tempfile.mkdtemp(dir=folder))),
        Pipeline("cached", lambda: ours(os.path.join(folder, "cache"))),
    ]


def check_same(pipelines: list[Pipeline]) -> None:
    """Two epochs of every one have to give the bits of the first one's; this fills what is filled once, too."""
    loaders = [pipeline.loader() for pipeline in pipelines]
    for seed in (1, 2):
        epochs = []
        for loader in loaders:
            torch.manual_seed(seed)
            epochs.append([hashlib.sha256(batch["img"].numpy()).digest() for batch in loader])
        for pipeline, epoch in zip(pipelines, epochs, strict=True):
            if epoch != epochs[0]:
                raise RuntimeError(f"The row {pipeline.name!r} gives other tensors than the plain loader.")


def seconds_of(pipeline: Pipeline) -> float:
    """One epoch, workers' start included, as it is part of every epoch in the field."""
    loader = pipeline.loader()
    start = time.perf_counter()
    for _ in loader:
        pass
    return time.perf_counter() - start


def measure(pipelines: list[Pipeline], count: int, rounds: int) -> list[dict]:
    """A row of the table for each pipeline; `count` images are in an epoch."""
    seconds = [[] for _ in pipelines]
    for round_ in range(rounds):
        for index in rotation(len(pipelines), round_):
            seconds[index].append(seconds_of(pipelines[index]))
    records = []
    for pipeline, own in zip(pipelines, seconds, strict=True):
        ratios = [plain / ours for plain, ours in zip(seconds[0], own, strict=True)]
        records.append(
            {
                "name": pipeline.name,
                "images_per_second": statistics.median(count / value for value in own),
                "ratio_to_plain": statistics.median(ratios),
                "ratio_iqr": quartiles(ratios),
            }
        )
    return records


def run(args: argparse.Namespace, command: list[str]) -> None:
    if min(args.images, args.rounds) < 1 or min(args.workers) < 0:
        raise InputError("--images and --rounds must be at least 1, and --workers at least 0.")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    args.out = args.out or result_file("loading", device)
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        images = os.path.join(folder, "images")
        os.mkdir(images)
        items = make_images(images, args.images)
        size = statistics.median(os.path.getsize(item.impath) for item in items)
        print(f"{args.images} JPEGs of {SIZE[0]} x {SIZE[1]} pixels, {size / 1000:.0f} kB each", flush=True)
        for workers in dict.fromkeys(args.workers):
            for part, batch in BATCH.items():
                pipelines = pipelines_of(part, items, tempfile.mkdtemp(dir=folder), workers)
                check_same(pipelines)
                count = len(items) // batch * batch if part == "training" and len(items) >= batch else len(items)
                runs.append({"part": part, "workers": workers, "rows": measure(pipelines, count, args.rounds)})
                show(runs[-1])
    result = {
        "versions": versions(pillow=PIL.__version__, libjpeg=features.version("jpg")),
        "processor": device_name(torch.device("cpu")),
        "processors": cores(),
        "device": device_name(device),
        "images": args.images,
        "median_bytes": size,
        "rounds": args.rounds,
        "same_bits": True,  # or it would not have come this far
        "command": " ".join(["python -m benchmarks.loading", *command]),
        "runs": runs,
    }
    write_json(result, args.out)
    print(f"\nResults: {args.out}")


def show(run: dict) -> None:
    print(f"\n{run['part']}, {run['workers']} workers{'':<15}images/s  to plain (quartiles)")
    for row in run["rows"]:
        low, high = row["ratio_iqr"]
        print(
            f"  {row['name']:<32}{row['images_per_second']:10,.0f}  {row['ratio_to_plain']:.2f} ({low:.2f}-{high:.2f})",
            flush=True,
        )


def main(argv: list[str] | None = None) -> int:
    """Exit code 0; 2 for what the user can mend, in one sentence."""
    command = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(prog="python -m benchmarks.loading", description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=400, help="how many are made and loaded")
    parser.add_argument("--rounds", type=int, default=5, help="how often every row is timed")
    parser.add_argument("--workers", nargs="+", type=int, default=[0, 2], help="numbers of worker processes")
    parser.add_argument("--out", help="the JSON file (default: benchmarks/results/loading_<device>.json)")
    return carry_out(lambda: run(parser.parse_args(command), command))


if __name__ == "__main__":
    sys.exit(main())
