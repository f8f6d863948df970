"""Where the time of a prediction goes: by its parts, and by the kinds of kernels."""

import contextlib

import torch
import torch.nn as nn
from torch import Tensor
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile, record_function

from .predictors import Predictor

PARTS = (
    "patch embedding",
    "blocks before the drop",
    "drop",
    "blocks after the drop",
    "projection of tokens",
    "prediction",
)
KINDS = {  # what a kernel's own time is put down to, by its name; the first that matches
    "attention": ("scaled_dot_product", "flash", "efficient_attention"),
    "convolution": ("conv",),
    "matrix products": ("addmm", "::mm", "bmm", "matmul", "linear"),
    "layer norm": ("layer_norm",),
    "choosing tokens": ("topk", "sort", "gather", "scatter", "index", "masked_fill"),
    "copies": ("copy_", "cat", "clone", "contiguous"),
    "elementwise": ("aten::mul", "aten::add", "aten::sub", "aten::div", "sigmoid", "clamp"),
}


def synchronise(device: torch.device) -> None:
    if device.type != "cpu":
        torch.cuda.synchronize(device)


class Parts:
    """Marks where one part of a prediction ends and the next begins, by hooks on the image encoder's modules.

    Between the marked parts nothing is left out, so their times add up to the whole.
    """

    def __init__(self, visual: nn.Module, after: tuple[int, ...], drops: bool):
        self.visual, self.after, self.drops, self.open = visual, after, drops, None

    def enter(self, part: str | None) -> None:
        if self.open is not None:
            self.open.__exit__(None, None, None)
        self.open = record_function(part) if part else None
        if self.open is not None:
            self.open.__enter__()

    @contextlib.contextmanager
    def marked(self):
        """While this lasts every prediction opens the parts in their order."""
        blocks = self.visual.transformer.resblocks
        first, _, later, last = PARTS[1], PARTS[2], PARTS[3], len(blocks) - 1
        hooks = [self.visual.register_forward_pre_hook(lambda *_: self.enter(PARTS[0]))]
        for i, block in enumerate(blocks):
            name = first if i <= self.after[0] else later
            hooks.append(block.register_forward_pre_hook(lambda *_, name=name: self.enter(name)))
            if i in self.after and self.drops:
                hooks.append(block.register_forward_hook(lambda *_: self.enter(PARTS[2])))
            if i == last:
                hooks.append(block.register_forward_hook(lambda *_: self.enter(PARTS[4])))
        hooks.append(self.visual.register_forward_hook(lambda *_: self.enter(PARTS[5])))
        try:
            yield
        finally:
            self.enter(None)
            for hook in hooks:
                hook.remove()


@torch.no_grad()
def profile_row(
    row: Predictor, images: Tensor, visual: nn.Module, after: tuple[int, ...], drops: bool, repeats: int = 2
):
    """{"parts": ..., "kinds": ...}: milliseconds per image, and shares, of a prediction's parts and of kernels."""
    cuda = images.device.type == "cuda"
    parts = Parts(visual, after, drops)
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * cuda
    with parts.marked(), profile(activities=activities) as recorded:
        for _ in range(repeats):
            row.predict(images)
            parts.enter(None)
        synchronise(images.device)
    scale = 1e-3 / (repeats * len(images))  # microseconds of all batches -> milliseconds of an image
    total, kinds = dict.fromkeys(PARTS, 0.0), {}
    for event in recorded.events():
        if event.device_type == DeviceType.CPU and event.name in total:  # the host's range, with the kernels it issued
            total[event.name] += scale * (event.device_time_total if cuda else event.cpu_time_total)
    for event in recorded.key_averages():
        if event.key.startswith("aten::"):
            kind = next((kind for kind, names in KINDS.items() if any(name in event.key for name in names)), "other")
            kinds[kind] = kinds.get(kind, 0.0) + scale * (
                event.self_device_time_total if cuda else event.self_cpu_time_total
            )
    return {"parts": with_shares(total), "kinds": with_shares(dict(sorted(kinds.items(), key=lambda x: -x[1])))}


def with_shares(times: dict[str, float]) -> dict[str, dict[str, float]]:
    whole = sum(times.values()) or 1.0
    return {name: {"ms_per_image": value, "share": value / whole} for name, value in times.items()}
