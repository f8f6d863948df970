"""Every run of a folder: what its row on the page says (reports/runs.py)."""

from pathlib import Path

import pytest

from reports.page import collect, duration, memory
from reports.runs import all_runs
from tests.reports.runs import CONFIG, SETTINGS, fewshot, write


def test_runs(output):
    runs = {(run.method, run.phase, run.place.shots, run.dataset, run.place.seed): run for run in all_runs(output)}
    assert next(iter(runs.values())).state == "failed"  # what did not finish stands first
    failed = runs["CoOp/vit_b16", "few_shot", 8, "dtd", 1]
    assert (failed.state, failed.value("accuracy")) == ("failed", None) and "20 GiB" in failed.why
    coop = runs["CoOp/vit_b16", "base2new_train", 16, "dtd", 2]
    assert (coop.state, coop.value("accuracy"), coop.value("macro_f1")) == ("finished", 62.0, 50.0)
    assert (duration(coop.seconds), memory(coop.memory)) == ("2 min", "2.0 GiB")
    assert duration(7260) == "2 h 01 min" and duration(None) == memory(None) == ""
    assert coop.inside == "base2new/train_base/dtd/shots_16/CoOp/vit_b16/seed2"
    assert len(runs) == 12 * 2 + 2 + 1 + 1
    inside = all_runs(output / "fewshot")
    assert {run.phase for run in inside} == {"few_shot"} and len(inside) == 3


@pytest.mark.parametrize("state", ["", "done", ["finished"], None, 1])
def test_a_state_that_no_run_has(tmp_path, state):
    fewshot(tmp_path, "CoOp", "dtd", 4, 1, 50.0, state=state)
    assert [run.state for run in all_runs(tmp_path)] == ["unreadable"]


def test_runs_wherever_the_folder_is_given_from(output, monkeypatch):
    """From inside, or under another name: the same runs, as tables have it."""
    (output / "base2new").rename(output / "renamed")
    write(output / "xd_train/imagenet/shots_16/CoOp/vit_b16/seed1", 70.0, seed=1, subsample="all")
    assert [run.phase for run in all_runs(output)] == ["few_shot"] * 3 + ["xd_train", "xd_test"]
    assert len(collect(output / "renamed").runs) == 24
    monkeypatch.chdir(output / "fewshot")
    for folder in (Path("."), Path("../fewshot"), output / "fewshot"):
        report = collect(folder)
        assert report.directory == str(folder) and len(report.runs) == 3 and report.sections[0].name == "fewshot"


def test_what_a_config_differs_in(tmp_path):
    for seed in (1, 2, 3):
        config = {
            **CONFIG,
            "SEED": seed,
            "OPTIM": {"LR": 0.002, "MAX_EPOCH": 50 if seed < 3 else 5},
            "OUTPUT_DIR": str(seed),
        }
        settings = SETTINGS | {"changed": ["OPTIM.LR 0.1 in place of 0.002"] if seed == 1 else []}
        fewshot(tmp_path, "CoOp", "dtd", 4, seed, 50.0, config=config, settings=settings)
    differs = [run.differs for run in all_runs(tmp_path)]
    assert differs == [["OPTIM.LR 0.1 in place of 0.002"], [], ["OPTIM.MAX_EPOCH 5, and 50 in most others"]]


def test_settings_that_a_config_states_by_shots_are_no_difference(tmp_path):
    for shots, epochs in ((1, 50), (4, 100)):
        rows = [f"protocol fewshot, shots {shots}: OPTIM.MAX_EPOCH {epochs}"]
        config = {**CONFIG, "OPTIM": {"MAX_EPOCH": epochs}}
        fewshot(tmp_path, "CoOp", "dtd", shots, 1, 50.0, config=config, settings=SETTINGS | {"rows": rows})
    assert [run.differs for run in all_runs(tmp_path)] == [[], []]
