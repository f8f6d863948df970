"""What differs between two runs, in words, and what is refused for it: see identity.py."""

import itertools
import os
from collections.abc import Iterable, Iterator

from dassl.checkpoints import file_of, last_epoch, models_in
from dassl.data.datasets import DATASET_REGISTRY
from dassl.utils import InputError, load_checkpoint

from .folder import is_identity
from .identity import ACT, PARTS, flatten, is_run_folder
from .layout import OF_TRAINING, is_untrained

# Where a run reads, writes and prints does not change what it computes. Nor does how much memory it may take, but for
# the last bits, so that a run that had too little goes on with less.
NO_PART_IN_RESULT = {
    "OUTPUT_DIR", "RESUME", "VERBOSE", "DATASET.ROOT", "DATASET.ALLOW_SHARED_IMAGES", "DATASET.ALLOW_OUTSIDE",
    "DATALOADER.NUM_WORKERS", "DATALOADER.KEEP_MB", "DATALOADER.TEST.CACHE_DIR", "TRAIN.PRINT_FREQ",
    "DETERMINISTIC",  # more than its last bits
    "FEATURES.DIR", "FEATURES.TOKENS_MB",
    "TRAINER.MEMORY_MB", "TRAINER.COCOOP.MEMORY_MB",  # the latter in records of before
}  # fmt: skip
# Keys that records of before lack -> what runs did then.
LATER = {
    "TRAIN.ATTENTION": "fused", "TRAIN.COMPILE": "", "OPTIM.ADAM_EPS": 1e-8, "DATALOADER.VIEWS": 0,
    "MODEL.BACKBONE.ACT": "", "MODEL.BACKBONE.RESIZE_POSITIONS": False,
}  # fmt: skip
LEARNED_FROM = ("train", "unlabelled", "val")  # what a training that goes on must have as before
SAME_DRAW = ("dataset", "subsample", "shots", "seed")  # if these are the same, so are the images that are drawn
SAID = 3  # differences in a sentence


def differences(record: dict, former: dict, data_is_compared: bool = False) -> list[str]:
    """What of a former record's config, weights and, where both state it, identity is not as in this one, in words.

    data_is_compared: before or after, where it is not here.
    """
    both_known = bool(record.get("identity") and former.get("identity"))
    keys = of_config(record, former, both_known or (data_is_compared and bool(former.get("identity"))))
    said = [f"{key} is {theirs!r} there and {ours!r} here" for key, (ours, theirs) in keys.items()]
    if both_known:
        parts = ("unlabelled", "test") if is_drawn_anew(record) else PARTS
        said += differences_in_data(record["identity"], former["identity"], parts)
    return said + other_files(record.get("methods") or {}, former.get("methods"))


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
            for key, value in (LATER | flatten(each.get("config") or {})).items()
            if key not in no_part and not key.startswith(beginnings)
        }
        | {f"weights.{key}": value for key, value in (each.get("weights") or {}).items() if key != "model_dir"}
        for each in (record, former)
    )
    keys = sorted(key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key))
    return {key: (ours.get(key), theirs.get(key)) for key in keys}


def of_method(record: dict, former: dict) -> list[str]:
    """Keys of the method that differ, in words: what is learned does not hold them, and a prediction may follow them.

    What it is computed in is said for itself, and may be another on a CPU than on a GPU.
    """
    keys = of_config(record, former)
    return [
        f"{key} is {theirs!r} there and {ours!r} here"
        for key, (ours, theirs) in keys.items()
        if key.startswith("TRAINER.") and not key.endswith(("_DIR", ".PREC")) and None not in (ours, theirs)
    ]


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


def in_files(now: dict, then: dict, but: str = "") -> Iterator[str]:
    """Of those that both name, but one; that one names another is for their configs to say."""
    for key in sorted((now["files"].keys() & then["files"].keys()) - {but, ACT}):
        if now["files"][key] != then["files"][key]:
            yield f"the file of {key} has changed"
    ours, theirs = (each["files"].get(ACT, "") for each in (now, then))
    if ours != theirs:
        yield f"{ACT} is {theirs!r} there and {ours!r} here"


def is_its_root(dataset: str) -> bool:
    """Whether the data root is the data set itself, and no folder for many."""
    return dataset in DATASET_REGISTRY.registered_names() and not DATASET_REGISTRY.get(dataset).dataset_dir


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


def other_files(now: dict, then) -> list[str]:
    """What of two records' `methods` differs, in words: `trainers.shared.ours` says it."""
    # Not above, as what runs are forked from (preload.py) imports no method.
    from trainers.shared.ours import other_files as said

    return said(now, then)


def refuse_other_file(methods: dict, former: dict | None, run: str) -> None:
    """What the run in `run` has learned is for the trainer file that trained it; `methods` as a record states them."""
    if said := other_files(methods, (former or {}).get("methods")):
        raise InputError(
            f"The run in {run} was trained by another file: {in_short(said)}. Put that file back, or train again in another "
            "--output-dir."
        )


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
    # What a model began with, it has learned away.
    said = list(in_files(now, then, but="MODEL.INIT_WEIGHTS")) if own else []
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
