"""OpenAI's public functions: `available_models`, `load`, `tokenize`; and the table of published weights."""

import difflib
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from . import facts, foreign, hub, positions
from .checkpoint import load_state_dict, replace_file
from .download import download, sha256_of
from .errors import InputError, UnknownName
from .model import CLIP, build_model
from .simple_tokenizer import END, START
from .simple_tokenizer import SimpleTokenizer as _Tokenizer

if TYPE_CHECKING:
    from torchvision.transforms import Compose

__all__ = ["available_models", "build_model", "load", "tokenize"]

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
SHIPPED = "shipped:"  # weights that are part of this package


class _Models(dict):
    """Names to addresses; an unknown name is answered with the nearest one."""

    def __missing__(self, name):
        near = difflib.get_close_matches(str(name), self, n=1, cutoff=0)[0]
        raise UnknownName(
            f"CLIP {name!r} is unknown; the nearest name is {near!r} "
            f"(known: {', '.join(self)}; clip.load also takes the path of an existing file)."
        )


# The last but one part of an address is the file's SHA-256.
_PUBLIC = "https://openaipublic.azureedge.net/clip/models"
_MODELS = _Models(
    {
        "RN50": f"{_PUBLIC}/afeb0e10f9e5a86da6080e35cf09123aca3b358a0c3e3b6c78a7b63bc04b6762/RN50.pt",
        "RN101": f"{_PUBLIC}/8fa8567bab74a42d41c5915025a8e4538c3bdbe8804a470a72f30b0d94fab599/RN101.pt",
        "RN50x4": f"{_PUBLIC}/7e526bd135e493cef0776de27d5f42653e6b4c8bf9e0f653bb11773263205fdd/RN50x4.pt",
        "RN50x16": f"{_PUBLIC}/52378b407f34354e150460fe41077663dd5b39c54cd0bfd2b27167a4a06ec9aa/RN50x16.pt",
        "RN50x64": f"{_PUBLIC}/be1cfb55d75a9666199fb2206c106743da0f6468c9d327f3e0d0a543a9919d9c/RN50x64.pt",
        "ViT-B/32": f"{_PUBLIC}/40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af/ViT-B-32.pt",
        "ViT-B/16": f"{_PUBLIC}/5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f/ViT-B-16.pt",
        "ViT-L/14": f"{_PUBLIC}/b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836/ViT-L-14.pt",
        "ViT-L/14@336px": f"{_PUBLIC}/3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02/ViT-L-14-336px.pt",
        "ViT-Embedded/8": f"{SHIPPED}vit_embedded_8.npz",
    }
)
_tokenizer = None  # made when it is first needed: reading the vocabulary takes a moment


def available_models() -> list[str]:
    """The names that `load` takes."""
    return list(_MODELS)


def sha256_of_model(name: str) -> str:
    """Of the file behind a name of `available_models()`, which need not be here."""
    address = _MODELS[name]
    return sha256_of(str(_shipped(address))) if address.startswith(SHIPPED) else address.split("/")[-2]


def find_weights(name: str, root: str | None = None) -> str:
    """The file behind a name of `available_models()`, or behind a path, for `load_state_dict`."""
    if os.path.isfile(name):
        return name
    address = _MODELS[name]
    return str(_shipped(address)) if address.startswith(SHIPPED) else _download(address, root)


def load_weights(name: str, root: str | None = None, activation: str = "", size: int = 0) -> dict[str, Tensor]:
    """The state dict of whatever names a CLIP: a name of `available_models()`, the path of a file or folder, or one of
    Hugging Face's or open_clip's (`hub.py`). It has OpenAI's names, and beside the weights what `facts.py` says.

    activation: "gelu" or "quick_gelu", whatever is said there. size: of images, for which a ViT's positions are then
    interpolated; 0: as it is.
    """
    place = place_of(name)
    if place is None:
        state = _of_file(find_weights(name, root))
    else:
        state = {key: value for file in place.files for key, value in load_state_dict(file).items()}
        try:
            state = place.in_openais_names(state, name)
        except RuntimeError as error:  # of tensors that cannot be joined or transposed
            raise InputError(f"{name} is not a whole CLIP ({str(error).splitlines()[0]}): fetch it again.") from error
        foreign.check_widths(state, place.widths, name)
        state |= facts.written(place.facts)
    state = positions.in_one_table(state)
    if activation:
        state |= facts.written({facts.QUICK_GELU: float(activation == "quick_gelu")})
    return positions.resized(state, size) if size else state


def place_of(name: str) -> hub.Place | None:
    """Where a backbone of another library lies; None of one of OpenAI's, whatever folder here is called like it."""
    return None if name in _MODELS else hub.place(name)


def _of_file(path: str) -> dict[str, Tensor]:
    state = load_state_dict(path)
    if foreign.is_of_transformers(state):
        raise InputError(f"{path} is Hugging Face's, and its config.json is not beside it: name a folder with both.")
    state = foreign.from_open_clip(state, path)
    if os.path.basename(path).startswith("open_clip"):
        state = facts.written({facts.QUICK_GELU: facts.UNKNOWN}) | state
    return state


def _download(url: str, root: str | None = None) -> str:
    """The local file of an address of `_MODELS`; it is fetched once and checked by its SHA-256.

    For weights shipped in this package the file is a plain state dict made from them, which `torch.load` reads.
    """
    root = os.path.expanduser(root or os.environ.get("CLIP_CACHE", "~/.cache/clip"))
    try:
        os.makedirs(root, exist_ok=True)
    except OSError as error:
        raise InputError(f"The folder for weights cannot be made ({error}): name another one in CLIP_CACHE.") from error
    if url.startswith(SHIPPED):
        return _unpack_shipped(url, root)
    sha256, name = url.split("/")[-2:]
    return download(url, os.path.join(root, name), sha256)


def _shipped(address: str) -> Path:
    source = Path(__file__).parent / "weights" / address.removeprefix(SHIPPED)
    if not source.is_file():
        raise InputError(
            f"{source} is missing, though it belongs to this package: restore it, or make it with `python -m pretraining.pretrain`."
        )
    return source


def _unpack_shipped(address: str, root: str) -> str:
    source = _shipped(address)
    target = Path(root) / f"{source.stem}-{sha256_of(str(source))[:16]}.pt"
    state = load_state_dict(source)
    if not _holds(target, state):
        replace_file(target, lambda file: torch.save(state, file))
    return str(target)


def _holds(path: Path, state: dict[str, Tensor]) -> bool:
    """Whether a copy that lies where anybody may write is these very tensors."""
    if not path.is_file():
        return False
    try:
        copy = load_state_dict(path)
    except InputError:
        return False
    return copy.keys() == state.keys() and all(torch.equal(copy[name], value) for name, value in state.items())


def load(
    name: str, device: str | torch.device | None = None, jit: bool = False, download_root: str | None = None
) -> tuple[CLIP, "Compose"]:
    """A CLIP and its image transform, by whatever `load_weights` takes.

    On a CPU the model is fp32, elsewhere fp16. `jit` is accepted for compatibility; the model is never scripted.
    """
    if jit:
        warnings.warn("jit=True has no effect: the model is a plain module and never scripted.", stacklevel=2)
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    state = load_weights(name, download_root)
    wide = device.type == "cpu" and not facts.is_openais(state)  # OpenAI's are fp16 in any file
    model = build_model(state, dtype=torch.float32 if wide else torch.float16).to(device)
    if device.type == "cpu":
        model.float()
    return model, _transform(model.visual.input_resolution)


def _to_rgb(image):
    return image.convert("RGB")  # a named function, so that the workers of a data loader can be sent it


def _transform(size: int) -> "Compose":
    """The test transform: the short side to `size`, the centre, CLIP's normalisation."""
    from torchvision import transforms  # takes nearly as long to import as PyTorch, and a trainer has its own

    return transforms.Compose(
        [
            transforms.Resize(size, transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(size),
            _to_rgb,
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )


def tokenize(texts: str | list[str], context_length: int = 77, truncate: bool = False) -> Tensor:
    """Token ids (C, context_length) int64: start, text, end, zeros. A text that is too long is an error, or cut."""
    global _tokenizer
    _tokenizer = _tokenizer or _Tokenizer()
    start, end = _tokenizer.encoder[START], _tokenizer.encoder[END]
    texts = [texts] if isinstance(texts, str) else texts
    tokens = torch.zeros(len(texts), context_length, dtype=torch.long)
    for row, text in enumerate(texts):
        if not isinstance(text, str):
            raise InputError(f"{text!r} is a {type(text).__name__} and no text: give a string or a list of strings.")
        ids = [start, *_tokenizer.encode(text), end]
        if len(ids) > context_length:
            if not truncate:
                shown = text if len(text) < 60 else text[:57] + "..."
                raise InputError(
                    f"The text {shown!r} takes {len(ids)} tokens and there is room for {context_length}: shorten it, or pass truncate=True."
                )
            ids = [*ids[: context_length - 1], end]
        tokens[row, : len(ids)] = torch.tensor(ids)
    return tokens
