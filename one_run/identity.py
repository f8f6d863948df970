"""What makes two runs the same: their config, less what has no part in the result, their data, and all weights they load.

The record of a run holds its identity, and so does each of its checkpoints:

    {"dataset": ..., "subsample": ..., "shots": ..., "seed": ...,
     "classes": [names, in the order of the labels],
     "all_classes": [those of the whole data set, of which these may be a half],
     "split": hash of the list that the images were drawn from,
     "images": {"train": {"count": 48, "sha256": ...}, "unlabelled": ..., "val": ..., "test": ...},
     "files": {config key: hash of the weights that it names}}
"""

import contextlib
import functools
import hashlib
import io
import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import clip
from clip.download import sha256_of
from dassl.checkpoints import file_of, last_epoch, models_in
from dassl.data.datasets import DATASET_REGISTRY, build_dataset
from dassl.engine import TRAINER_REGISTRY
from dassl.utils import InputError, load_checkpoint, set_random_seed

from .folder import is_identity
from .layout import OF_TRAINING, is_untrained

# Where a run reads, writes and prints does not change what it computes.
NO_PART_IN_RESULT = {
    "OUTPUT_DIR", "RESUME", "VERBOSE", "DATASET.ROOT", "DATASET.ALLOW_SHARED_IMAGES", "DATASET.ALLOW_OUTSIDE",
    "DATALOADER.NUM_WORKERS", "DATALOADER.KEEP_MB", "DATALOADER.TEST.CACHE_DIR", "TRAIN.PRINT_FREQ",
}  # fmt: skip
PARTS = {"train": "train_x", "unlabelled": "train_u", "val": "val", "test": "test"}
LEARNED_FROM = ("train", "unlabelled", "val")  # what a training that goes on must have as before
SAME_DRAW = ("dataset", "subsample", "shots", "seed")  # if these are the same, so are the images that are drawn
SAID = 3  # differences in a sentence
HEAD = 65536  # bytes of an image that are looked at, beside how many there are


# --- what a run is -----------------------------------------------------------------------------------------------


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
        "images": {part: seen(items, root) for part, items in parts.items() if items} if look else {},
    }


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
    method = TRAINER_REGISTRY.get(cfg.TRAINER.NAME)
    while hasattr(method, "host_key"):
        method = TRAINER_REGISTRY.get(flatten(cfg)[method.host_key])
    return getattr(method, "unlabelled_images", None)


def seen(items: Iterable, root: str) -> dict:
    """How many images there are, and a hash of all: path from the data root on, label, size and first bytes of each."""
    root, digest, count = os.path.abspath(os.path.expanduser(root)), hashlib.sha256(), 0
    for item in items:
        with open(item.impath, "rb", buffering=0) as file:
            size, head = os.fstat(file.fileno()).st_size, file.read(HEAD)
        digest.update(f"{line_of(item, root)}\t{size}\t{hashlib.sha256(head).hexdigest()}\n".encode())
        count += 1
    return {"count": count, "sha256": digest.hexdigest()}


def line_of(item, root: str) -> str:
    return f"{os.path.relpath(item.impath, root).replace(os.sep, '/')}\t{item.label}"


def sha256_of_images(items: Iterable, root: str) -> str:
    """Hash of the sampled images: one line `path<TAB>label` each, paths relative to the data root, in order."""
    root = os.path.abspath(os.path.expanduser(root))
    return hashlib.sha256("\n".join(line_of(item, root) for item in items).encode()).hexdigest()


def sha256_of_weights(cfg) -> dict[str, str]:
    """Config key -> hash, of what is named below MODEL and TRAINER: a CLIP, a file, or the folder of a trained run."""
    found = {}
    for key, value in flatten({"MODEL": cfg.MODEL, "TRAINER": cfg.TRAINER}).items():
        if not isinstance(value, str) or not value:
            continue
        if os.path.isfile(value):
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
    stat = os.stat(path)
    return _sha256_of_file(os.path.realpath(path), stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=256)  # a sweep asks for every run that it plans
def _sha256_of_file(path: str, *_version: int) -> str:
    return sha256_of(path)


# --- what differs ------------------------------------------------------------------------------------------------


def differences(record: dict, former: dict) -> list[str]:
    """What of a former record's config, weights and, where both state it, identity is not as in this one, in words."""
    both_known = bool(record.get("identity") and former.get("identity"))
    keys = of_config(record, former, data_is_compared=both_known)
    said = [f"{key} is {theirs!r} there and {ours!r} here" for key, (ours, theirs) in keys.items()]
    if both_known:
        parts = ("unlabelled", "test") if is_drawn_anew(record) else PARTS
        said += differences_in_data(record["identity"], former["identity"], parts)
    return said


def is_drawn_anew(run: dict) -> bool:
    """Whether a run, or an identity, has other few shots each time."""
    return run["seed"] < 0 < run["shots"]


def in_short(said: list[str]) -> str:
    return "; ".join(said[:SAID]) + (f" ({len(said) - SAID} more)" if len(said) > SAID else "")


def of_config(record: dict, former: dict, data_is_compared: bool = False) -> dict[str, tuple]:
    """Config keys, and facts of the weights that were tested, that differ: key -> (here, there).

    data_is_compared: what lies in a data root that is the data set itself is compared, so that the root is not.
    """
    beginnings = OF_TRAINING if is_untrained(record["method"]) else ()
    root_counts = is_its_root(record["dataset"]) and not data_is_compared
    no_part = NO_PART_IN_RESULT - ({"DATASET.ROOT"} if root_counts else set())
    ours, theirs = (
        {
            key: value
            for key, value in flatten(each.get("config") or {}).items()
            if key not in no_part and not key.startswith(beginnings)
        }
        | {f"weights.{key}": value for key, value in (each.get("weights") or {}).items() if key != "model_dir"}
        for each in (record, former)
    )
    keys = sorted(key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key))
    return {key: (ours.get(key), theirs.get(key)) for key in keys}


def differences_in_data(now: dict, then: dict, parts: Iterable[str] = PARTS) -> list[str]:
    """What differs between two identities in classes, images of `parts`, and weights, in words; the weightiest first."""
    said = list(itertools.chain(in_classes(now, then), in_images(now, then, parts), in_files(now, then)))
    if not said and "test" in parts and now["split"] != then["split"]:
        said.append("the list that the images are drawn from has changed")
    return said


def in_classes(now: dict, then: dict) -> Iterator[str]:
    """Of all classes of the data set, which decide the halves too, then of those that the runs are about."""
    for field in ("all_classes", "classes"):
        ours, theirs = now[field], then[field]
        if None in (ours, theirs) or ours == theirs:
            continue
        new, gone = ([name for name in one if name not in other] for one, other in ((ours, theirs), (theirs, ours)))
        if len(new) == len(gone) == 1 and len(ours) == len(theirs):
            yield f"the class {gone[0]!r} there is called {new[0]!r} here"
        elif new or gone:
            yield f"there are {len(theirs)} classes there and {len(ours)} here ({some_of(new, gone)})"
        else:
            yield "the classes are in another order"
        return


def some_of(new: list[str], gone: list[str]) -> str:
    said = [f"{names[0]!r}{f' and {len(names) - 1} more' * (len(names) > 1)} {how}"
            for names, how in ((new, "only here"), (gone, "only there")) if names]  # fmt: skip
    return ", ".join(said)


def in_images(now: dict, then: dict, parts: Iterable[str]) -> Iterator[str]:
    nothing = {"count": 0, "sha256": ""}
    for part in parts:
        ours, theirs = (each["images"].get(part, nothing) for each in (now, then))
        if ours["count"] != theirs["count"]:
            yield f"there are {theirs['count']:,} {part} images there and {ours['count']:,} here"
        elif ours != theirs:
            yield f"some of the {ours['count']:,} {part} images are others, or have changed"


def in_files(now: dict, then: dict) -> Iterator[str]:
    """Of those that both name; that one names another is for their configs to say."""
    for key in sorted(now["files"].keys() & then["files"].keys()):
        if now["files"][key] != then["files"][key]:
            yield f"the file of {key} has changed"


def is_its_root(dataset: str) -> bool:
    """Whether the data root is the data set itself, and no folder for many."""
    return dataset in DATASET_REGISTRY.registered_names() and not DATASET_REGISTRY.get(dataset).dataset_dir


def flatten(config: dict, prefix: str = "") -> dict:
    """{"A": {"B": 1}} -> {"A.B": 1}"""
    flat = {}
    for key, value in config.items():
        flat.update(flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value})
    return flat


# --- what a model was trained on -----------------------------------------------------------------------------------


def trained_on(run: str, record: dict | None, epoch: int | None = None) -> dict | None:
    """The identity of the run whose checkpoint (of an epoch; its last) is in `run`, else of its record; None: unknown."""
    for name in models_in(run):
        path = os.path.join(run, name, file_of(epoch or last_epoch(run)))
        if os.path.isfile(path) and (identity := first_identity(load_checkpoint(path))) is not None:
            return identity
    return first_identity(record)


def first_identity(*said: dict | None) -> dict | None:
    """The first that one of these records and checkpoints holds."""
    return next((each["identity"] for each in said if each and is_identity(each.get("identity"))), None)


def refuse_to_go_on(now: dict, then: dict | None, run: str) -> None:
    """Only with what the run in `run` has learned from so far; what it is tested on may have changed."""
    said = differences_in_data(now, then, LEARNED_FROM) if then else []
    if said:
        seed = ", as no --seed is given" if now["seed"] < 0 else ""
        raise InputError(
            f"The run in {run} cannot go on with other data than it has learned from{seed}: {in_short(said)}. Restore "
            "what it had, or train again in another --output-dir."
        )


def other_runs(cfg) -> list[str]:
    """Folders of the runs whose models a run loads beside its own, such as a teacher's."""
    values = flatten({"TRAINER": cfg.TRAINER})
    return [value for key, value in values.items() if is_run_folder(key) and value]


def refuse_other_training(now: dict, then: dict | None, run: str, own: bool = True) -> None:
    """A model is used on its own data set as that was: with the same halves, beside the same training images.

    now, then: identities of what uses the model in the folder `run`, and of its training. own: the model is the run's
    own, so that the weights around it must be the same too.
    """
    if then is None:
        return
    said = list(in_files(now, then)) if own else []
    if then["dataset"] == now["dataset"]:
        same_draw = all(now[field] == then[field] for field in SAME_DRAW) and not is_drawn_anew(now)
        said += in_classes(now if same_draw else now | {"classes": None}, then)
        known = now["images"].keys() & then["images"].keys()  # a test, and a teacher, may have read none unlabelled
        parts = [part for part in ("train", "unlabelled") if part in known]
        said += in_images(now, then, parts) if same_draw else []
    if said:
        raise InputError(
            f"The run in {run} was trained on other data than is there now: {in_short(said)}. Restore what it had, or "
            "train again in another --output-dir."
        )
