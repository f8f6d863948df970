"""The benchmark of training: that its parts run, what they multiply and write, and what is refused. No time is asserted."""

import json
from collections.abc import Callable
from itertools import count
from types import SimpleNamespace

import pytest

from benchmarks.training import __main__ as command
from benchmarks.training import authors, growth, runs, show, steps, table, timing
from dassl.utils import InputError

# --- clocks --------------------------------------------------------------------------------------------------------


def fake_clock(monkeypatch, *moments: float) -> None:
    values = iter(moments)
    monkeypatch.setattr(timing.time, "process_time", lambda: next(values))


def test_rows_take_turns_and_the_first_round_is_left_out():
    order: list[str] = []

    def row(name: str) -> Callable[[], float]:
        seconds = count(1)
        return lambda: order.append(name) or float(next(seconds))

    seconds = timing.interleaved({"a": row("a"), "b": row("b")}, 2, 100.0)
    assert order == ["a", "b", "b", "a", "a", "b"] and seconds == {"a": [2.0, 3.0], "b": [2.0, 3.0]}


def test_what_takes_too_long_has_one_round():
    assert timing.interleaved({"a": lambda: 5.0}, 3, 0.0) == {"a": [5.0]}


def test_ratios_are_of_rounds():
    found = timing.times({"slow": [4.0, 9.0, 10.0], "fast": [2.0, 3.0, 1.0]}, "slow", "fast")
    assert found == {"times": 3.0, "quartiles": [2.5, 6.5]}


def test_a_phase_is_without_those_within_it(monkeypatch):
    fake_clock(monkeypatch, 3.0, 4.0, 6.0, 11.0, 12.0, 12.5)
    phases = timing.Phases()
    phases.begin()  # 3
    owner = SimpleNamespace(test=lambda: owner.encode(), encode=lambda: 7)
    with phases.watching({"evaluation": [(owner, "test")], "encoding": [(owner, "encode")]}):
        assert owner.test() == 7  # from 4, to 12; what is within it from 6 to 11
    assert phases.so_far() == {"imports": 3.0, "other": 1.5, "evaluation": 3.0, "encoding": 5.0}
    assert owner.test.__name__ == "<lambda>" and owner.test() == 7  # it is no longer watched


# --- steps ---------------------------------------------------------------------------------------------------------


def test_steps_are_measured_and_kept_by_cell(tmp_path, capsys):
    out = tmp_path / "training.json"
    given = ["--quick", "--parts", "steps", "--out", str(out), "--cells"]
    assert command.main([*given, "CoOp:3:2", "CoOp:3:2:2", "PromptSRC:3:2"]) == 0
    first, views, last = json.loads(out.read_text())["parts"]["steps"]
    assert set(first["cpu_seconds"]) == {"ours", "field"} and first["rounds"] == 1 and set(first["ratios"]) == {"field"}
    assert {"encoding", "ours and encoding"} < set(views["cpu_seconds"]) and last["method"] == "PromptSRC"
    assert {"command", "commit", "versions", "processor", "load"} <= set(first["measured"])
    assert "field / ours" in capsys.readouterr().out

    assert command.main([*given, "CoOp:3:2", "KgCoOp:3:2"]) == 0
    again = json.loads(out.read_text())["parts"]["steps"]
    assert [record["cell"] for record in again] == ["CoOp:3:2", "CoOp:3:2:2", "PromptSRC:3:2", "KgCoOp:3:2"]
    assert again[0]["measured"]["command"] != first["measured"]["command"] and again[1] == views


def test_views_cost_their_encoding():
    """Each of 8 views of a batch is encoded once in 200 epochs."""
    seconds = {"ours": [1.0], "encoding": [10.0]}
    steps.share_encoding(seconds, steps.Cell("CoOp", 100, 32, 8), 200)
    assert seconds["ours and encoding"] == [pytest.approx(1.4)]


def test_what_does_not_fit_is_said(monkeypatch):
    monkeypatch.setattr(steps, "available", lambda: 2**20)
    record = steps.measure(steps.Cell("CoOp", 3, 2), steps.EMBEDDED, None, 1, 0.0)
    assert set(record["cpu_seconds"]) == {"ours"} and not record["ratios"]
    assert record["no_room"] in show.step(record)


def test_cells():
    assert steps.asked([], [], [], [], quick=False) == list(steps.DEFAULT) and set(steps.GOALS) < set(steps.DEFAULT)
    assert steps.asked(["CoOp:10:4:8"], [], [], [], quick=True) == [steps.Cell("CoOp", 10, 4, 8)]
    assert steps.asked([], ["MaPLe"], [10, 50], [4], quick=True) == [
        steps.Cell("MaPLe", 10, 4),
        steps.Cell("MaPLe", 50, 4),
    ]
    assert len(steps.asked([], [], [], [1, 4, 32], quick=False)) == len(steps.METHODS) * len(steps.CLASSES) * 3


@pytest.mark.parametrize("cell", ["CoOp", "CoOp:10", "VPT:10:4", "CoOp:x:4", "CoOp:1:4", "CoOp:1001:4", "CoOp:10:161", "CoOp:10:4:1"])  # fmt: skip
def test_a_cell_that_cannot_be_is_refused(cell, tmp_path, capsys):
    out = tmp_path / "out.json"
    assert command.main(["--quick", "--parts", "steps", "--cells", cell, "--out", str(out)]) == 2
    assert repr(cell) in capsys.readouterr().err and not out.exists()


# --- the authors' code -----------------------------------------------------------------------------------------------

THEIR_CLIP = """
def _download(url):
    raise AssertionError("the weights are here")
"""
THEIR_TRAINER = """
import torch
from clip import clip
from dassl.engine import TRAINER_REGISTRY, TrainerX

@TRAINER_REGISTRY.register()
class CoOp(TrainerX):
    def build_model(self):
        print("their code prints")
        assert clip._download("url") == "ViT-Embedded/8" and self.cfg.TRAINER.COOP.N_CTX == 16
        self.model = torch.nn.Linear(2, len(self.dm.dataset.classnames)).cuda()

    def forward_backward(self, batch):
        assert batch["img"].shape == (2, 3, 64, 64) and batch["label"].max() < 3 and self.num_classes == 3
"""


def their_code(folder, trainer: str = THEIR_TRAINER):
    return checked_out(folder, "KaiyangZhou+CoOp", {"clip/clip.py": THEIR_CLIP, "trainers/coop.py": trainer})


def checked_out(folder, repository: str, files: dict[str, str]):
    for name, text in files.items():
        path = folder / repository / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.with_name("__init__.py").touch()
    return folder


def test_the_authors_step_is_taken_beside_ours(tmp_path):
    record = steps.measure(steps.Cell("CoOp", 3, 2), steps.EMBEDDED, their_code(tmp_path), 1, 0.0)
    assert set(record["cpu_seconds"]) == {"ours", "field", "authors"} == {"ours", *record["ratios"]}


THEIR_TCP = """
import torch
import pkg_resources
from clip import clip
from dassl.engine import TRAINER_REGISTRY, TrainerX
from .clip_text import clip as second

@TRAINER_REGISTRY.register()
class TCP(TrainerX):
    def build_model(self):
        assert clip._download("url") == second._download("url") == "ViT-Embedded/8" and pkg_resources.packaging.version
        assert self.cfg.OPTIM.NAME == "adam" and self.cfg.TRAINER.COOP.W == 1.0

    def forward_backward(self, batch):
        assert len(batch["img"]) == 2
"""


def test_a_method_without_a_re_creation_stands_beside_its_authors_alone(tmp_path):
    """TCP's have a second `clip` among their trainers, and an optimiser of their own."""
    files = {"clip/clip.py": THEIR_CLIP, "trainers/tcp.py": THEIR_TCP, "trainers/clip_text/clip.py": THEIR_CLIP}
    folder = checked_out(tmp_path, "htyao89+Textual-based_Class-aware_prompt_tuning", files)
    record = steps.measure(steps.cell_of("TCP:3:2"), steps.EMBEDDED, folder, 1, 0.0)
    assert set(record["cpu_seconds"]) == {"ours", "authors"} and set(record["ratios"]) == {"authors"}


THEIR_MMA = """
from clip import clip
from dassl.engine import TRAINER_REGISTRY, TrainerX

@TRAINER_REGISTRY.register()
class MultiModalAdapter(TrainerX):
    def build_model(self):
        assert clip._download("url") and self.cfg.TRAINER.MMADAPTER.ADAPTER_DIM == 32

    def forward_backward(self, batch):
        assert len(batch["img"]) == 2
"""


def test_theirs_may_be_registered_otherwise(tmp_path):
    files = {"clip/clip.py": THEIR_CLIP, "trainers/mmadapter.py": THEIR_MMA}
    folder = checked_out(tmp_path, "ZjjConan+VLM-MultiModalAdapter", files)
    record = steps.measure(steps.cell_of("MMA:3:2"), steps.EMBEDDED, folder, 1, 0.0)
    assert set(record["ratios"]) == {"authors"}


def test_their_error_is_told(tmp_path):
    folder = their_code(tmp_path, "raise ImportError('their code needs something')")
    with pytest.raises(RuntimeError, match="their code needs something"):
        steps.measure(steps.Cell("CoOp", 3, 2), steps.EMBEDDED, folder, 1, 0.0)


def test_a_checkout_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="has no KgCoOp: git clone"):
        authors.checkout(tmp_path, "KgCoOp")
    (tmp_path / "KgCoOp").mkdir()
    assert authors.checkout(tmp_path, "KgCoOp") == (tmp_path / "KgCoOp" / "KgCoOp").resolve()


# --- runs, the table, growth -------------------------------------------------------------------------------------------


def test_the_usual_way_comes_to_the_same(root, tmp_path):
    """What is timed beside a run here does the same work: it classifies as that does, after training."""
    asked = runs.Asked("ProGrad", "embedded_species", str(root), str(tmp_path / "ours"), shots=4)
    asked = asked._replace(options=("OPTIM.MAX_EPOCH", "4", "OPTIM.LR", "0.02"))
    ours, usual = runs.measure(asked), runs.measure(asked._replace(output=str(tmp_path / "usual"), usual=True))
    assert ours["accuracy"] == usual["accuracy"] > 100 / 12
    for run in (ours, usual):
        phases = run["phases"]
        assert {"imports", "weights", "data", "encoding", "steps", "evaluation", "saving", "other"} <= set(phases)
        assert sum(phases.values()) == pytest.approx(run["cpu_seconds"])


def test_runs_in_turn(monkeypatch, tmp_path):
    asked: list[runs.Asked] = []

    def half(one: runs.Asked) -> dict:
        asked.append(one)
        seconds = {True: 9.0, False: 3.0}[one.usual]
        return {"cpu_seconds": seconds, "wall_seconds": 2 * seconds, "phases": {"steps": seconds}, "accuracy": 50.0}

    monkeypatch.setattr(runs, "measure", half)
    (record,) = runs.records(["CoOp"], "species", "root", 2, tmp_path)
    assert record["ratios"]["warm"]["times"] == 3 and record["ways"]["usual"]["phases"] == {"steps": 18.0}
    assert [one.half for one in asked] == ["base", "new"] * 6 and len({one.output for one in asked}) == 6
    stores = [one.features for one in asked[::2]]
    assert stores[0] == stores[3] == "" and stores[1] == stores[2] != stores[4] == stores[5]
    assert "usual / cold 3.00" in show.run(record)


def test_the_sample_is_multiplied(monkeypatch, tmp_path):
    """Zero-shot CLIP's runs are the same for all seeds."""
    sweeps: list[tuple[str, ...]] = []
    monkeypatch.setattr(table, "cpu_seconds", lambda arguments: sweeps.append(arguments) or float(len(sweeps)))
    monkeypatch.setattr(table, "both_halves", lambda one: {"cpu_seconds": 10.0, "wall_seconds": 20.0})
    record = table.record(
        ["ZeroshotCLIP", "CoOp"], ["scenes", "small"], [1, 2, 3], ["scenes"], "root", 1, tmp_path, ("K", "V")
    )
    (done,) = record["rounds"]
    assert record["runs"] == 2 * 2 + 2 * 2 * 3 and done["usual"]["cpu_seconds"] == 20 + 60
    assert (done["cold"]["cpu_seconds"], done["warm"]["cpu_seconds"]) == (1, 2)
    assert record["ratios"]["warm"]["times"] == 40 and "goal 10: reached" in show.table(record)
    first, second = (set(arguments) for arguments in sweeps)
    assert (
        str(tmp_path / "table-0" / "features") in first & second
        and str(tmp_path / "table-0" / "cold") in first - second
    )
    assert sweeps[0][-2:] == ("K", "V") and "embedded_small" in first


def test_a_sweep_is_run(root, tmp_path):
    found = table.swept(["ZeroshotCLIP"], ["species"], [1], str(root), tmp_path, "cold", ("OPTIM.MAX_EPOCH", "1"))
    assert found["cpu_seconds"] > 0 and (tmp_path / "cold" / "base2new" / "test_new" / "embedded_species").is_dir()


def test_exponents():
    record = growth.growth("classes", "a step", [1, 2, 4], [3.0, 12.0, 48.0])
    assert record["exponent"] == pytest.approx(2) and "exponent 2.00, expected 1" in show.growth(record)


def test_a_step_grows_with_classes():
    assert len(growth.of_classes([3, 6], steps.EMBEDDED, 1)) == 2


def test_phases_of_sizes():
    found = growth.of_phases("shots", [1, 2], lambda size, round_: {"steps": size + 10.0 * round_}, ["steps"], 3)
    assert next(found)["cpu_seconds"] == [11.0, 12.0]


# --- the command -------------------------------------------------------------------------------------------------------


def test_sets_that_are_not_there_are_refused(tmp_path, capsys):
    given = ["--parts", "table", "--root", str(tmp_path), "--out", str(tmp_path / "out.json")]
    assert command.main(given) == 2
    assert "has no embedded_shapes: write it with" in capsys.readouterr().err
    assert command.main([*given, "--rounds", "0"]) == 2
