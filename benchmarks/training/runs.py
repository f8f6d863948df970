"""One run in a process of its own, and its CPU seconds by phase: imports, weights, data, encoding, steps, evaluation, saving.

A phase within another is taken out of it: "encoding" is that of frozen images wherever it happens, so "steps" and
"evaluation" are without it, and "data" is reading and transforming pictures, and looking at their files. What a step
does of an image encoder that learns is the step's.
"""

import contextlib
import functools
import json
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

from benchmarks.start import cpu_seconds
from one_run.layout import ROOT
from sweep.protocols import Method, Run, Setting, absolute, build

from .timing import Phases, times

HALVES = {"base": "base2new_train", "new": "base2new_test"}


class Asked(NamedTuple):
    """A half of a base-to-new run."""

    method: str
    dataset: str
    root: str
    output: str
    features: str = ""  # FEATURES.DIR
    half: str = "base"
    seed: int = 1
    shots: int = 16
    options: tuple[str, ...] = ()
    usual: bool = False  # in the field's usual way

    @property
    def run(self) -> Run:
        options = ("USE_CUDA", "False", "VERBOSE", "False", "FEATURES.DIR", self.features, *self.options)
        setting = Setting(absolute(self.root), Path(self.output), options=options)
        return build(HALVES[self.half], Method(self.method), self.dataset, self.shots, self.seed, setting)


def measure(asked: Asked) -> dict[str, Any]:
    """CPU and wall seconds of the process, CPU seconds of its phases, and the accuracy that came out."""
    with tempfile.TemporaryDirectory() as folder:
        file = os.path.join(folder, "phases.json")
        started = time.perf_counter()
        total = cpu_seconds(("-m", __name__, json.dumps([*asked]), file))
        wall = time.perf_counter() - started
        record = json.loads(Path(file).read_text())
    phases = record["phases"]
    phases["other"] += total - sum(phases.values())  # Python's own beginning and end
    return {"cpu_seconds": total, "wall_seconds": wall, **record}


def both_halves(asked: Asked) -> dict[str, Any]:
    """Training and testing on the base classes, then testing on the new ones: seconds are sums."""
    base, new = (measure(asked._replace(half=half)) for half in HALVES)
    phases = {
        name: base["phases"].get(name, 0.0) + new["phases"].get(name, 0.0)
        for name in {**base["phases"], **new["phases"]}
    }
    return {
        "cpu_seconds": base["cpu_seconds"] + new["cpu_seconds"],
        "wall_seconds": base["wall_seconds"] + new["wall_seconds"],
        "phases": phases,
        "accuracy": [base["accuracy"], new["accuracy"]],
    }


def records(
    methods: list[str], dataset: str, root: str, rounds: int, folder: Path, options: tuple[str, ...] = ()
) -> Iterator[dict]:
    """For each method its base-to-new run, three ways in turn: the usual one, with an empty store, and with a full one."""
    for method in methods:
        rows: dict[str, list[dict]] = {"usual": [], "cold": [], "warm": []}
        for round_ in range(rounds):
            store = str(folder / f"features-{method}-{round_}")
            for way, own in rows.items():  # a store is full once the run before it has filled it
                output = str(folder / f"{way}-{round_}")
                asked = Asked(method, f"embedded_{dataset}", root, output, options=options)
                own.append(
                    both_halves(asked._replace(usual=True) if way == "usual" else asked._replace(features=store))
                )
        seconds = {way: [run["cpu_seconds"] for run in own] for way, own in rows.items()}
        yield {
            "method": method,
            "dataset": dataset,
            "rounds": rounds,
            "ways": {way: middle(own) for way, own in rows.items()},
            "ratios": {way: times(seconds, "usual", way) for way in ("cold", "warm")},
        }


def middle(runs: list[dict]) -> dict[str, Any]:
    """Medians; the accuracies are those of the first."""
    phases = {name: statistics.median(run["phases"].get(name, 0.0) for run in runs) for name in runs[0]["phases"]}
    return {
        "cpu_seconds": statistics.median(run["cpu_seconds"] for run in runs),
        "wall_seconds": statistics.median(run["wall_seconds"] for run in runs),
        "phases": phases,
        "accuracy": runs[0]["accuracy"],
    }


# --- in that process ---------------------------------------------------------------------------------------------------


def places() -> dict[str, list[tuple[Any, str]]]:
    """Phase -> what does its work."""
    from benchmarks.field import FieldDataset
    from benchmarks.field_steps import FieldCLIP, FieldStep
    from dassl.data import data_manager
    from dassl.data.features import FeatureStore
    from dassl.engine.base import TrainerBase
    from dassl.engine.trainer import SimpleTrainer
    from one_run import record, work
    from trainers.shared.clip_trainer import ClipTrainer
    from trainers.shared.prompted_clip import PromptedCLIP

    return {
        "weights": [(ClipTrainer, "load_clip")],
        "data": [
            (data_manager.DataManager, "__init__"),
            (data_manager.DatasetWrapper, "__getitem__"),
            (data_manager.DatasetWrapper, "prepare"),
            (FieldDataset, "__getitem__"),
            (record, "identity_of"),
            (work, "check_pictures"),
        ],
        "encoding": [(PromptedCLIP, "encode"), (FieldCLIP, "image")],
        "store": [(FeatureStore, "of"), (FeatureStore, "of_images"), (FeatureStore, "made_by")],
        "steps": [(ClipTrainer, "forward_backward"), (FieldStep, "__call__")],
        "evaluation": [(SimpleTrainer, "test")],
        "saving": [(TrainerBase, "save_model"), (record.RunRecord, "write"), (record.RunRecord, "finish")],
    }


def carry_out(asked: Asked) -> dict:
    import torch

    from dassl.engine import TRAINER_REGISTRY
    from one_run import preload, work
    from one_run.config import config_of
    from one_run.folder import whole_record

    from .usual import in_the_usual_way

    torch.set_num_threads(1)
    phases = Phases()
    preload.import_all()
    watched = places()
    phases.begin()
    request = asked.run.request

    def build_usual(cfg):
        return in_the_usual_way(TRAINER_REGISTRY.get(cfg.TRAINER.NAME))(cfg)

    with contextlib.ExitStack() as stack:
        if asked.usual:
            stack.enter_context(mock.patch.object(work, "build_trainer", build_usual))
            warnings.filterwarnings("ignore", "Detected call of .lr_scheduler.step")  # the trainer's optimiser has none
        stack.enter_context(phases.watching(watched))
        do = functools.partial(work.do, config_of(request), model_dir=str(request.model_dir or ""))
        do(test=request.model_dir is not None)
    return {"phases": phases.so_far(), "accuracy": whole_record(request.output_dir)["accuracy"]}


def main() -> None:
    given, file = sys.argv[1:]
    asked = Asked(*json.loads(given))
    Path(file).write_text(json.dumps(carry_out(asked._replace(options=tuple(asked.options)))))


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
