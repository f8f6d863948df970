"""What runs find in memory that are forked from one process (sweep/server.py), which imports this: the libraries, this
project's modules beneath methods and data sets, CLIP's vocabulary, and the weights that a run before them has read.

Methods and data sets are not among it: users add files there, which do as they are imported what they like. Nor does
anything here ask for a GPU or compute by several threads, as a forked process could do neither after that.
"""

import contextlib
import gc
import importlib
from pathlib import Path

import clip
from clip import checkpoint, kept, simple_tokenizer

MODULES = (
    "torch._dynamo",  # PyTorch itself imports it with the first optimiser
    "torch.utils.serialization",
    "torch.utils.tensorboard",
    "torchvision.transforms",
    "PIL.JpegImagePlugin",
    "PIL.PngImagePlugin",
    "dassl.data.transforms.steps",
    "dassl.engine.trainer",
    "one_run.record",
)


def import_all() -> None:
    for name in MODULES:
        importlib.import_module(name)
    clip.tokenize("")  # reads the vocabulary
    gc.collect()
    gc.freeze()  # a collection in a forked process looks at none of this, so that its memory stays shared


def files() -> list[Path]:
    """What was read beside modules."""
    return [Path(simple_tokenizer.default_bpe())]


def weights_read() -> list[str]:
    """Paths of the weights that this process has read from files."""
    return sorted(kept.read)


def keep(path: str) -> None:
    """For the runs to come; each version of a file is tried once."""
    with contextlib.suppress(OSError):
        version = kept.version_of(path)
        if version not in tried:
            tried.add(version)
            checkpoint.keep(path)


tried: set[tuple] = set()
