"""What a prediction costs: operations counted, time taken in rounds, and the record of one backbone at one batch."""

import math
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.statistics import quartiles, rotation

from .predictors import REFERENCE, Predictor
from .profiles import profile_row, synchronise

# --- counting ----------------------------------------------------------------------------------------------------


@torch.no_grad()
def count_flops(predict: Callable[[Tensor], Tensor], images: Tensor) -> float:
    """Floating-point operations per image of all matrix products and convolutions; nothing is computed for it.

    A fused attention counts as the two products that it replaces.
    """
    counter = FlopCounterMode(display=False)
    with FakeTensorMode(allow_non_fake_inputs=True), counter, sdpa_kernel(SDPBackend.MATH):
        predict(torch.empty_like(images))
    return counter.get_total_flops() / len(images)


def square_product(device: torch.device, dtype: torch.dtype) -> tuple[Predictor, float]:
    """A large square matrix product as a row, and its operations: the rate that the device attains at best."""
    size = 2048 if device.type == "cpu" else 8192
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    return Predictor("square matrix product", lambda _: left @ right), 2.0 * size**3


# --- timing -------------------------------------------------------------------------------------------------------


class Timing(NamedTuple):
    seconds: float  # of one batch
    cpu: float  # seconds of all processor threads: what other programs on the machine add little to
    issue: float  # share of it until the host had issued all work; near 1 on a GPU means that the host is the limit


@torch.no_grad()
def time_row(row: Predictor, images: Tensor, repeats: int) -> Timing:
    synchronise(images.device)
    start, cpu = time.perf_counter(), time.process_time()
    for _ in range(repeats):
        row.predict(images)
    issued = time.perf_counter()
    synchronise(images.device)
    end = time.perf_counter()
    return Timing((end - start) / repeats, (time.process_time() - cpu) / repeats, (issued - start) / (end - start))


def interleave(rows: list[Predictor], images: Tensor, rounds: int, least: float, show=print) -> list[list[Timing]]:
    """Timings [row][round]; a warm-up of each row says how often to repeat it."""
    repeats = []
    for row in rows:
        seconds = time_row(row, images, 1).seconds
        if seconds < least:  # what is done once, such as choosing kernels, may be most of it
            seconds = time_row(row, images, 1).seconds
        repeats.append(max(1, math.ceil(least / seconds)))
    timings = [[] for _ in rows]
    for round_ in range(rounds):
        start = time.perf_counter()
        for index in rotation(len(rows), round_):
            timings[index].append(time_row(rows[index], images, repeats[index]))
        show(f"round {round_ + 1} of {rounds}: {time.perf_counter() - start:.1f} s")
    return timings


# --- one backbone at one batch size -------------------------------------------------------------------------------


def summarise(rows: list[Predictor], timings: list[list[Timing]], batch: int, flops: list[float], attainable: float):
    """A record of each row; ratios and differences to the reference, the first row, are taken round by round."""
    rates = [[batch / timing.seconds for timing in own] for own in timings]
    records = []
    for row, own, times, work in zip(rows, rates, timings, flops, strict=True):
        ratios = [a / b for a, b in zip(own, rates[0], strict=True)]
        speed = statistics.median(own)
        records.append(
            {
                "name": row.name,
                "images_per_second": speed,
                "ratio_to_clip": statistics.median(ratios),
                "ratio_iqr": list(quartiles(ratios)),
                "extra_images_per_second": statistics.median(a - b for a, b in zip(own, rates[0], strict=True)),
                "gflops_per_image": work / 1e9,
                "ratio_by_flops": flops[0] / work,
                "share_of_attainable": work * speed / attainable,
                "ratio_by_cpu_time": statistics.median(b.cpu / a.cpu for a, b in zip(times, timings[0], strict=True)),
                "issue_share": statistics.median(timing.issue for timing in times),
            }
        )
    return records


def measure_rows(rows, images: Tensor, rounds: int, least: float, dtype: torch.dtype) -> dict:
    """The record of all rows at one batch, images (B, 3, H, W), beside a square product in `dtype`."""
    product, work = square_product(images.device, dtype)
    *timings, products = interleave([*rows, product], images, rounds, least)
    attainable = work / statistics.median(timing.seconds for timing in products)
    flops = [count_flops(row.predict, images) for row in rows]
    return {
        "batch": len(images),
        "attainable_gflops_per_second": attainable / 1e9,
        "rows": summarise(rows, timings, len(images), flops, attainable),
    }


def measure(rows, spotlit, chosen: str, images: Tensor, rounds: int, least: float) -> dict:
    """The same, with the profiles of the reference and the chosen row."""
    record = measure_rows(rows, images, rounds, least, spotlit.model.clip.dtype)
    visual, drops = spotlit.model.clip.visual, spotlit.head.drop is not None
    profiles = {
        row.name: profile_row(row, images, visual, spotlit.after, row.name == chosen and drops)
        for row in rows
        if row.name in (REFERENCE, chosen)
    }
    return {**record, "profile": profiles}
