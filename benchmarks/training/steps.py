"""Training steps: ours beside the field's, re-created, and beside the authors' own code, where it is checked out.

The size is ViT-B/16's, with random weights. Rows of a cell take their turns in one run; what a method computes once a run
(the features of remembered images, PromptSRC's frozen texts) is made up, and stands in no step.
"""

import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import torch
import torch.nn.functional as F

from benchmarks.fps.predictors import class_names
from benchmarks.made_up import SHOTS
from benchmarks.steps import EMBEDDED, Steps, steps
from clip.parts import activations
from dassl.utils import InputError
from trainers import promptsrc

from .authors import CODE, Authors
from .timing import clocked, interleaved, times

METHODS = ("CoOp", "CoCoOp", "KgCoOp", "MaPLe", "PromptSRC", "Spotlighter")
POSSIBLE = (
    *METHODS,
    *(method for method in CODE if method not in METHODS),
)  # the others beside their authors' code alone
CLASSES, BATCHES = (10, 50, 100, 500, 1000), (1, 4, 32)
PLACES = 77
RANDOM = ["TRAINER.COOP.CTX_INIT", ""]  # 16 tokens, at random
CONTEXT = {"CoOp": RANDOM, "Spotlighter": RANDOM, "ATPrompt": ["TRAINER.ATPROMPT.ATTRIBUTES", "color, shape"]}
ROOM = 0.85  # of the memory that is available


class Cell(NamedTuple):
    method: str
    classes: int
    batch: int
    views: int = 0  # DATALOADER.VIEWS

    def __str__(self) -> str:
        return f"{self.method}:{self.classes}:{self.batch}" + (f":{self.views}" if self.views else "")


DEFAULT = (
    Cell("CoOp", 100, 32), Cell("CoOp", 100, 32, 8), Cell("CoOp", 500, 32), Cell("KgCoOp", 100, 32),
    Cell("CoCoOp", 100, 1), Cell("MaPLe", 100, 4), Cell("PromptSRC", 100, 4),
    *(Cell(method, 10, 4) for method in METHODS),
)  # fmt: skip
QUICK = (*(Cell(method, 10, 4) for method in METHODS), Cell("CoOp", 10, 4, 2))
GOALS = {
    Cell("CoOp", 100, 32): 1.8,
    Cell("CoOp", 500, 32): 3.5,
    Cell("CoOp", 100, 32, 8): 5.0,
    Cell("MaPLe", 100, 4): 2.5,
    Cell("PromptSRC", 100, 4): 2.0,
    Cell("CoCoOp", 100, 1): 5.0,
}  # fmt: skip  times the re-creation's


def cell_of(text: str) -> Cell:
    """METHOD:CLASSES:BATCH, or METHOD:CLASSES:BATCH:VIEWS"""
    method, *numbers = text.split(":")
    if method not in POSSIBLE or len(numbers) not in (2, 3) or not all(number.isdecimal() for number in numbers):
        raise InputError(
            f"--cells has {text!r}: give METHOD:CLASSES:BATCH or METHOD:CLASSES:BATCH:VIEWS, METHOD of {', '.join(POSSIBLE)}."
        )
    cell = Cell(method, *map(int, numbers))
    most = len(class_names())
    if not 2 <= cell.classes <= most or not 1 <= cell.batch <= SHOTS * cell.classes or cell.views == 1:
        raise InputError(
            f"--cells has {text!r}: classes are 2 to {most}, a batch 1 to {SHOTS} images a class, views 2 or more."
        )
    return cell


def asked(cells: list[str], methods: list[str], classes: list[int], batches: list[int], quick: bool) -> list[Cell]:
    """The cells named, or the product of the three lists, where one of them is given; else the default."""
    if cells:
        return [cell_of(text) for text in cells]
    if methods or classes or batches:
        grid = [
            f"{method}:{count}:{batch}"
            for method in methods or METHODS
            for count in classes or CLASSES
            for batch in batches or BATCHES
        ]
        return [cell_of(text) for text in grid]
    return list(QUICK if quick else DEFAULT)


def records(cells: list[Cell], weights: str, authors: Path | None, rounds: int, limit: float) -> Iterator[dict]:
    for cell in cells:
        yield measure(cell, weights, authors, rounds, limit)


def measure(cell: Cell, weights: str, authors: Path | None, rounds: int, limit: float) -> dict:
    both = build(cell, weights)
    record = {**cell._asdict(), "cell": str(cell), "goal": GOALS.get(cell) if weights != EMBEDDED else None}
    needed, there = memory_of_theirs(cell, both), available()
    fits = there is None or needed < ROOM * there
    if not fits:
        record["no_room"] = (
            f"the field's step keeps about {needed / 2**30:.0f} GiB, and {(there or 0) / 2**30:.0f} are free"
        )
    rows = {"ours": clocked(both.ours)}
    if fits and both.theirs is not None:
        rows["field"] = clocked(both.theirs)
    if fits and authors is not None and cell.method in CODE:
        rows["authors"] = Authors(authors, cell.method, both.trainer, cell.batch)
    if cell.views:
        images = torch.randn(cell.batch, 3, *both.trainer.cfg.INPUT.SIZE)
        rows["encoding"] = clocked(torch.no_grad()(lambda: both.trainer.model.image_features(images)))
    try:
        seconds = interleaved(rows, rounds, limit)
    finally:
        if "authors" in rows:
            rows["authors"].end()
    if cell.views:
        share_encoding(seconds, cell, both.trainer.cfg.OPTIM.MAX_EPOCH)
    record["rounds"] = len(seconds["ours"])
    record["cpu_seconds"] = {name: statistics.median(own) for name, own in seconds.items()}
    record["ratios"] = {name: times(seconds, name, "ours") for name in seconds if name in ("field", "authors")}
    if cell.views and "field" in seconds:
        record["ratios"]["field, encoding shared out"] = times(seconds, "field", "ours and encoding")
    return record


def build(cell: Cell, weights: str) -> Steps:
    options = list(CONTEXT.get(cell.method, []))
    if cell.views:
        options += ["DATALOADER.VIEWS", cell.views]
    with mock.patch.object(promptsrc, "templates", lambda: ["a photo of a {}."]):  # it has 60, encoded once a run
        both = steps(cell.method, weights, cell.classes, cell.batch, options, use_cuda=False, precision="fp32")
        if cell.method == "PromptSRC":
            both.trainer.frozen_text  # noqa: B018  kept from here on
    if cell.views:
        width = both.trainer.model.clip.text_projection.shape[1]
        remembered = F.normalize(torch.randn(cell.views, SHOTS * cell.classes, width), dim=-1)
        both.trainer.remembered["image"] = remembered  # as `once_per_image` would have it
    return both


def share_encoding(seconds: dict[str, list[float]], cell: Cell, epochs: int) -> None:
    """A batch is encoded once for each view, in all epochs together."""
    pairs = zip(seconds["ours"], seconds["encoding"], strict=True)
    seconds["ours and encoding"] = [step + cell.views / epochs * encoding for step, encoding in pairs]


def memory_of_theirs(cell: Cell, both: Steps) -> int:
    """Bytes that the field's step keeps for its gradient, of its texts alone."""
    model = both.trainer.model.clip
    prompts = cell.classes * (cell.batch if cell.method == "CoCoOp" else 1)
    return prompts * activations(model.transformer, PLACES, torch.float32, True)


def available() -> int | None:
    """Bytes of memory, where Linux tells."""
    file = Path("/proc/meminfo")
    if not file.is_file():
        return None
    lines = dict(line.split(":", 1) for line in file.read_text().splitlines())
    return int(lines["MemAvailable"].split()[0]) * 1024
