"""The config of a run, from data: defaults, the method's own keys, then files, then what is given, then options.

Every file is read once. Who brings keys (the method, the host that a plug-in stands on, the data set) is looked up by
name in the merged tree of all that was given, so it does not matter which of them names it. What the files set for
the run's protocol, shots and data set only (one_run/settings.py) is looked up once these are known.
"""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from yacs.config import CfgNode

import datasets as datasets  # importing registers the data sets
import trainers as trainers  # and the methods
from dassl.config import UnknownKey, get_cfg_default, merge_options, merge_tree, overlaid, read_layers, read_tree
from dassl.data.datasets import DATASET_REGISTRY
from dassl.engine import TRAINER_REGISTRY
from dassl.errors import InputError
from dassl.ranges import RANGES, check_ranges

from .identity import flatten
from .layout import CONFIGS
from .request import Request
from .settings import MODES, PROTOCOLS, Asked, Layers, check_asked, check_rows, in_words, resolve, tree_of, value_of

GIVEN = {  # what a command line has flags for -> its config key
    "root": "DATASET.ROOT",
    "output_dir": "OUTPUT_DIR",
    "resume": "RESUME",
    "seed": "SEED",
    "source_domains": "DATASET.SOURCE_DOMAINS",
    "target_domains": "DATASET.TARGET_DOMAINS",
    "transforms": "INPUT.TRANSFORMS",
    "backbone": "MODEL.BACKBONE.NAME",
    "head": "MODEL.HEAD.NAME",
    "protocol": "SETTINGS.PROTOCOL",
}
# A key is a setting if it begins so, and is none if it ends so.
SETTINGS = ("OPTIM.", "TRAINER.", "INPUT.", "MODEL.", "DATALOADER.TRAIN_X.", "DATALOADER.TRAIN_U.", "DATALOADER.VIEWS")
NO_SETTINGS = ("TRAINER.NAME", ".PREC", ".TEACHER_DIR", ".HOST_DIR", ".MEMORY_MB")


def build_config(method: str, files: Sequence = (), options: Sequence = (), **given) -> CfgNode:
    """The frozen config of a run. Its node SETTINGS says which settings it has: see `describe_settings`.

    method: its registered name; "" where a file or an option names it (TRAINER.NAME).
    files: paths of YAML files, the data set's before the method's; empty ones are passed over.
    options: KEY, VALUE, KEY, VALUE, ...; strings are evaluated. They win over all else.
    given: values by the names in `GIVEN`; None and "" are passed over.
    """
    layers = {str(path): read_layers(str(path)) for path in files if path}
    flags = {"TRAINER.NAME": method, **{GIVEN[name]: value for name, value in given.items()}}
    pairs = [part for key, value in flags.items() if value not in ("", None) for part in (key, value)] + list(options)
    merged: dict = {}
    for tree in (*trees_of(layers).values(), tree_of(zip(pairs[::2], pairs[1::2], strict=False))):
        merged = overlaid(merged, tree)

    name = value_of(merged, "TRAINER.NAME")
    if not isinstance(name, str):
        name = method  # what stands in its place is refused below, as any wrong key
    if not name:
        raise InputError(
            f"No method is named: pass --trainer, one of {', '.join(TRAINER_REGISTRY.registered_names())}."
            f"{TRAINER_REGISTRY.left_out()}"
        )
    declared = get_cfg_default()
    declared.SETTINGS = CfgNode({"PROTOCOL": PROTOCOLS[0], "MODE": MODES[0]})
    install_keys(declared, name, merged)
    install_data_keys(declared, value_of(merged, "DATASET.NAME"))
    try:
        asked = asked_of(filled(declared, trees_of(layers), pairs))
        for each in layers.values():
            check_rows(each, declared, DATASET_REGISTRY.registered_names())
        cfg = filled(declared, trees_of(layers, asked), pairs)
        describe_settings(cfg, declared, layers, pairs)
    except UnknownKey as error:
        owner, host = owner_of(error.key), host_in(merged, declared, name)
        if owner not in ("", name, host) and declares_keys(name):
            raise InputError(
                f"The config key {error.key} is {owner}'s, and this run is of {name}{f' over {host}' if host else ''}{error.where}: "
                "choose a config file for that, or take the key out."
            ) from error
        if not error.key.startswith("TRAINER.") or declares_keys(name):
            raise  # of an engine's key, it is a slip of the pen
        raise InputError(f"{error} {where_defaults_go(name)}") from error
    check_ranges(cfg, RANGES | rules_of_data(cfg) | rules_of(cfg, name))
    cfg.freeze()
    return cfg


def options_of(keys: dict) -> tuple:
    """{KEY: value} as `build_config` takes options: KEY, value, KEY, value, ..."""
    return tuple(part for pair in keys.items() for part in pair)


def config_of(request: Request) -> CfgNode:
    """The same for what a plan asks of one run."""
    return build_config(request.method, request.files, request.options, **request.given)


def filled(declared: CfgNode, trees: dict[str, dict], pairs: Sequence) -> CfgNode:
    """The declared keys with what the files (path -> tree) say of them, then what KEY, VALUE, ... say."""
    cfg = declared.clone()
    for path, tree in trees.items():
        merge_tree(cfg, tree, f" (in {path})")
    merge_options(cfg, list(pairs))
    return cfg


# --- settings by protocol, shots and data set ------------------------------------------------------------------


def trees_of(layers: dict[str, Layers], asked: Asked | None = None) -> dict[str, dict]:
    """Path -> tree of each file, with what it sets for this run; None: without."""
    return {path: resolve(each, asked)[0] for path, each in layers.items()}


def asked_of(cfg: CfgNode) -> Asked:
    asked = Asked(cfg.SETTINGS.PROTOCOL, cfg.DATASET.NUM_SHOTS, cfg.DATASET.NAME, cfg.SETTINGS.MODE)
    check_asked(asked)
    return asked


def describe_settings(cfg: CfgNode, declared: CfgNode, layers: dict[str, Layers], pairs: Sequence) -> None:
    """Beside SETTINGS.PROTOCOL and MODE, which were asked for:

    ROWS: of the files' settings by protocol, those that were used, in words.
    CHANGED: settings that are not as the files state them, since flags or options said otherwise.
    UNLIKE: the protocols that the same files and options have other settings for.
    """
    asked = asked_of(cfg)
    trees = trees_of(layers, asked)
    others = {other: trees_of(layers, asked._replace(protocol=other)) for other in PROTOCOLS}
    unlike = [
        other for other, theirs in others.items() if theirs != trees and differing(filled(declared, theirs, pairs), cfg)
    ]
    changed = differing(filled(declared, trees, ()), cfg)
    cfg.SETTINGS.ROWS = [in_words(row) for each in layers.values() for row in resolve(each, asked)[1]]
    cfg.SETTINGS.CHANGED = [f"{key} {now} in place of {before}" for key, (before, now) in changed.items()]
    cfg.SETTINGS.UNLIKE = unlike


def differing(first: CfgNode, second: CfgNode) -> dict[str, tuple]:
    """Settings that are not the same in both: key -> its two values."""
    before, after = flatten(first), flatten(second)
    keys = [key for key in after if key.startswith(SETTINGS) and not key.endswith(NO_SETTINGS)]
    return {key: (before[key], after[key]) for key in keys if before[key] != after[key]}


# --- keys that a method or a data set brings -------------------------------------------------------------------


def install_keys(cfg: CfgNode, name: str, merged: dict) -> None:
    """A method installs its own config keys, and those of the host it stands on.

    A trainer file written for Dassl declares none; its defaults stand beside its configs, in `defaults.yaml`.
    """
    method = TRAINER_REGISTRY.get(name)
    if hasattr(method, "extend_cfg"):
        method.extend_cfg(cfg)
    elif defaults_of(name).is_file():
        path = str(defaults_of(name))
        merge_tree(cfg, read_tree(path), f" (in {path})", new_allowed=True)
    if host := host_in(merged, cfg, name):
        if host == name:
            raise InputError(f"{method.host_key} cannot be {name} itself: name the method it is to stand on.")
        TRAINER_REGISTRY.check(host, method.host_key)
        if hasattr(TRAINER_REGISTRY.get(host), "host_key"):
            raise InputError(
                f"{method.host_key} cannot be {host}, which stands on a host of its own: name a method such as CoOp."
            )
        install_keys(cfg, host, merged)


def host_in(merged: dict, cfg: CfgNode, name: str) -> str:
    """The host that a method is to stand on; "" of one that stands on none."""
    key = getattr(TRAINER_REGISTRY.get(name), "host_key", "")
    return (value_of(merged, key) or value_of(cfg, key)) if key else ""


def owner_of(key: str) -> str:
    """The method in whose node of the config a key stands; "" if in none's."""
    node = key.removeprefix("TRAINER.").partition(".")[0] if key.startswith("TRAINER.") else ""
    return next((name for name in TRAINER_REGISTRY.registered_names() if name.upper() == node), "")


def install_data_keys(cfg: CfgNode, name: str | None) -> None:
    """A data set may have config keys of its own too; whether there is one of that name is looked at later."""
    if name in DATASET_REGISTRY.registered_names() and hasattr(DATASET_REGISTRY.get(name), "extend_cfg"):
        DATASET_REGISTRY.get(name).extend_cfg(cfg)


def rules_of(cfg: CfgNode, name: str) -> dict:
    """What a method's values may be, and those of the host it stands on; a trainer file written for Dassl says nothing."""
    method = TRAINER_REGISTRY.get(name)
    below = rules_of(cfg, value_of(cfg, method.host_key)) if hasattr(method, "host_key") else {}
    return below | (method.ranges() if hasattr(method, "ranges") else {})


def rules_of_data(cfg: CfgNode) -> dict:
    known = cfg.DATASET.NAME in DATASET_REGISTRY.registered_names()
    return getattr(DATASET_REGISTRY.get(cfg.DATASET.NAME), "ranges", {}) if known else {}


def declares_keys(name: str) -> bool:
    return hasattr(TRAINER_REGISTRY.get(name), "extend_cfg") or defaults_of(name).is_file()


def defaults_of(name: str) -> Path:
    """The defaults of a trainer file that declares none: the user's, or those of the field's that were run here."""
    own = CONFIGS / "trainers" / name / "defaults.yaml"
    return own if own.is_file() else CONFIGS / "published" / f"{name}.yaml"


class UndeclaredKey(InputError, AttributeError):
    """The error of a config without that key, with the sentence that says where its default belongs."""


@contextlib.contextmanager
def explain_undeclared_keys(cfg: CfgNode):
    """A trainer file written for Dassl declares no keys: where it misses one, say where its default belongs."""
    try:
        yield
    except AttributeError as error:
        key, name = missing_key(error, cfg), cfg.TRAINER.NAME
        if key is None or hasattr(TRAINER_REGISTRY.get(name), "extend_cfg"):
            raise
        raise UndeclaredKey(f"The trainer {name} asks for the config key {key}. {where_defaults_go(name)}") from error


def where_defaults_go(name: str) -> str:
    return (
        f"(The trainer {name} declares no config keys itself: put their defaults into "
        f"configs/trainers/{name}/defaults.yaml of this code, not of its authors'.)"
    )


def missing_key(error: AttributeError, cfg: CfgNode) -> str | None:
    """The config key that code asked for and that is not there; None for any other AttributeError.

    Python notes in the error which object lacked the attribute; a trainer may ask a copy of the config.
    """
    if isinstance(error.obj, CfgNode):
        for prefix, node in nodes_of(cfg):
            if error.obj == node:
                return f"{prefix}{error.name}"
    return None


def nodes_of(node: CfgNode, prefix: str = "") -> Iterator[tuple[str, CfgNode]]:
    yield prefix, node
    for key, value in node.items():
        if isinstance(value, CfgNode):
            yield from nodes_of(value, f"{prefix}{key}.")
