"""What the GPU's benchmark decides, and that it works where there is none. No time is asserted."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from multiprocessing import get_context

import pytest
import torch

from benchmarks.gpu import agreement, cells, equality, memory, parts, show
from benchmarks.gpu.__main__ import main
from benchmarks.gpu.cells import Settings, cell
from dassl.engine import TRAINER_REGISTRY
from dassl.errors import InputError
from tests.helpers import REPOSITORY

HERE = "tests.benchmarks.test_gpu:"


def settings(folder="", **others) -> Settings:
    until = time.time() + 1000
    return Settings(str(folder), use_cuda=False, quick=True, seconds=0.0, rounds=1, until=until)._replace(**others)


# --- the command ------------------------------------------------------------------------------------------------


def test_the_command_without_a_gpu(tmp_path, capsys):
    out = tmp_path / "gpu.json"
    assert main(["--device", "cpu", "--quick", "--no-network", "--out", str(out)]) == 0
    result = json.loads(out.read_text())
    assert {"device", "driver", "cuda", "torch", "python", "command", "seconds", "goals"} <= result.keys()
    assert list(result["parts"]) == list(parts.PARTS) and not result["on_gpu"]
    records = [record for part in result["parts"].values() for record in part]
    assert not any(map(cells.is_failure, records))
    assert [record["cell"] for record in records if "skipped" in record] == ["steps by TRAIN.COMPILE"]
    assert result["goals"] == []  # which are a GPU's
    assert {"CoOp", "a step of CoOp", "5 classes, theirs", "CoOp, fp32, trainings"} <= {one["cell"] for one in records}
    page = out.with_suffix(".md").read_text()
    assert all(f"## {part.capitalize()}" in page for part in parts.PARTS) and "its figures are no results" in page
    assert "## Goals" not in page
    assert f"0 faults, {result['seconds']} s. Results: {out}" in capsys.readouterr().out


def test_a_fault_is_told_and_the_rest_goes_on(tmp_path, capsys, monkeypatch):
    found = {"memory": [{"cell": "a", "error": "RuntimeError: broken"}], "equality": [{"cell": "b", "tensors": 3}]}
    monkeypatch.setattr("benchmarks.gpu.__main__.records", lambda part, _: iter(found[part]))
    out = tmp_path / "gpu.json"
    assert main(["--device", "cpu", "--quick", "--parts", *found, "--out", str(out)]) == 1
    assert json.loads(out.read_text())["parts"] == found
    page = out.with_suffix(".md").read_text()
    assert "- a: **error**: RuntimeError: broken" in page and "| b | 3 | yes |" in page
    assert "a (0.0 s): error: RuntimeError: broken" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "why"),
    [([], "--device cpu --quick"), (["--device", "cpu", "--rounds", "0"], "--rounds at least 1")],
)
def test_what_cannot_be_measured_is_refused(options, why, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main([*options, "--out", str(tmp_path / "gpu.json")]) == 2
    assert why in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_imports_ask_for_no_gpu():
    """The process that parts are forked from has asked for none: CUDA would refuse to work in them."""
    code = (
        "import torch\ndef asked(*_): raise SystemExit('a GPU was asked for')\n"
        "torch._C._cuda_getDeviceCount = torch.cuda.is_available = torch.cuda.device_count = asked\n"
        "torch.cuda._lazy_init = asked\nimport benchmarks.gpu.parts"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY).returncode == 0


# --- cells and parts ----------------------------------------------------------------------------------------------


def raising(error: Exception):
    def work():
        raise error

    return work


def test_a_cell_says_why_there_are_no_figures():
    s = settings()
    assert cell(s, "a", lambda: {"figure": 1})["figure"] == 1
    assert cell(s._replace(until=0.0), "a", raising(AssertionError()))["skipped"]
    for error in (
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: 9"),
    ):
        record = cell(s, "a", raising(error))
        assert record["no_room"] and not cells.is_failure(record)
    record = cell(s, "a", raising(ValueError("no\nmore")))
    assert record["error"] == "ValueError: no" and "raise error" in record["traceback"] and cells.is_failure(record)
    assert cell(s, "a", raising(ValueError()))["error"] == "ValueError: "


def dying(part, settings, sender):
    sender.send({"cell": "first"})
    os._exit(3)


def hanging(part, settings, sender):
    sender.send({"cell": "first"})
    time.sleep(1000)


def test_a_part_that_dies_or_hangs_is_an_error(monkeypatch):
    monkeypatch.setattr(parts, "get_context", lambda _: Quick(get_context("fork")))
    monkeypatch.setattr(parts, "work", dying)
    first, second = parts.records("memory", settings())
    assert first == {"cell": "first"} and second["error"] == "its process ended with exit code 3"
    monkeypatch.setattr(parts, "work", hanging)
    monkeypatch.setattr(parts, "GRACE", 2.0)
    first, second = parts.records("memory", settings(until=time.time()))
    assert first == {"cell": "first"} and "was ended" in second["error"]


class Quick:
    """Forks from here, where everything is imported."""

    def __init__(self, context):
        self.Pipe, self.Process = context.Pipe, context.Process

    def set_forkserver_preload(self, names):
        pass


def test_what_comes_before_a_parts_cells(monkeypatch):
    sent = []
    monkeypatch.setitem(parts.PARTS, "memory", lambda _: 1 / 0)
    parts.work("memory", settings(), type("Sender", (), {"send": staticmethod(sent.append)}))
    assert sent[0]["error"] == "ZeroDivisionError: division by zero"


def test_no_network():
    asking = {
        "a connection": lambda: socket.create_connection(("localhost", 9)),
        "a name": lambda: socket.getaddrinfo("localhost", 9),
        "an address": lambda: socket.socket().connect(("127.0.0.1", 9)),
    }
    with parts.network_forbidden():
        for ask in asking.values():
            with pytest.raises(InputError, match="--no-network forbids"):
                ask()
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as here, pytest.raises(FileNotFoundError):
            here.connect("/tmp/nobody-listens-here")
    assert socket.getaddrinfo("127.0.0.1", 9)


# --- agreement ----------------------------------------------------------------------------------------------------


def test_every_method_is_compared():
    names = {
        name
        for name in TRAINER_REGISTRY.registered_names()
        if TRAINER_REGISTRY.get(name).__module__.startswith("trainers")
    }
    methods = agreement.methods()
    assert names <= methods.keys() and names == {form.method for form in methods.values()}
    assert {precision for use in (True, False) for precision in settings(use_cuda=use).precisions} == set(
        agreement.FURTHEST
    )


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Settings:
    made = settings(tmp_path_factory.mktemp("gpu"))
    parts.prepare(made)
    return made


def test_no_features_come_from_another_run(prepared):
    """What a CPU has computed and kept would agree with itself."""
    trainer = agreement.build(prepared, agreement.methods()["CoOp"], use_cuda=False, precision="fp32")
    assert not trainer.features.folder


def test_numbers_that_are_too_far_are_a_fault(prepared, monkeypatch):
    form = agreement.methods()["MaPLe"]
    record = agreement.compare(prepared, form)
    found = record["distances"]
    assert (
        "failed" not in record and found["fp32"]["gradient"] == 0 < found["bf16"]["logits"] < found["bf16"]["gradient"]
    )
    monkeypatch.setitem(agreement.FURTHEST, "bf16", {"logits": 1e-6, "loss": 1.0})
    assert "bf16 logits" in agreement.compare(prepared, form)["failed"]


def test_a_number_that_is_none_is_too_far():
    assert list(agreement.too_far({"fp32": {"logits": float("nan"), "loss": 0.0}})) == [
        "fp32 logits nan, at most 0.0001"
    ]


def test_the_gradient_is_of_what_is_learned(prepared):
    """A step on other images has another gradient, which would be too far."""
    form = agreement.methods()["CoOp"]
    one, states = agreement.numbers(agreement.build(prepared, form, use_cuda=False, precision="fp32"))
    other = agreement.build(
        prepared, form, use_cuda=False, precision="fp32", options=("DATALOADER.TRAIN_X.BATCH_SIZE", 8)
    )
    found = agreement.distances(agreement.numbers(other, states)[0]._replace(losses=one.losses), one)
    assert found["logits"] == 0 and found["gradient"] > 0.1
    assert len(one.losses) == 2 and one.gradient.numel() == other.model.prompt_learner.ctx.numel()


def test_gradients_of_a_fit_are_not_a_steps(prepared):
    """Spotlighter's step is its host's: that of the same numbers."""
    trainer = agreement.build(prepared, agreement.methods()["Spotlighter"], use_cuda=False, precision="fp32")
    found, _ = agreement.numbers(trainer)
    assert found.gradient.numel() == trainer.model.prompt_learner.ctx.numel()


def test_tf32_is_off_for_a_while():
    before = torch.backends.cudnn.allow_tf32
    with agreement.without_tf32():
        assert not torch.backends.cudnn.allow_tf32 and not torch.backends.cuda.matmul.allow_tf32
    assert torch.backends.cudnn.allow_tf32 == before


# --- equality -----------------------------------------------------------------------------------------------------


def test_what_differs_is_told():
    first = {"same": torch.ones(2), "moved": torch.ones(2), "longer": torch.ones(2)}
    second = {"same": torch.ones(2), "moved": torch.tensor([1.0, 1.5]), "longer": torch.ones(3)}
    given = iter((first, second, first, first))
    told = equality.twice(lambda *_: next(given), settings(), "CoOp", "fp32")
    assert told == {"tensors": 3, "failed": "not the same: moved (by 5.0e-01); longer (another shape)"}
    assert equality.twice(lambda *_: next(given), settings(), "CoOp", "fp32") == {"tensors": 3}


def test_steps_learn_from_other_images_each(prepared):
    state = equality.some_steps(prepared, "CoOp", "fp32")
    assert len(state["losses"].unique()) == equality.STEPS and "prompt_learner.ctx" in state


# --- on a pretended GPU -------------------------------------------------------------------------------------------


class InHalf(Settings):
    precisions = ("fp16",)


def on_a_gpu(gpu, folder: str):
    """Memory and agreement, as a GPU would be asked."""
    s = InHalf(*settings(folder, use_cuda=True))
    parts.prepare(s)
    same = agreement.compare(s, agreement.methods()["MaPLe"])
    return [*memory.cells(s), cell(s, "MaPLe", lambda: same)]


def test_on_a_pretended_gpu(pretended_gpu, tmp_path):
    *peaks, compared = pretended_gpu(HERE + "on_a_gpu", folder=str(tmp_path))
    assert [record["peak_mib"] for record in peaks] == [3, 3, 3] and {record["precision"] for record in peaks} == {
        "fp16"
    }
    assert "failed" not in compared and compared["distances"]["fp16"]["logits"] > 0


# --- goals ----------------------------------------------------------------------------------------------------------


def test_goals_are_judged_where_clip_is_fastest():
    def evaluation(batch, clip, ratio, more):
        rows = [
            {"name": "zero-shot CLIP", "images_per_second": clip},
            {"name": show.FAST, "ratio_to_clip": ratio, "extra_images_per_second": more},
        ]
        return {"cell": f"evaluation, batch {batch}", "rows": rows}

    step = {"cell": "a step of CoOp", "times_theirs": 3.5}
    found = show.goals({"speed": [step, evaluation(128, 2000, 1.3, 600), evaluation(512, 2500, 1.5, 700)]})
    assert [(goal["measured"], goal["reached"]) for goal in found] == [
        (3.5, True),
        (None, None),
        (None, None),
        (1.5, True),
        (700, False),
    ]
    assert [goal["measured"] for goal in show.goals({})] == [None] * 5
