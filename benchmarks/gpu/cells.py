"""One measurement a cell: its record says what was measured, or why nothing was, and the next cell goes on."""

import contextlib
import gc
import io
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch

from dassl.engine.tensors import wait_for
from dassl.utils import device_of_run
from dassl.utils.memory import is_out_of_memory


class Settings(NamedTuple):
    """What all parts are told."""

    folder: str  # with what was made for this run: see `prepare`
    use_cuda: bool
    quick: bool  # a small size, to see that it works
    seconds: float  # what one timing lasts at least
    rounds: int  # how often each is timed
    until: float  # of `time.time()`: no cell begins later
    no_network: bool = False

    @property
    def device(self) -> torch.device:
        return device_of_run(self.use_cuda)

    @property
    def pictures(self) -> str:
        """The data root with a small drawing of the embedded species."""
        return str(Path(self.folder) / "data")

    @property
    def weights(self) -> str:
        """The CLIP whose speed and memory are measured: the shipped one, or a file with random weights."""
        return "ViT-Embedded/8" if self.quick else str(Path(self.folder) / "random_clip.pt")

    @property
    def classes(self) -> int:
        return 5 if self.quick else 100

    @property
    def precisions(self) -> tuple[str, ...]:
        """Those in which a device can be told from the CPU's fp32."""
        return ("fp32", "tf32", "fp16", "bf16", "amp") if self.use_cuda else ("fp32", "bf16")


def cell(settings: Settings, name: str, work: Callable[[], dict]) -> dict:
    """{"cell", "seconds", and what `work` returns}. In its place: "skipped", "no_room", or "error" with its traceback.

    `work` may return "failed", a sentence, beside its figures, or "skipped" itself.
    """
    started = time.time()
    if started > settings.until:
        return {"cell": name, "skipped": "the time was spent before"}
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            record = work()
            wait_for(settings.device)  # an error of a GPU shows no later than here
    except Exception as error:
        sentence = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
        if is_out_of_memory(error):
            record = {"no_room": sentence}
        else:
            record = {"error": sentence, "traceback": traceback.format_exc()}
    free(settings)
    return {"cell": name, "seconds": round(time.time() - started, 1), **record}


def free(settings: Settings) -> None:
    """Give back what the last cell took."""
    gc.collect()
    if settings.use_cuda:
        with contextlib.suppress(RuntimeError):  # a GPU that failed gives nothing back: the next cell will say so
            torch.cuda.empty_cache()


def is_failure(record: dict) -> bool:
    return "error" in record or "failed" in record
