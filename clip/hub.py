"""Where a backbone of another library lies: on Hugging Face's hub, or in a folder or file here; and what is said of it.

hf:owner/name                  a model on the hub; hf:owner/name@revision one of its revisions
open_clip:ViT-B-16/some_tag    a model of open_clip's tables, which come with that package
path/to/folder                 what the hub would have: config.json or open_clip_config.json, and weights
"""

import difflib
import functools
import hashlib
import importlib
import importlib.util
import json
import os
import re
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from . import foreign, kept
from .download import sha256_of
from .errors import InputError

HUB, OPEN_CLIP = "hf:", "open_clip:"
CONFIG, OPEN_CLIP_CONFIG = "config.json", "open_clip_config.json"
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
OPEN_CLIP_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
PIXELS = "preprocessor_config.json"
Pixels = tuple[list[float], list[float]]
Get = Callable[[str], str | None]  # the path of one of a model's files, which it may lack


@dataclass(frozen=True)
class Place:
    """The files of a backbone's weights, the numbers beside them (`facts.py`), the widths that both encoders must have, how
    names become OpenAI's, and the mean and deviation of the pixels that it was trained on, if they are said.
    """

    name: str
    files: tuple[str, ...]
    facts: dict[str, float]
    widths: tuple[int, int]
    in_openais_names: Callable[[dict[str, Tensor], str], dict[str, Tensor]]
    pixels: Pixels | None

    def sha256(self, sha256_of: Callable[[str], str] = sha256_of) -> str:
        """Of the files, by their own hashes, and of the numbers, which are a part of the model."""
        said = json.dumps([*map(sha256_of, self.files), self.facts], sort_keys=True)
        return hashlib.sha256(said.encode()).hexdigest()


def is_foreign(name: str) -> bool:
    """Whether it names a model on the hub, or a folder."""
    return name.startswith((HUB, OPEN_CLIP)) or os.path.isdir(name)


def check(name: str) -> None:
    """Refuse what can be refused before anything is fetched."""
    if name.startswith(OPEN_CLIP):
        described(name)
    elif name.startswith(HUB):
        repository(name)
    elif os.path.isdir(name):
        find(name)


def place(name: str) -> Place | None:
    """Of what another library has made; None of a file in OpenAI's names, and of any other name."""
    if is_foreign(name):
        return find(name)
    return beside(name) if os.path.isfile(name) else None


def find(name: str) -> Place:
    """Whatever a foreign `name` says (see above), fetched if it is not here yet."""
    if name.startswith(OPEN_CLIP):
        facts, widths, entry = described(name)
        repo, file = os.path.split(entry["hf_hub"])
        files = weights_among((file,) if file else OPEN_CLIP_WEIGHTS, on_hub(name, repo), name)
        return Place(name, files, facts, widths, foreign.from_open_clip, pixels(entry, "mean", "std"))
    get = on_hub(name, *repository(name)) if name.startswith(HUB) else in_folder(name)
    config = read_config(get, CONFIG)
    if is_of_transformers(config) or not get(OPEN_CLIP_CONFIG):
        return of_transformers(name, get, config, WEIGHTS)
    return of_open_clip(name, get, OPEN_CLIP_WEIGHTS)


def beside(path: str) -> Place | None:
    """The same of a weights file that lies beside a config, as these libraries call both; None of any other file."""
    folder, file = os.path.split(path)
    get = in_folder(folder)
    if file in WEIGHTS and is_of_transformers(config := read_config(get, CONFIG)):
        return of_transformers(path, get, config, (file,))
    return of_open_clip(path, get, (file,)) if file in OPEN_CLIP_WEIGHTS and get(OPEN_CLIP_CONFIG) else None


def of_transformers(name: str, get: Get, config: dict, files: tuple[str, ...]) -> Place:
    if not config:
        raise InputError(
            f"{name} is no CLIP of Hugging Face's or open_clip's, as it has neither {CONFIG} nor {OPEN_CLIP_CONFIG}"
            f"{offline(name)}: name another, a folder that has one, or a weights file."
        )
    facts, widths = foreign.facts_of_transformers(config, name), foreign.widths_of_transformers(config, name)
    said = pixels(read_config(get, PIXELS), "image_mean", "image_std")
    return Place(name, weights_among(files, get, name), facts, widths, foreign.from_transformers, said)


def of_open_clip(name: str, get: Get, files: tuple[str, ...]) -> Place:
    config = read_config(get, OPEN_CLIP_CONFIG)
    model = foreign.section(config, "model_cfg", name)
    facts, widths = foreign.facts_of_open_clip(model, name), foreign.widths_of_open_clip(model, name)
    said = pixels(foreign.section(config, "preprocess_cfg", name), "mean", "std")
    return Place(name, weights_among(files, get, name), facts, widths, foreign.from_open_clip, said)


def pixels(config: dict, *keys: str) -> Pixels | None:
    """Mean and deviation, three colours each."""
    found = [list(config[key]) for key in keys if isinstance(config.get(key), list | tuple) and len(config[key]) == 3]
    mean, deviation = found if len(found) == 2 else ([], [])
    numbers = all(isinstance(value, int | float) for value in (*mean, *deviation))
    return (mean, deviation) if mean and numbers else None


def is_of_transformers(config: dict) -> bool:
    return config.get("model_type") == "clip"


def weights_among(names: tuple[str, ...], get: Get, name: str) -> tuple[str, ...]:
    """The first that is there, or all files of an index."""
    for file in names:
        if (path := get(file)) is not None:
            return parts_of(path, get, name) if file.endswith(".index.json") else (path,)
    raise InputError(
        f"{name} has no weights, which would be {' or '.join(names)}{offline(name)}: fetch them, or choose another."
    )


def parts_of(index: str, get: Get, name: str) -> tuple[str, ...]:
    files = read_json(index).get("weight_map")
    names = sorted(set(map(str, files.values()))) if isinstance(files, dict) else []
    if not names or any(os.path.basename(file) != file for file in names):
        raise InputError(f"{index} names no files beside it: fetch {name} again.")
    return tuple(path for file in names for path in weights_among((file,), get, name))


def read_config(get: Get, file: str) -> dict:
    path = get(file)
    return {} if path is None else read_json(path)


def read_json(path: str) -> dict:
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read ({error}): fetch it again.") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} holds a {type(content).__name__} and no object: fetch it again.")
    return content


# --- places -------------------------------------------------------------------------------------------------------


def offline(name: str) -> str:
    """What may be why a file is not there."""
    if not name.startswith((HUB, OPEN_CLIP)):
        return ""
    from huggingface_hub import constants

    return ", in the cache at least, as HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else ""


def in_folder(folder: str) -> Get:
    def get(file: str) -> str | None:
        path = os.path.join(folder, file)
        return path if os.path.isfile(path) else None

    return get


def repository(name: str) -> tuple[str, str | None]:
    """ "hf:owner/name@revision" -> "owner/name", "revision" """
    repo, _, revision = name.removeprefix(HUB).partition("@")
    owner, _, model = repo.partition("/")
    if not owner or not model or "/" in model:
        raise InputError(f"{name!r} names no model on the hub: write {HUB}owner/name, or {HUB}owner/name@revision.")
    return repo, revision or None


def on_hub(name: str, repo: str, revision: str | None = None) -> Get:
    """Files that huggingface_hub fetches into its cache, from the mirror that HF_ENDPOINT names, or not at all if
    HF_HUB_OFFLINE is set.
    """
    from huggingface_hub import _CACHED_NO_EXIST, constants, errors, hf_hub_download, try_to_load_from_cache

    def refusal(error: Exception) -> InputError:
        reason = " ".join(str(error).split()).partition(". ")[0].rstrip(".") or type(error).__name__
        return InputError(
            f"{name} could not be fetched ({reason}): correct the name, look at the network and HF_ENDPOINT, or fetch "
            f"it elsewhere (hf download {repo} --local-dir FOLDER) and name that folder."
        )

    def get(file: str) -> str | None:
        try:
            path = hf_hub_download(repo, file, revision=revision)
        except errors.LocalEntryNotFoundError as error:  # neither here nor to be had
            status = getattr(getattr(error.__cause__, "response", None), "status_code", 0)
            if constants.HF_HUB_OFFLINE or status == 404:  # another may be here; a mirror may say no more than 404
                return None
            if try_to_load_from_cache(repo, file, revision=revision) is _CACHED_NO_EXIST:  # when the hub was last asked
                return None
            raise refusal(error) from error
        except errors.EntryNotFoundError:
            return None
        except Exception as error:  # its network library has its own, and is another in each version
            raise refusal(error) from error
        return whole(path)

    return get


def whole(path: str) -> str:
    """A file of the cache, which calls large ones by their SHA-256; one that has been damaged since is refused."""
    kept_as = os.path.basename(os.path.realpath(path))
    if re.fullmatch("[0-9a-f]{64}", kept_as) and sha256_of_version(path, kept.version_of(path)) != kept_as:
        raise InputError(f"{os.path.realpath(path)} is damaged (its SHA-256 is wrong): remove it, then run this again.")
    return path


@functools.lru_cache(maxsize=16)  # a run asks for its backbone more than once
def sha256_of_version(path: str, version: tuple) -> str:
    return sha256_of(path)


# --- open_clip's tables -------------------------------------------------------------------------------------------


def described(name: str) -> tuple[dict[str, float], tuple[int, int], dict]:
    """Of "open_clip:model/tag" the numbers beside the weights, widths, and the table's entry, whose `hf_hub` is "owner/name/file"."""
    model, _, tag = name.removeprefix(OPEN_CLIP).rpartition("/")
    if not model or not tag:
        raise InputError(
            f"{name!r} names no model of open_clip's with its tag: write {OPEN_CLIP}ViT-B-16/openai, or so."
        )
    model, tables = model.replace("/", "-"), open_clip_tables()
    known = tables.list_pretrained_tags_by_model(model)
    if not known:
        near = difflib.get_close_matches(model, sorted({each for each, _ in tables.list_pretrained()}), n=1, cutoff=0)[
            0
        ]
        raise InputError(
            f"open_clip has no {model!r} in {name!r}, which is {OPEN_CLIP}model/tag; the nearest is {near!r}."
        )
    found = tables.get_pretrained_cfg(model, tag)
    if not found.get("hf_hub"):
        raise InputError(f"open_clip has no weights {tag!r} of {model} on the hub; there are: {', '.join(known)}.")
    config = read_json(os.path.join(open_clip_folder(), "model_configs", f"{model}.json"))
    # What the weights were trained with counts, as some are listed under a model that computes otherwise.
    facts = foreign.facts_of_open_clip(config, name, quick_gelu=bool(found.get("quick_gelu")))
    return facts, foreign.widths_of_open_clip(config, name), found


def open_clip_folder() -> str:
    spec = importlib.util.find_spec("open_clip")
    if spec is None or not spec.submodule_search_locations:
        raise InputError(
            f"{OPEN_CLIP} names are in the package open_clip_torch's tables, which is not installed: install it."
        )
    return spec.submodule_search_locations[0]


def open_clip_tables():
    """The module that holds them; its package takes seconds to import, so a package of another name stands for it."""
    name = "_open_clip_tables"
    if name not in sys.modules:
        package = types.ModuleType(name)
        package.__path__ = [open_clip_folder()]
        sys.modules[name] = package
    return importlib.import_module(f"{name}.pretrained")
