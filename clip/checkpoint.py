"""Weights in files: OpenAI's TorchScript archives, plain state dicts, safetensors, and our `.npz`."""

import contextlib
import os
import secrets

import numpy as np
import torch
from torch import Tensor

import inert

from . import facts, kept
from .download import sha256_of
from .errors import InputError

GROWS = 20  # times its own size, that a .npz may have unpacked: fp16 numbers in fp32 shrink by three
SMALL = 100_000_000  # bytes that any may have unpacked
TRAINING_FILE = {"epoch", "name", "state_dict"}  # what open_clip's training saves; which GELU, it says elsewhere
KEPT = 4_000_000_000  # bytes of weights that one process keeps for others


def load_state_dict(path: str | os.PathLike) -> dict[str, Tensor]:
    """A state dict on the CPU, whatever the file's format; a dict around it and prefixes of its names are taken off."""
    path = os.fspath(path)
    if not os.path.isfile(path):
        raise InputError(
            f"The weights file {path} does not exist: correct the path, or name one of clip.available_models()."
        )
    former = kept.state_of(path)
    if former is not None:
        return former
    kept.read.add(path)
    try:
        state = read_any(path)
    except InputError:
        raise
    except inert.Unreadable as error:
        raise InputError(f"{path} cannot be read as weights, as it {error.reason}: {error.remedy}.") from error
    except Exception as error:  # each format's reader fails in its own ways
        reason = " ".join([f"{type(error).__name__}:", *str(error).splitlines()[:1]])
        raise InputError(
            f"{path} cannot be read as weights, as it is damaged or of another format than its name says ({reason}): "
            "fetch it again, or correct its name."
        ) from error
    weights = inert.weights_of(state)
    if weights and state.keys() >= TRAINING_FILE:
        weights |= facts.written({facts.QUICK_GELU: facts.UNKNOWN})
    if not weights:
        raise InputError(f"{path} holds no weights: save the model's state_dict().")
    return weights


def read_any(path: str) -> dict:
    if path.endswith(".safetensors"):
        from safetensors.torch import load_file

        return load_file(path)
    if path.endswith(".npz"):
        with np.load(path, allow_pickle=False) as arrays:
            check_growth(path, sum(part.file_size for part in arrays.zip.infolist()))
            return {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    state = inert.load(path)
    if not isinstance(state, dict):
        kind = state.name if isinstance(state, inert.Inert) else type(state).__name__
        raise InputError(f"{path} holds a {kind} and no state dict: save the model's state_dict().")
    return state


def keep(path: str | os.PathLike) -> None:
    """Read weights, and their SHA-256, for the processes that are forked from this one from now on (kept.py).

    Not those of a .safetensors, whose tensors are no copy of the file but look into it. What would be too much, or is no
    weights, is passed over.
    """
    kept.forget(path)
    with contextlib.suppress(InputError, OSError):
        if kept.size() + os.path.getsize(path) > KEPT:
            return
        version = kept.version_of(path)
        state = {} if os.fspath(path).endswith(".safetensors") else load_state_dict(path)
        sha256 = sha256_of(path)
        if version != kept.version_of(path):  # it is being written
            return
        kept.sums[version] = sha256
        if state:
            kept.states[version] = state


def check_growth(path: str, unpacked: int) -> None:
    """Refuse a small file that would fill the memory: weights hardly shrink when they are packed."""
    if unpacked > max(GROWS * os.path.getsize(path), SMALL):
        raise InputError(
            f"{path} would have {unpacked:,} bytes unpacked, more than {GROWS} times its size: take it from another place, "
            "or save it without compression."
        )


def save_npz(state: dict[str, Tensor], path: str | os.PathLike) -> None:
    """Compressed, in fp16. The file appears whole or not at all."""
    arrays: dict = {name: value.detach().cpu().to(torch.float16).numpy() for name, value in state.items()}
    replace_file(path, lambda file: np.savez_compressed(file, **arrays))


def replace_file(path: str | os.PathLike, write) -> None:
    """Call `write(file)` on a temporary file beside `path`, then put it in place in one step."""
    folder = os.path.dirname(os.path.abspath(path))
    os.makedirs(folder, exist_ok=True)
    temporary = os.path.join(folder, f".{os.path.basename(path)}.{secrets.token_hex(4)}.part")
    try:
        with open(temporary, "xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())  # a power cut must not leave the name before the bytes
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
