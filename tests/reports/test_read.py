"""From run folders to results: what counts, what is refused, and what a copied, double or broken run becomes."""

import subprocess
import sys
from pathlib import Path

import pytest

from reports.result import ResultError
from tests.helpers import REPOSITORY
from tests.reports.runs import across, base2new, fewshot, results_of, write


def test_results_are_read_without_pytorch():
    """A table is made where the folders are copied to; matplotlib is for pictures alone."""
    code = "import sys, parse_test_res; print(sorted({'torch', 'matplotlib', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY)
    assert done.stdout.strip() == "[]", done.stderr


def test_rows(tmp_path):
    base2new(tmp_path, "CoOp", "dtd", 10, 80.0, 40.0, backbone="ViT-B/16", images_sha256="ab")
    (base, new) = results_of(tmp_path, "base2new")
    assert (base.method, base.dataset, base.shots, base.seed, base.part) == ("CoOp/vit_b16", "dtd", 16, 10, "base")
    assert (base.value, new.value, base.backbone, base.final_model) == (80.0, 40.0, "ViT-B/16", "last_step")
    assert results_of(tmp_path, "base2new", "macro_f1")[0].value == 50.0
    assert results_of(tmp_path / "base2new", "base2new") == [base, new]  # the protocol's own folder


def test_a_record_with_odd_facts_still_has_its_result(tmp_path):
    odd = {
        "backbone": {"NAME": "RN50"},
        "images_sha256": 5,
        "config": {"TRAINER": "X"},
        "weights": "there",
        "transductive": "no",
    }
    fewshot(tmp_path, "CoOp", "dtd", 1, 1, 90.0, **odd)
    (row,) = results_of(tmp_path, "fewshot")
    assert (row.value, row.backbone, row.images, row.final_model, row.transductive) == (90.0, None, None, None, False)


def test_logs_of_other_code(tmp_path):
    """A training log counts after its training, a test log from its first result on."""
    for folder, signal in (("train_base", "Finished training\n"), ("test_new", "")):
        run = tmp_path / "base2new" / folder / "dtd/shots_16/CoOp/vit_b16/seed1"
        run.mkdir(parents=True)
        (run / "log.txt").write_text(f"=> result\n* accuracy: 1.0%\n{signal}=> result\n* accuracy: 71.5%\n")
    assert [run.value for run in results_of(tmp_path, "base2new")] == [71.5, 71.5]
    (tmp_path / "base2new/train_base/dtd/shots_16/CoOp/vit_b16/seed1/log.txt").write_text("* accuracy: 1.0%\n")
    assert "broke off" in results_of(tmp_path, "base2new")[0].problem


@pytest.mark.parametrize("last", ["nan%", "187.0%", "1.2.3%", "7", "", "inf%", "-3%"])
def test_a_log_whose_last_figure_is_none(tmp_path, last):
    """The one before it is not taken in its place."""
    run = tmp_path / "fewshot/dtd/shots_16/CoOp/vit_b16/seed1"
    run.mkdir(parents=True)
    (run / "log.txt").write_text(f"Finish training\n* accuracy: 71.5%\n* accuracy: {last}\n")
    (row,) = results_of(tmp_path, "fewshot")
    assert row.value is None and "which is no percentage" in row.problem


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "is not JSON"),
        ("[1]", "is no record"),
        ('{"state": "failed", "why": "out of memory"}', "state: failed, out of memory"),
        ('{"state": "running"}', "wait for it"),
        ('{"state": "finished", "accuracy": NaN}', "nan of accuracy, which is no percentage"),
        ('{"state": "finished", "accuracy": 187.5}', "187.5 of accuracy, which is no percentage"),
        ('{"state": "finished", "accuracy": 90, "accuracy": 95}', "it says 'accuracy' twice"),
        (r'{"state": "failed", "why": "out of\nmemory"}', r"state: failed, out of\nmemory"),
        ('{"state": "finished", "accuracy": "91"}', "no number 'accuracy'"),
        ('{"state": "finished", "accuracy": 91, "seed": 2}', "seed 2, where 1 belongs"),
        ('{"state": "finished", "accuracy": 91, "subsample": "base"}', "subsample base, where all belongs"),
    ],
)
def test_a_run_without_a_result(tmp_path, content, said):
    folder = fewshot(tmp_path, "CoOp", "dtd", 1, 1, 90.0)
    (folder / "results.json").write_text(content)
    (row,) = results_of(tmp_path, "fewshot")
    assert row.value is None and said in row.problem and str(folder) in row.problem


def test_a_folder_that_is_taken_away_meanwhile_or_may_not_be_read(tmp_path, monkeypatch):
    for seed in (1, 2):
        fewshot(tmp_path, "CoOp", "dtd", 4, seed, 50.0)
    listed, errors = Path.iterdir, [PermissionError(13, "Permission denied"), FileNotFoundError(2, "No such file")]

    def iterdir(folder):
        if folder.name == "seed1":
            raise errors[0]
        return listed(folder)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    with pytest.raises(ResultError, match=r"seed1 cannot be read \(Permission denied\): make it readable"):
        results_of(tmp_path, "fewshot")
    del errors[0]
    assert [result.seed for result in results_of(tmp_path, "fewshot")] == [2]


def test_a_log_that_may_not_be_read(tmp_path, monkeypatch):
    run = tmp_path / "fewshot/dtd/shots_4/CoOp/vit_b16/seed1"
    run.mkdir(parents=True)
    (run / "log.txt").write_text("")

    def read_text(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_text", read_text)
    (result,) = results_of(tmp_path, "fewshot")
    assert "log.txt cannot be read (Permission denied): make it readable" in result.problem


def test_a_seed_that_is_there_twice_counts_neither_time(tmp_path):
    first = fewshot(tmp_path, "CoOp", "dtd", 1, 1, 90.0)
    write(first.with_name("seed1_again"), 70.0)
    (row,) = results_of(tmp_path, "fewshot")
    assert row.value is None and "seed1 and" in row.problem and "seed1_again are the same run twice" in row.problem


def test_zero_shot_is_one_result_at_whatever_shots(tmp_path):
    for shots in (1, 16):
        fewshot(tmp_path, "ZeroshotCLIP", "dtd", shots, 1, 44.0)
    (row,) = results_of(tmp_path, "fewshot")
    assert (row.shots, row.value) == (0, 44.0)
    fewshot(tmp_path, "ZeroshotCLIP", "dtd", 4, 1, 45.0)
    assert "twice" in results_of(tmp_path, "fewshot")[0].problem


@pytest.mark.parametrize("state", ["running", "failed"])
def test_an_unfinished_zero_shot_run_beside_a_finished_one_is_not_needed(tmp_path, state):
    write(fewshot(tmp_path, "ZeroshotCLIP", "dtd", 1, 1, 0.0), state=state)
    assert f"did not finish (state: {state})" in results_of(tmp_path, "fewshot")[0].problem
    fewshot(tmp_path, "ZeroshotCLIP", "dtd", 16, 1, 44.0)
    (row,) = results_of(tmp_path, "fewshot")
    assert (row.value, row.problem) == (44.0, "")


def test_a_zero_shot_run_counts_at_all_shots(tmp_path):
    """A sweep has it at the first of its shots alone."""
    base2new(tmp_path, "ZeroshotCLIP", "dtd", 1, 50.0, 60.0, shots=4)
    for shots in (4, 16):
        base2new(tmp_path, "CoOp", "dtd", 1, 80.0, 70.0, shots=shots)
    base2new(tmp_path, "CoOp", "eurosat", 1, 80.0, 70.0, shots=8)
    rows = [row for row in results_of(tmp_path, "base2new") if row.zero_shot]
    assert sorted((row.dataset, row.shots, row.part, row.value) for row in rows) == [
        ("dtd", 4, "base", 50.0), ("dtd", 4, "new", 60.0), ("dtd", 16, "base", 50.0), ("dtd", 16, "new", 60.0),
    ]  # fmt: skip


def test_a_test_on_another_set_knows_its_source(tmp_path):
    fewshot(tmp_path, "CoOp", "imagenet", 16, 1, 71.0, images_sha256="ab")
    across(tmp_path, "xd", "CoOp", "imagenet", "dtd", 1, 42.0, images_sha256="cd")
    across(tmp_path, "xd", "ZeroshotCLIP", "imagenet", "dtd", 1, 44.0, weights=None)  # takes the others' source
    rows = {(run.method, run.part): run for run in results_of(tmp_path, "xd")}
    assert {run.source for run in rows.values()} == {"imagenet"}
    source, target = rows["CoOp/vit_b16", "source"], rows["CoOp/vit_b16", "target"]
    assert (source.dataset, source.value, source.images) == ("imagenet", 71.0, "ab")
    assert (target.dataset, target.value, target.images) == ("dtd", 42.0, None)  # it trained on none of the target's
    assert results_of(tmp_path / "xd", "xd") == list(rows.values())
    across(tmp_path, "xd", "CoOp", "imagenet", "imagenet", 1, 99.0)  # the source as a target of itself
    assert results_of(tmp_path, "xd") == list(rows.values())


def test_another_table_than_the_folder_holds(tmp_path):
    fewshot(tmp_path, "CoOp", "dtd", 1, 1, 90.0)
    for folder in (tmp_path, tmp_path / "fewshot"):
        with pytest.raises(ResultError, match="it holds those of --table fewshot"):
            results_of(folder, "xd")


@pytest.mark.parametrize(("name", "text"), [(".lock", ""), ("results.json", '{"state": "failed", "refused": true}')])
def test_what_is_no_run(tmp_path, name, text):
    """A folder with nothing but a lock, and a run that was refused before it began."""
    base2new(tmp_path, "CoOp", "dtd", 1, 80.0, 40.0)
    whole = results_of(tmp_path, "base2new")
    other = tmp_path / "base2new/train_base/dtd/shots_16/CoOp/vit_b16/seed7"
    other.mkdir()
    (other / name).write_text(text)
    assert results_of(tmp_path, "base2new") == whole
    (other / "results.json").write_text('{"state": "failed"}')
    assert len(results_of(tmp_path, "base2new")) == len(whole) + 1
