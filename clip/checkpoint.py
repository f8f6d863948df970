"""Weights in files: OpenAI's TorchScript archives, plain state dicts, safetensors, and our `.npz`."""

import os
import tempfile
import warnings
import zipfile

import numpy as np
import torch
from torch import Tensor

from .errors import InputError


def load_state_dict(path: str | os.PathLike) -> dict[str, Tensor]:
    """A state dict on the CPU, whatever the file's format; `module.` prefixes and a wrapping dict are taken off."""
    path = os.fspath(path)
    if not os.path.isfile(path):
        raise InputError(
            f"The weights file {path} does not exist: correct the path, or name one of clip.available_models()."
        )
    try:
        state = read_any(path)
    except InputError:
        raise
    except Exception as error:  # each format's reader fails in its own ways
        raise InputError(
            f"{path} cannot be read as weights ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no reason given'}): "
            "it may be cut short; fetch it again."
        ) from error
    for wrapper in ("state_dict", "model"):
        if isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    weights = {name.removeprefix("module."): value for name, value in state.items() if torch.is_tensor(value)}
    if not weights:
        raise InputError(f"{path} holds no weights: save the model's state_dict().")
    return weights


def read_any(path: str) -> dict:
    if path.endswith(".safetensors"):
        from safetensors.torch import load_file

        return load_file(path)
    if path.endswith(".npz"):
        with np.load(path, allow_pickle=False) as arrays:
            return {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    if is_torchscript(path):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # scripts are deprecated, and OpenAI's files are scripts all the same
            return dict(torch.jit.load(path, map_location="cpu").state_dict())
    state = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(state, dict):
        raise InputError(f"{path} holds a {type(state).__name__} and no state dict: save the model's state_dict().")
    return state


def is_torchscript(path: str) -> bool:
    """A TorchScript archive is a zip file with a constants.pkl, which other checkpoints have not."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def save_npz(state: dict[str, Tensor], path: str | os.PathLike) -> None:
    """Compressed, in fp16. The file appears whole or not at all."""
    arrays: dict = {name: value.detach().cpu().to(torch.float16).numpy() for name, value in state.items()}
    replace_file(path, lambda file: np.savez_compressed(file, **arrays))


def replace_file(path: str | os.PathLike, write) -> None:
    """Call `write(file)` on a temporary file beside `path`, then put it in place in one step."""
    folder = os.path.dirname(os.path.abspath(path))
    os.makedirs(folder, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=folder, prefix=f".{os.path.basename(path)}.")
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
