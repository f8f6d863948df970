"""What makes two runs the same: their config, less what has no part in the result, their data, and all weights they load.

The record of a run holds its identity, and so does each of its checkpoints:

    {"dataset": ..., "subsample": ..., "shots": ..., "seed": ...,
     "classes": [names, in the order of the labels],
     "all_classes": [those of the whole data set, of which these may be a half],
     "split": hash of the list that the images were drawn from,
     "images": {"train": {"count": 48, "sha256": ...}, "unlabelled": ..., "val": ..., "test": ...},
     "files": {config key: hash of the weights that it names; of ACT, if that is set, what it says}}
"""

import contextlib
import functools
import hashlib
import io
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import clip
from clip.download import sha256_of
from dassl.data.datasets import build_dataset
from dassl.engine import TRAINER_REGISTRY
from dassl.utils import InputError, set_random_seed

from .folder import flatten as flatten

PARTS = {"train": "train_x", "unlabelled": "train_u", "val": "val", "test": "test"}
ACT = "MODEL.BACKBONE.ACT"  # decides what the same weights compute
BACKBONES = ("BACKBONE.NAME", "TEACHER_NAME")  # config keys that name a CLIP
HEAD = 65536  # bytes of an image that are looked at, beside how many there are
OPENED = 100_000  # images of a part of which these are looked at; of a larger part, those of every n-th image


def identity_of(cfg, dataset, look: bool = True, unlabelled: Iterable = ()) -> dict:
    """The identity of a run of `cfg` on `dataset`.

    look: at its image files too. unlabelled: what the run learns from beside the parts of `dataset`, as PromptKD may.
    """
    return identity_of_data(cfg, dataset, look, unlabelled) | {"files": sha256_of_weights(cfg)}


def identity_of_data(cfg, dataset, look: bool = True, unlabelled: Iterable = ()) -> dict:
    parts = {part: getattr(dataset, attribute, None) or () for part, attribute in PARTS.items()}
    parts["unlabelled"] = [*parts["unlabelled"], *unlabelled]
    root = cfg.DATASET.ROOT
    return {
        "dataset": cfg.DATASET.NAME,
        "subsample": cfg.DATASET.SUBSAMPLE_CLASSES,
        "shots": cfg.DATASET.NUM_SHOTS,
        "seed": cfg.SEED,
        "classes": list(dataset.classnames),
        "all_classes": getattr(dataset, "all_classnames", None),
        "split": getattr(dataset, "split_sha256", None),
        "images": images_in(parts, root) if look else {},
    }


def images_in(parts: dict[str, Sequence], root: str) -> dict[str, dict]:
    """What is seen of each part that has images; one that is another's too, as ImageNet's for validation, is read once."""
    found: dict[str, dict] = {}
    for part, items in parts.items():
        if items:
            same = next((other for other in found if are_same(items, parts[other])), None)
            found[part] = found[same] if same else seen(items, root)
    return found


def are_same(some: Sequence, others: Sequence) -> bool:
    pairs = zip(some, others, strict=False)
    return len(some) == len(others) and all((a.impath, a.label) == (b.impath, b.label) for a, b in pairs)


def identity_before(cfg, known: dict | None = None, trains: bool = True) -> dict:
    """The same before a run is built; `known` keeps what data there is, for a caller who asks of many runs.

    trains: the run is no test of another one, which reads no unlabelled images.
    """
    unlabelled = unlabelled_images_of(cfg) if trains else None
    known, key = {} if known is None else known, (cfg.DATASET.dump(), cfg.SEED, unlabelled)
    if key not in known:
        if cfg.SEED >= 0:
            set_random_seed(cfg.SEED)  # images are drawn
        with contextlib.redirect_stdout(io.StringIO()):  # the run itself says it once more
            known[key] = identity_of_data(cfg, build_dataset(cfg), unlabelled=unlabelled(cfg) if unlabelled else ())
    return known[key] | {"files": sha256_of_weights(cfg)}


def unlabelled_images_of(cfg) -> Callable | None:
    """The function of the run's method, or of the host that it stands on, that gives what it learns from beside its data
    set's parts; None where there is none."""
    return getattr(TRAINER_REGISTRY.get(methods_of(cfg)[-1]), "unlabelled_images", None)


def methods_of(cfg) -> list[str]:
    """The registered name of a run's method, and of the host that it stands on."""
    names = [cfg.TRAINER.NAME]
    while key := getattr(TRAINER_REGISTRY.get(names[-1]), "host_key", ""):
        names.append(flatten(cfg)[key])
    return names


def seen(items: Sequence, root: str) -> dict:
    """How many images there are, and a hash of all: path from the data root on, label, size and first bytes of each.

    Of a part of more than OPENED images, as the whole of ImageNet is, the first bytes of every n-th alone: reading all
    would take as long as an epoch.
    """
    digest, step = hashlib.sha256(), -(-len(items) // OPENED)
    for number, (item, line) in enumerate(zip(items, lines_of(items, root), strict=True)):
        digest.update(line + looked_at(item.impath, number % step == 0).encode())
    return {"count": len(items), "sha256": digest.hexdigest()}


def looked_at(path: str, opened: bool) -> str:
    """An image's size, and, if it is opened, a hash of its first bytes."""
    try:
        if not opened:
            return f"\t{os.stat(path).st_size}\n"
        with open(path, "rb", buffering=0) as file:
            size, head = os.fstat(file.fileno()).st_size, file.read(HEAD)
    except OSError as error:
        raise InputError(f"The image {path} cannot be read ({error.strerror}): restore it, or take it out.") from error
    return f"\t{size}\t{hashlib.sha256(head).hexdigest()}\n"


def lines_of(items: Iterable, root: str) -> Iterator[bytes]:
    """`path<TAB>label` of each image, with its path from the data root on."""
    root = os.path.abspath(os.path.expanduser(root))
    from_root = functools.cache(lambda folder: os.path.relpath(folder, root))  # many images lie in few folders
    for item in items:
        above, name = os.path.split(item.impath)
        path = os.path.normpath(os.path.join(from_root(above), name)).replace(os.sep, "/")
        yield f"{path}\t{item.label}".encode(errors="surrogateescape")  # a name need not be UTF-8


def sha256_of_images(items: Iterable, root: str) -> str:
    """Hash of the sampled images: one line `path<TAB>label` each, paths relative to the data root, in order."""
    return hashlib.sha256(b"\n".join(lines_of(items, root))).hexdigest()


def sha256_of_weights(cfg) -> dict[str, str]:
    """Config key -> hash, of what is named below MODEL and TRAINER: a CLIP, a file, or the folder of a trained run."""
    found = {}
    for key, value in flatten({"MODEL": cfg.MODEL, "TRAINER": cfg.TRAINER}).items():
        if not isinstance(value, str) or not value:
            continue
        if key == ACT:
            found[key] = value
        elif key.endswith(BACKBONES) and (place := clip.place_of(value)):
            found[key] = place.sha256(sha256_of_file)
        elif os.path.isfile(value):
            found[key] = sha256_of_file(value)
        elif value in clip.available_models():
            found[key] = clip.sha256_of_model(value)
        elif checkpoints := sha256_of_checkpoints(value) if is_run_folder(key) else {}:
            found[key] = hashlib.sha256("".join(checkpoints.values()).encode()).hexdigest()
    return found


def is_run_folder(key: str) -> bool:
    """Whether a config key names the folder of another run, whose model is loaded."""
    return key.endswith("_DIR")


def sha256_of_checkpoints(run: str | os.PathLike) -> dict[str, str]:
    """Of all that a run has saved: path in its folder -> hash."""
    files = sorted(Path(run).glob("*/model*.pth.tar*"))
    return {file.relative_to(run).as_posix(): sha256_of_file(file) for file in files}


def sha256_of_file(path: str | os.PathLike) -> str:
    try:
        stat = os.stat(path)
        return _sha256_of_file(os.path.realpath(path), stat.st_size, stat.st_mtime_ns)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): restore it, or correct its rights.") from error


@functools.lru_cache(maxsize=256)  # a sweep asks for every run that it plans
def _sha256_of_file(path: str, *_version: int) -> str:
    return sha256_of(path)
