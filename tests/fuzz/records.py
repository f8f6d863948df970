"""What a run finds in its folder of a former one: the record, the pointers, and what a sweep or a rebuilding make of it."""

import contextlib
import json
from random import Random
from unittest import mock

import torch

from dassl.checkpoints import last_epoch, models_in
from dassl.ranges import leaves
from dassl.utils.resume import latest
from one_run import differences, identity, work
from one_run import rebuild as rebuilding
from one_run.config import build_config
from one_run.folder import state_of, whole_record
from one_run.identity import identity_before
from one_run.record import RunRecord
from sweep.__main__ import is_finished
from sweep.protocols import Method, Setting, build
from trainers.promptkd import teacher_checkpoint

from .configs import same
from .harness import RIGHT, Kind, Wrong
from .mutate import perhaps_spoilt, spoilt_json
from .results import is_share, written
from .splits import write_benchmark

DEAREST = (
    "state",
    "config",
    "weights",
    "accuracy",
    "method",
    "backbone",
    "identity",
    "images",
    "classes",
    "count",
    "TRAINER",
    "OPTIM",
    "LR",
    "NAME",
    "settings",
)
POINTERS = (
    "model.pth.tar-3", "model.pth.tar-", "model.pth.tar-0", "model.pth.tar--3", "model-best.pth.tar", "", "\n", "\x00", "../../x-7", "x" * 5000, "-" + "9" * 5000,
    "-\u0663", "/dev/zero", ".", "model.pth.tar-3\nmodel.pth.tar-4", "\ud800", "model.pth.tar-99999999999999999999",
)  # fmt: skip


class Built(Exception):
    """The trainer would be built now."""


class Records(Kind):
    name, inputs = "records", 400

    def __init__(self, folder):
        super().__init__(folder)
        write_benchmark(folder / "data")
        self.run = build(
            "few_shot", Method("CoOp", "embedded"), "caltech101", 4, 1, Setting(folder / "data", folder / "output")
        )
        request = self.run.request
        self.home = request.output_dir
        self.cfg = build_config(request.method, request.files, request.options, **request.given)
        self.model = self.home / "prompt_learner"
        self.model.mkdir(parents=True)
        torch.save({"state_dict": {}, "epoch": 3}, self.model / "model.pth.tar-3")
        self.identity = identity_before(self.cfg)
        self.learned = [self.identity["images"][part] for part in ("train", "val")]
        record = RunRecord(self.cfg)
        record.content |= {
            "identity": self.identity,
            "state": "finished",
            "accuracy": 87.5,
            "macro_f1": 80.25,
            "epoch": 3,
            "seconds": 1.5,
        }
        self.record = record.content

    def one(self, chance: Random) -> str:
        former = {**self.record, "state": chance.choice(("finished", "finished", "running", "failed"))}
        data = perhaps_spoilt(chance, spoilt_json(chance, former, DEAREST), 0.15)
        (self.home / "results.json").write_bytes(data)
        pointer = "model.pth.tar-3\n" if chance.random() < 0.7 else chance.choice(POINTERS)
        (self.model / "checkpoint").write_bytes(pointer.encode("utf-8", "surrogatepass"))
        if chance.random() < 0.03:
            (self.model / "checkpoint").write_bytes(b"\xff\xfe")
        self.write_checkpoint(chance)
        steps = (
            self.finished,
            self.skipped,
            self.planned,
            self.went_on,
            self.learned_from,
            self.taught,
            self.tested,
            self.built_again,
        )
        return chance.choice(steps)(written(data))

    def write_checkpoint(self, chance: Random) -> None:
        """A whole one, which says perhaps something odd of what its run is."""
        known = written(spoilt_json(chance, {"identity": self.identity}, DEAREST).encode("utf-8", "surrogatepass"))
        checkpoint = {"state_dict": {}, "epoch": 3, **(known or {})}
        torch.save(checkpoint, self.model / "model.pth.tar-3")

    def finished(self, stated: dict | None) -> str:
        former = RunRecord(self.cfg).already_finished(lambda: self.identity)
        return self.is_that_run(stated, former is not None)

    def is_that_run(self, stated: dict | None, is_so: bool) -> str:
        there = stated or {}
        right = there.get("state") == "finished" and (there.get("accuracy") is None or is_share(there["accuracy"]))
        if is_so and not (right and same_settings(there.get("config"), self.record["config"])):
            raise Wrong(f"it counts as finished: {str(stated)[:200]}")
        return RIGHT

    def skipped(self, stated: dict | None) -> str:
        """As train.py does; what would train gets no further than its trainer."""
        stand_ins = {"build_trainer": {"side_effect": Built}, "identity_before": {"return_value": self.identity}}
        try:
            with contextlib.ExitStack() as stack:
                for name, does in {**stand_ins, "setup_logger": {}}.items():
                    stack.enter_context(mock.patch.object(work, name, **does))
                work.do(self.cfg.clone())
        except Built:
            return RIGHT
        return self.is_that_run(stated, True)

    def went_on(self, stated: dict | None) -> str:
        goes_on = RunRecord(self.cfg).broke_off()
        models_in(str(self.home)), last_epoch(str(self.home)), state_of(self.home)
        if goes_on and not same_settings((stated or {}).get("config"), self.record["config"]):
            raise Wrong(f"a run of other settings would go on: {str(stated)[:200]}")
        return RIGHT

    def learned_from(self, stated: dict | None) -> str:
        """Another run that uses this one's model, or goes on with it."""
        found, record = latest(str(self.home), models_in(str(self.home))), whole_record(self.home)
        then = differences.first_identity(*(found.checkpoints.values() if found else ()), record)
        differences.trained_on(str(self.home), record)
        differences.refuse_other_training(self.identity, then, str(self.home))
        differences.refuse_to_go_on(self.identity, then, str(self.home))
        if then is not None and [then["images"].get(part) for part in ("train", "val")] != self.learned:
            raise Wrong(f"what was learned from {str(then)[:300]} is used")
        return RIGHT

    def taught(self, stated: dict | None) -> str:
        teacher_checkpoint(str(self.home), self.cfg.MODEL.BACKBONE.NAME)
        return RIGHT

    def tested(self, stated: dict | None) -> str:
        weights = work.weights_to_test(self.cfg, str(self.home))
        if (stated or {}).get("state", "finished") != "finished":
            raise Wrong(f"an unfinished run is tested: {weights}")
        return RIGHT

    def planned(self, stated: dict | None) -> str:
        with mock.patch.object(identity, "identity_before", return_value=self.identity):  # its data were looked at
            return self.is_that_run(stated, is_finished(self.run, set(), {}))

    def built_again(self, stated: dict | None) -> str:
        try:
            with mock.patch.object(rebuilding, "build_trainer", side_effect=Built) as builder:
                rebuilding.rebuild(self.home)
        except Built:
            cfg = builder.call_args.args[0]
        free = ("USE_CUDA", "RESUME", "MODEL.INIT_WEIGHTS", "DATALOADER.NUM_WORKERS", "VERBOSE")
        config = (stated or {}).get("config", {})
        for key, value in leaves(cfg):
            there = config
            for part in key.split("."):
                there = there.get(part, there) if isinstance(there, dict) else there
            if not key.startswith(("SETTINGS.", *free)) and not isinstance(there, dict) and not same(there, value):
                raise Wrong(f"{key} is {value!r}, and the record says {there!r}"[:400])
        return RIGHT


def same_settings(stated, ours) -> bool:
    """All that decides a result, as the two configs have it."""
    stated, ours = (json.loads(json.dumps(tree)) for tree in (stated, ours))
    for tree in (stated, ours):
        for node, keys in (
            ((), ("OUTPUT_DIR", "RESUME", "VERBOSE")),
            (("DATASET",), ("ROOT", "ALLOW_SHARED_IMAGES")),
            (("DATALOADER",), ("NUM_WORKERS", "KEEP_MB")),
            (("DATALOADER", "TEST"), ("CACHE_DIR",)),
            (("TRAIN",), ("PRINT_FREQ",)),
            (("TRAINER",), ("MEMORY_MB",)),
            (("TRAINER", "COCOOP"), ("MEMORY_MB",)),
        ):
            inner = tree
            for part in node:
                inner = inner.get(part) if isinstance(inner, dict) else None
            for key in keys if isinstance(inner, dict) else ():
                inner.pop(key, None)
    return stated == ours
