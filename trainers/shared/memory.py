"""What memory there is, and what a step takes of it: the text encoder works on as many prompts at a time as fit.

Counted are activations (`clip/parts.py`), which grow with classes and images. Weights are loaded before anything is
counted, and what is learned is small beside both.
"""

import math
import os
from pathlib import Path
from typing import NamedTuple

import torch

import clip
from clip import InputError
from clip.parts import Texts, activations

MB = 2**20
LEAST_MB = 1024  # what takes less is never parted, on whatever machine, so that its bits are the same on all of them

SHARE = 0.6  # a process holds up to 1.6 times of what is counted, as freed memory lies in pieces (benchmarks.text)


class Need(NamedTuple):
    """What is at work at one moment of a run, the bytes that it takes, and the config keys that make it smaller."""

    what: str
    size: float
    keys: str


class Division(NamedTuple):
    """How a training step's memory is divided between the encoders: bytes."""

    prompts: int  # that a step sends through the text encoder; 0: it has nothing to learn
    length: int  # tokens of the longest
    parts: int  # in which they go through it; 0: they do not
    bound: float  # on the text encoder's activations
    text: float  # what they take of that
    images: int  # what a batch takes in the image encoder
    learns_images: bool

    def need_of_a_step(self) -> Need:
        keys = ["TRAINER.MEMORY_MB"] * (self.parts > 0) + ["DATALOADER.TRAIN_X.BATCH_SIZE"] * self.learns_images
        return Need("A training step", self.text + self.images, " or ".join(keys) or "DATALOADER.TRAIN_X.BATCH_SIZE")

    def in_words(self, asked: float) -> str:
        text = ""
        if self.parts:
            how = f"in {self.parts} parts" if self.parts > 1 else "at once"
            bound = f"{'' if asked else 'auto, '}{self.bound / MB:,.0f}"
            text = f"text encoder {in_mib(self.text)}, {self.prompts:,} prompts of {self.length} tokens {how} (TRAINER.MEMORY_MB {bound}); "
        return f"A step's activations take about {in_mib(self.text + self.images)}: {text}image encoder {in_mib(self.images)}"


def divide(model, batch: int, asked: float, device: torch.device) -> Division:
    """Give the text encoder of a `PromptedCLIP` what TRAINER.MEMORY_MB asks for, or what there is room for beside a
    training batch's images.
    """
    learner, encoder = model.prompt_learner, model.clip
    learns = learner is not None and not learner.frozen_images
    images = of_images(encoder.visual, batch, encoder.dtype, learns)
    texts = Texts(()) if learner is None else learner.text_work(batch)
    length = max(texts.lengths, default=0)
    longest = encoder.text_size(Texts((length,), texts.shared), learns=True) if length else 0
    if 0 < asked * MB < longest:
        raise InputError(
            f"TRAINER.MEMORY_MB is {asked:g}, and one prompt of {length} tokens takes {longest / MB:.2g} MiB in this text "
            "encoder: set it higher, or to 0, which takes what there is room for."
        )
    encoder.text_memory = bound = text_memory(asked, device, others=images)
    with torch.enable_grad():
        pieces = encoder.text_parts(texts) if length else []
    sizes = [encoder.text_size(texts.piece(*piece), learns=True) for piece in pieces]
    return Division(texts.total, length, len(pieces), bound, max(sizes, default=0), images, learns)


def warn_of(needs: list[Need], device: torch.device) -> None:
    """Say what will not fit, before it is tried: on a CPU the system may kill a process without a word."""
    free, _ = memory_of(device)
    for need in needs:
        if need.size > free:
            print(
                f"Warning: {need.what} takes about {in_mib(need.size)}, and {in_mib(free)} are free: lower {need.keys}."
            )


def in_mib(size: float) -> str:
    return f"{size / MB:,.0f} MiB"


def text_memory(memory_mb: float, device: torch.device, others: int = 0) -> float:
    """Bytes for the text encoder's activations: TRAINER.MEMORY_MB, or if that is 0 as much as the device has room for.

    That is half of its memory, and at most `SHARE` of what is free less the bytes that `others` take at the same time;
    in powers of two, so that a little more or less of free memory changes nothing.
    """
    if memory_mb:
        return memory_mb * MB
    free, total = memory_of(device)
    room = min(total / 2, SHARE * (free - others))
    return max(LEAST_MB * MB, 2.0 ** math.floor(math.log2(max(room, 1))))


def of_images(visual: torch.nn.Module, count: int, dtype: torch.dtype, learns: bool) -> int:
    """Bytes of so many images' activations in an image encoder.

    A residual network counts as nothing: no method learns in one, so that only a layer's are there at a time. Nor do
    the few learned tokens beside an image's own.
    """
    if not isinstance(visual, clip.model.VisionTransformer):
        return 0
    return count * activations(visual.transformer, len(visual.positional_embedding), dtype, learns)


# --- what there is ---------------------------------------------------------------------------------------------------


def memory_of(device: torch.device) -> tuple[float, float]:
    """Bytes that are free and bytes that there are, on a GPU or for this process on a CPU."""
    if device.type != "cpu":
        free, total = torch.cuda.mem_get_info()
        kept = torch.cuda.memory_reserved() - torch.cuda.memory_allocated()  # by PyTorch, for later
        return free + kept, total
    free, total = of_machine()
    for limit, used in limits():
        free, total = min(free, limit - used), min(total, limit)
    return max(free, 0), total


def of_machine() -> tuple[float, float]:
    """Bytes of this machine, free and all; where a system says neither, 8 GiB of which half are free."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        sizes = {line.split(":")[0]: 1024 * int(line.split()[1]) for line in lines if line}
        return sizes["MemAvailable"], sizes["MemTotal"]
    except (OSError, KeyError, ValueError, IndexError):
        try:
            total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        except (AttributeError, OSError, ValueError):
            total = 8 * 2**30
        return total / 2, total


def limits(process: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> list[tuple[int, int]]:
    """(limit, used) in bytes of each control group around this process that has a limit: containers and schedulers
    set them. What files fill that can be dropped is not used.
    """
    found = []
    try:
        groups = [line.split(":", 2) for line in process.read_text().splitlines()]
    except OSError:
        return []
    for _, kinds, path in groups:
        if kinds and "memory" not in kinds.split(","):
            continue
        top, names = (root / "memory", OLD_NAMES) if kinds else (root, NAMES)  # the first and the second form
        place = top / path.lstrip("/")
        for folder in (place, *place.parents):
            if folder.is_relative_to(top) and (one := limit_in(folder, *names)) is not None:
                found.append(one)
    return found


NAMES = ("memory.max", "memory.current", "inactive_file")
OLD_NAMES = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


def limit_in(folder: Path, limit: str, used: str, droppable: str) -> tuple[int, int] | None:
    try:
        most, now = int((folder / limit).read_text()), int((folder / used).read_text())  # "max": there is none
        lines = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        return most, now - int(lines.get(droppable, 0))
    except (OSError, ValueError):
        return None
