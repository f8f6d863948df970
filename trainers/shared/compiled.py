"""CLIP's encoders compiled for the training step, whose shapes are the same from one step to the next (TRAIN.COMPILE).

A small batch keeps a GPU waiting for the next operation, of which an encoder has hundreds. `compile` makes fewer of them
(PyTorch's inductor); `graphs` also has the GPU play all of them from one recording (CUDA graphs).
"""

import contextlib
from collections.abc import Callable, Iterator

import torch
import torch.nn as nn

import clip
import clip.lengths
from clip import InputError

WAYS = ("", "compile", "graphs")
ENCODERS = ("encode_image", "encode_prompts")


def compiled(function: Callable, way: str) -> Callable:
    """The same function, with the same rounding in half precision, compiled anew for every shape."""
    torch.compiler.assume_constant_result(
        clip.lengths.spans
    )  # lengths are the prompts' own; not at import, as it takes long
    options = {"emulate_precision_casts": True, "triton.cudagraphs": way == "graphs"}
    return torch.compile(function, dynamic=False, options=options)


def check_way(way: str, device: torch.device, text_parts: int = 0) -> None:
    """Refuse what cannot work here, before it is needed; `text_parts` as in a `Division` (`memory.py`)."""
    if way == "graphs" and device.type == "cpu":
        raise InputError(
            "TRAIN.COMPILE is graphs, which are recordings of a GPU's work, and this run is on the CPU: set it to "
            "compile, or leave it empty."
        )
    if not way:
        return
    if text_parts > 1:
        raise InputError(
            f"TRAIN.COMPILE is {way}, and the text encoder takes its prompts in {text_parts} parts, each a second time for "
            "its gradient: leave TRAIN.COMPILE empty, or set TRAINER.MEMORY_MB higher, if there is room."
        )
    try:
        compiled(torch.sin, way)(torch.ones(8, device=device))
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(
            f"TRAIN.COMPILE is {way}, and PyTorch cannot compile here ({reason}): install a C++ compiler (g++), and on a "
            "GPU Triton too, or leave TRAIN.COMPILE empty."
        ) from error


class CompiledEncoders:
    """The encoders of every CLIP in a model, compiled while they are `at_work` for a step.

    What has another number of images than the step's batch, or texts that nothing learns from, is computed as ever:
    it is computed once, and would be compiled for once.
    """

    def __init__(self, model: nn.Module, way: str):
        self.batch = 0
        self.steps = way == "graphs"
        self.parts = []
        for part in model.modules() if way else ():
            if isinstance(part, clip.model.CLIP):
                self.parts.append((part, {name: self.chosen(getattr(part, name), name, way) for name in ENCODERS}))

    def chosen(self, plain: Callable, name: str, way: str) -> Callable:
        fast = compiled(plain, way)

        def encode(x, *rest, **more):
            fits = len(x) == self.batch if name == "encode_image" else torch.is_grad_enabled()
            return (fast if fits else plain)(x, *rest, **more)

        return encode

    @contextlib.contextmanager
    def at_work(self, batch: int) -> Iterator[None]:
        """For a step with so many images."""
        self.batch = batch
        if self.steps:
            torch.compiler.cudagraph_mark_step_begin()  # results of the last step may be written over
        for part, encoders in self.parts:
            vars(part).update(encoders)
        try:
            yield
        finally:
            for part, encoders in self.parts:
                for name in encoders:
                    del vars(part)[name]
