"""Which runs a protocol consists of: what is asked of each, and the runs that must be finished before it.

Where runs stand is in `one_run/layout.py`. No PyTorch is needed to plan.
"""

import difflib
import functools
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from dassl.config import read_layers, read_tree
from dassl.errors import InputError
from one_run.folder import state_of
from one_run.layout import (
    CONFIGS,
    GROUPS,
    OTHER_FILES,
    PHASES,
    PROTOCOLS,
    SHIFTED_IMAGENETS,
    SHIFTED_SHAPES,
    Place,
    is_embedded,
    is_of_classes,
    is_untrained,
    place_of,
)
from one_run.request import Request
from one_run.settings import Asked, alike, value_of


@dataclass(frozen=True)
class Run:
    """One run of a plan."""

    label: str
    request: Request
    after: "Run | None" = None  # the run whose model it needs, which may need another in turn
    trains: bool = True

    @property
    def folder(self) -> Path:
        return self.request.output_dir

    @property
    def command(self) -> tuple[str, ...]:
        """For Python: train.py and its arguments."""
        return self.request.command


@dataclass(frozen=True)
class Setting:
    """What the runs of a script or a sweep share."""

    data: Path
    output: Path
    options: tuple[str, ...] = ()  # KEY VALUE ...
    teacher_options: tuple[str, ...] = ()
    teacher_config: str = ""  # configs/trainers/<teacher>/<this>.yaml
    teacher_folder: str = ""  # a teacher's run that is there already
    source: str = ""  # the data set that xd and dg train on


@dataclass(frozen=True)
class Method:
    name: str  # as registered
    config: str = ""  # configs/trainers/<name>/<config>.yaml; "" where the data set decides
    suffix: str = field(default="", kw_only=True)  # of the config that the data set decides


# --- names -------------------------------------------------------------------------------------------------------


def check_name(name: str, known: Iterable[str], kind: str, hint: str = "") -> str:
    """The name, if it is known; otherwise the nearest known ones are said, and the `hint`."""
    known = sorted(known)
    if name in known:
        return name
    lower = {other.lower(): other for other in known}
    near = [lower[other] for other in difflib.get_close_matches(name.lower(), lower, n=3)]  # the nearest first
    raise InputError(
        f"The {kind} {name!r} is unknown; the nearest: {', '.join(near)}.{hint}"
        if near
        else f"The {kind} {name!r} is unknown; known are: {', '.join(known)}.{hint}"
    )


def configs_in(folder: str) -> list[str]:
    return [path.stem for path in (CONFIGS / folder).glob("*.yaml") if path.stem not in OTHER_FILES]


@functools.cache
def method_names() -> dict[str, Method]:
    """Methods as they are registered, and the folders of scripts/ that are named otherwise."""
    names = [path.name for path in (CONFIGS / "trainers").iterdir() if path.is_dir() and path.name != "_base"]
    return {
        **{name: Method(name) for name in names},
        "zsclip": Method("ZeroshotCLIP"),
        "zsclip2": Method("ZeroshotCLIP2"),
        "spotlighter_promptkd": Method("Spotlighter", suffix="_promptkd"),
        "spotlighter_zeroshot": Method("Spotlighter", suffix="_zeroshot"),
    }


def find_method(text: str) -> Method:
    """METHOD or METHOD:CFG; capitals do not matter, as the folders of scripts/ have none."""
    name, colon, config = text.partition(":")
    name = {known.lower(): known for known in method_names()}.get(name.lower(), name)
    hint = f" One of yours is known by its folder, {CONFIGS}/trainers/<registered name>, with a settings file: vit_b16.yaml."
    method = method_names()[check_name(name, method_names(), "method", hint)]
    if colon:
        check_name(config, configs_in(f"trainers/{method.name}"), f"config of {method.name}")
        method = Method(method.name, config)
    return method


def find_datasets(names: Iterable[str]) -> list[str]:
    """Names of data sets and of groups -> data sets, each once."""
    known = configs_in("datasets")
    checked = [check_name(name, [*known, *GROUPS], "data set") for name in names]
    return list(dict.fromkeys(dataset for name in checked for dataset in GROUPS.get(name, (name,))))


def whole_number(text: str, name: str, least: int) -> int:
    if not (text.isdecimal() and int(text) >= least):
        raise InputError(f"{name} is {text!r}: give a whole number from {least} on.")
    return int(text)


# --- runs --------------------------------------------------------------------------------------------------------


def build(phase: str, method: Method, dataset: str, shots: int, seed: int, setting: Setting) -> Run:
    """The run, and in `after` the one that it needs: a test its training, a student its teacher."""
    trained_in = PHASES[phase].trained
    trained_on = source_of(phase, dataset, setting)
    if not trained_in and dataset in SHIFTED_IMAGENETS:
        raise InputError(f"{dataset} has test images only: train on imagenet, and test on it with xd_test or dg_test.")
    method = with_config(method, trained_on)
    phase = same_run(phase, method, trained_on, shots)
    options = list(setting.options)
    check_classes(phase, method, options)
    after = build(trained_in, method, trained_on, shots, seed, setting) if trained_in else None
    taught = teaching_of(method, options)
    if taught is not None:
        folder_of_teacher = setting.teacher_folder
        if not folder_of_teacher:
            teacher = build_teacher(taught, trained_in or phase, method, trained_on, shots, seed, setting)
            folder_of_teacher, after = str(teacher.folder), after or teacher
        options = [taught.passed_as, folder_of_teacher, *options]
    request = Request(
        method=method.name,
        files=(dataset_file(dataset), method_file(method.name, method.config)),
        root=setting.data,
        output_dir=setting.output / PHASES[phase].folder / Place(dataset, shots, method.name, method.config, seed).path,
        seed=seed,
        protocol=PHASES[phase].protocol,
        options=tuple(
            map(str, (*options, "DATASET.NUM_SHOTS", shots, "DATASET.SUBSAMPLE_CLASSES", PHASES[phase].classes)),
        ),
        model_dir=after.folder if trained_in and after is not None else None,
    )
    return Run(
        label=f"{phase} {method.name}/{method.config} {dataset} shots_{shots} seed{seed}",
        request=request,
        after=after,
        trains=not trained_in,
    )


class Teaching(NamedTuple):
    """Who teaches a student, as its `configs/trainers/<Student>/teacher.yaml` states."""

    method: str
    configs: dict[str, str]  # the beginning of the student's config, the first that fits -> the teacher's
    passed_as: str  # the config key that takes the teacher's folder


def build_teacher(
    taught: Teaching, phase: str, student: Method, dataset: str, shots: int, seed: int, setting: Setting
) -> Run:
    """The teacher's run, on the same images as the student's."""
    fitting = (config for beginning, config in taught.configs.items() if student.config.startswith(beginning))
    teacher = Method(taught.method, setting.teacher_config or next(fitting))
    return build(phase, teacher, dataset, shots, seed, replace(setting, options=setting.teacher_options))


def teaching_of(method: Method, options: list[str]) -> Teaching | None:
    """Who teaches the method, or the host it stands on; None if nobody does, or the options bring a teacher along."""
    given = dict(zip(options[::2], options[1::2], strict=False))
    for name in (method.name, *hosts_of(method, given)):
        file = CONFIGS / "trainers" / name / "teacher.yaml"
        if file.is_file():
            stated = read_tree(str(file))
            taught = Teaching(stated["METHOD"], stated["CONFIGS"], stated["PASSED_AS"])
            return None if taught.passed_as in given else taught
    return None


def check_classes(phase: str, method: Method, options: list[str]) -> None:
    """Refuse a test on classes that a method was not trained on, where what it learns belongs to each of them. Shifted
    variants of a set have no others, which the test itself looks at.
    """
    which = {"base2new_test": "the new half of the classes", "xd_test": "the classes of another data set"}
    if phase in which and (what := what_is_of_classes(method, options)):
        raise InputError(
            f"{what} learns something for each class, so it has nothing to say about {which[phase]}: train and test it with "
            "few_shot.sh, or on base classes alone with base2new_train.sh; in a sweep, take it out of --methods, or choose "
            "--protocol fewshot."
        )


def what_is_of_classes(method: Method, options: Iterable[str] = ()) -> str:
    """The method, or the host that it stands on, if that learns something for each of its classes; "" if none does."""
    given = dict(zip(list(options)[::2], list(options)[1::2], strict=False))
    for name in (method.name, *hosts_of(method, given)):
        key = f"TRAINER.{name.upper()}.CSC"
        stated = trainer_nodes(method.name, method.config).get(name.upper(), {}).get("CSC", False)
        if is_of_classes(name):
            return name
        if str(given.get(key, stated)).lower() == "true":
            return f"{name} with {key}"
    return ""


def hosts_of(method: Method, given: dict[str, str]) -> list[str]:
    """The host that a plug-in stands on, by its key TRAINER.<node>.HOST."""
    hosts = {f"TRAINER.{method.name.upper()}.HOST": ""}
    for node, keys in trainer_nodes(method.name, method.config).items():
        hosts |= {f"TRAINER.{node}.HOST": keys["HOST"]} if "HOST" in keys else {}
    return [name for key, stated in hosts.items() if (name := given.get(key) or stated)]


@functools.cache
def trainer_nodes(name: str, config: str) -> dict[str, dict]:
    """What a method's config file says under TRAINER, by node."""
    tree = read_tree(str(method_file(name, config))).get("TRAINER", {})
    return {node: keys for node, keys in tree.items() if isinstance(keys, dict)}


def same_run(phase: str, method: Method, dataset: str, shots: int) -> str:
    """The phase whose run serves: one training is enough where a method has the same settings for both."""
    other = PHASES[phase].alike
    return other if other and trains_alike(phase, other, method, dataset, shots) else phase


@functools.cache
def trains_alike(phase: str, other: str, method: Method, dataset: str, shots: int) -> bool:
    name = value_of(read_tree(str(dataset_file(dataset))), "DATASET.NAME")
    first, second = (Asked(PHASES[each].protocol, shots, name) for each in (phase, other))
    return alike(read_layers(str(method_file(method.name, method.config))), first, second)


def dataset_file(dataset: str) -> Path:
    return CONFIGS / "datasets" / f"{dataset}.yaml"


def method_file(name: str, config: str) -> Path:
    return CONFIGS / "trainers" / name / f"{config}.yaml"


def source_of(phase: str, dataset: str, setting: Setting) -> str:
    """The data set that the model of a run was trained on."""
    if phase not in ("xd_test", "dg_test"):
        return dataset
    if phase == "dg_test":
        check_name(dataset, [*SHIFTED_IMAGENETS, *SHIFTED_SHAPES], "shifted data set")
    source = setting.source or ("embedded_shapes" if is_embedded(dataset) else "imagenet")
    return check_name(source, configs_in("datasets"), "source")


def with_config(method: Method, dataset: str) -> Method:
    """A method whose config is decided, and there."""
    config = method.config or ("embedded" if is_embedded(dataset) else "vit_b16") + method.suffix
    check_name(config, configs_in(f"trainers/{method.name}"), f"config of {method.name}")
    return Method(method.name, config)


def plan(
    protocol: str, methods: list[Method], datasets: list[str], shots: list[int], seeds: list[int], setting: Setting
) -> list[Run]:
    """All runs of a sweep, each once, each behind those that it needs."""
    last = PROTOCOLS[check_name(protocol, PROTOCOLS, "protocol")]
    runs: dict[Path, Run] = {}
    for seed in seeds:
        for dataset in datasets:
            own = last == "xd_test" and dataset == source_of(last, dataset, setting)  # its training tests on it already
            for method in methods:
                for k in shots:
                    phase, once = "xd_train" if own else last, is_same_at_all(method, setting)
                    if once and (seed, k) != (seeds[0], shots[0]):
                        continue
                    place = (min(shots), min(seeds)) if once else (k, seed)
                    run = (build_once if once else build)(phase, method, dataset, *place, setting)
                    for each in (*reversed(list(needed_by(run))), run):
                        runs.setdefault(each.folder, each)
    return list(runs.values())


def is_same_at_all(method: Method, setting: Setting) -> bool:
    """Whether one run of a data set says all: nothing is trained, and no few validation images are drawn for a test."""
    return is_untrained(method.name) and "TEST.SPLIT" not in setting.options


def build_once(phase: str, method: Method, dataset: str, shots: int, seed: int, setting: Setting) -> Run:
    """The run of what trains nothing: the one that has finished, of whatever shots and seed; else of these."""
    asked = build(phase, method, dataset, shots, seed, setting)
    places = {place for each in (asked, *needed_by(asked)) for place in places_beside(each.folder)}
    others = [build(phase, method, dataset, *place, setting) for place in sorted(places)]
    return max([asked, *others], key=count_finished)


def places_beside(folder: Path) -> list[tuple[int, int]]:
    """(shots, seed) of all runs there are of a run's data set, method and config."""
    config, method, _, dataset = folder.parents[:4]
    found = map(place_of, dataset.glob(f"shots_*/{method.name}/{config.name}/seed*"))
    return [(place.shots, place.seed) for place in found if place]


def count_finished(run: Run) -> int:
    """Of a run and those that it needs."""
    return sum(state_of(each.folder) == "finished" for each in (run, *needed_by(run)))


def needed_by(run: Run) -> Iterator[Run]:
    """The run that it needs, the one that this needs, ..."""
    while run.after is not None:
        run = run.after
        yield run


def absolute(path: str | os.PathLike) -> Path:
    return Path(os.path.abspath(os.path.expanduser(path)))
