"""From run folders to rows: what counts, what is refused, and what a copied, double or broken run becomes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from reports.read import ResultError, beside, read_runs
from tests.helpers import REPOSITORY

CONFIG = {"TEST": {"FINAL_MODEL": "last_step"}}


def write(folder: Path, accuracy=None, state="finished", **more) -> Path:
    """A run's record, as short as the tables allow."""
    folder.mkdir(parents=True, exist_ok=True)
    record = {"state": state, "accuracy": accuracy, "macro_f1": 50.0, "split": "test", "config": CONFIG}
    (folder / "results.json").write_text(json.dumps(record | more))
    return folder


def base2new(root: Path, method: str, dataset: str, seed: int, base=None, new=None, shots=16, **more) -> None:
    """A run on the base classes, and its test on the new ones; None leaves one out."""
    for part, folder, accuracy in (("base", "train_base", base), ("new", "test_new", new)):
        if accuracy is not None:
            tail = f"{dataset}/shots_{shots}/{method}/vit_b16/seed{seed}"
            write(root / "base2new" / folder / tail, accuracy, seed=seed, subsample=part, **more)


def fewshot(root: Path, method: str, dataset: str, shots: int, seed: int, accuracy: float, **more) -> Path:
    folder = root / "fewshot" / dataset / f"shots_{shots}" / method / "vit_b16" / f"seed{seed}"
    return write(folder, accuracy, seed=seed, subsample="all", **more)


def across(root: Path, kind: str, method: str, source: str, target: str, seed: int, accuracy: float, **more) -> None:
    tail = f"shots_16/{method}/vit_b16/seed{seed}"
    known = {"seed": seed, "subsample": "all", "weights": {"model_dir": str(root / "fewshot" / source / tail)}}
    write(root / kind / target / tail, accuracy, **(known | more))


def test_results_are_read_without_pytorch():
    """A table is made where the folders are copied to; matplotlib is for pictures alone."""
    code = "import sys, parse_test_res; print(sorted({'torch', 'matplotlib', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY)
    assert done.stdout.strip() == "[]", done.stderr


def test_rows(tmp_path):
    base2new(tmp_path, "CoOp", "dtd", 10, 80.0, 40.0, backbone="ViT-B/16", images_sha256="ab")
    (base, new) = read_runs(tmp_path, "base2new")
    assert (base.method, base.dataset, base.shots, base.seed, base.part) == ("CoOp/vit_b16", "dtd", 16, 10, "base")
    assert (base.value, new.value, base.backbone, base.final_model) == (80.0, 40.0, "ViT-B/16", "last_step")
    assert read_runs(tmp_path, "base2new", "macro_f1")[0].value == 50.0
    assert read_runs(tmp_path / "base2new", "base2new") == [base, new]  # the protocol's own folder


def test_a_record_with_odd_facts_still_has_its_result(tmp_path):
    odd = {
        "backbone": {"NAME": "RN50"},
        "images_sha256": 5,
        "config": {"TRAINER": "X"},
        "weights": "there",
        "transductive": "no",
    }
    fewshot(tmp_path, "CoOp", "dtd", 1, 1, 90.0, **odd)
    (row,) = read_runs(tmp_path, "fewshot")
    assert (row.value, row.backbone, row.images, row.final_model, row.transductive) == (90.0, None, None, None, False)


def test_logs_of_other_code(tmp_path):
    """A training log counts after its training, a test log from its first result on."""
    for folder, signal in (("train_base", "Finished training\n"), ("test_new", "")):
        run = tmp_path / "base2new" / folder / "dtd/shots_16/CoOp/vit_b16/seed1"
        run.mkdir(parents=True)
        (run / "log.txt").write_text(f"=> result\n* accuracy: 1.0%\n{signal}=> result\n* accuracy: 71.5%\n")
    assert [run.value for run in read_runs(tmp_path, "base2new")] == [71.5, 71.5]
    (tmp_path / "base2new/train_base/dtd/shots_16/CoOp/vit_b16/seed1/log.txt").write_text("* accuracy: 1.0%\n")
    assert "broke off" in read_runs(tmp_path, "base2new")[0].problem


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "is not JSON"),
        ("[1]", "is no record"),
        ('{"state": "failed", "why": "out of memory"}', "state: failed, out of memory"),
        ('{"state": "running"}', "wait for it"),
        ('{"state": "finished", "accuracy": NaN}', "no number 'accuracy'"),
        ('{"state": "finished", "accuracy": "91"}', "no number 'accuracy'"),
        ('{"state": "finished", "accuracy": 91, "seed": 2}', "seed 2, where 1 belongs"),
        ('{"state": "finished", "accuracy": 91, "subsample": "base"}', "subsample base, where all belongs"),
    ],
)
def test_a_run_without_a_result(tmp_path, content, said):
    folder = fewshot(tmp_path, "CoOp", "dtd", 1, 1, 90.0)
    (folder / "results.json").write_text(content)
    (row,) = read_runs(tmp_path, "fewshot")
    assert row.value is None and said in row.problem and str(folder) in row.problem


def test_a_seed_that_is_there_twice_counts_neither_time(tmp_path):
    first = fewshot(tmp_path, "CoOp", "dtd", 1, 1, 90.0)
    write(first.with_name("seed1_again"), 70.0)
    (row,) = read_runs(tmp_path, "fewshot")
    assert row.value is None and "seed1 and" in row.problem and "seed1_again are the same run twice" in row.problem


def test_zero_shot_is_one_result_at_whatever_shots(tmp_path):
    for shots in (1, 16):
        fewshot(tmp_path, "ZeroshotCLIP", "dtd", shots, 1, 44.0)
    (row,) = read_runs(tmp_path, "fewshot")
    assert (row.shots, row.value) == (0, 44.0)
    fewshot(tmp_path, "ZeroshotCLIP", "dtd", 4, 1, 45.0)
    assert "twice" in read_runs(tmp_path, "fewshot")[0].problem


def test_a_test_on_another_set_knows_its_source(tmp_path):
    fewshot(tmp_path, "CoOp", "imagenet", 16, 1, 71.0, images_sha256="ab")
    across(tmp_path, "xd", "CoOp", "imagenet", "dtd", 1, 42.0, images_sha256="cd")
    across(tmp_path, "xd", "ZeroshotCLIP", "imagenet", "dtd", 1, 44.0, weights=None)  # takes the others' source
    rows = {(run.method, run.part): run for run in read_runs(tmp_path, "xd")}
    assert {run.source for run in rows.values()} == {"imagenet"}
    source, target = rows["CoOp/vit_b16", "source"], rows["CoOp/vit_b16", "target"]
    assert (source.dataset, source.value, source.images) == ("imagenet", 71.0, "ab")
    assert (target.dataset, target.value, target.images) == ("dtd", 42.0, None)  # it trained on none of the target's
    assert read_runs(tmp_path / "xd", "xd") == list(rows.values())
    across(tmp_path, "xd", "CoOp", "imagenet", "imagenet", 1, 99.0)  # the source as a target of itself
    assert read_runs(tmp_path, "xd") == list(rows.values())


def test_another_table_than_the_folder_holds(tmp_path):
    fewshot(tmp_path, "CoOp", "dtd", 1, 1, 90.0)
    for folder in (tmp_path, tmp_path / "fewshot"):
        with pytest.raises(ResultError, match="it holds those of --table fewshot"):
            read_runs(folder, "xd")


def test_published_figures_stand_beside_their_own_sets_and_shots(tmp_path):
    base2new(tmp_path, "CoOp", "dtd", 1, 80.0, 40.0)
    base2new(tmp_path, "CoOp", "embedded_shapes", 1, 80.0, 40.0)
    figures = beside(read_runs(tmp_path, "base2new"))
    assert {row.dataset for row in figures} == {"dtd"} and len(figures) == 30  # ten methods' base, new and H
    assert [row.value for row in figures if row.method == "CoOp (published)"] == [79.44, 41.18, 54.24]
    assert {row.method for row in figures if row.transductive} == {
        "PromptKD (published)", "PromptKD w/ TextRefiner (published)", "PromptKD w/ Spotlighter (published)"
    }  # fmt: skip
    base2new(tmp_path / "few", "CoOp", "dtd", 1, 80.0, 40.0, shots=4)
    with pytest.raises(ResultError, match="16 shots"):
        beside(read_runs(tmp_path / "few", "base2new"))
