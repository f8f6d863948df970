"""Results to cells: means, H, averages, and what a half-done sweep shows."""

import shutil

import pytest

from reports.formats import as_text
from reports.result import ResultError
from tests.reports.runs import across, base2new, fewshot, means, said, table_of, write

# --- arithmetic ----------------------------------------------------------------------------------------------


def test_h_is_of_the_means_and_the_averages_too(two_sets):
    base2new(two_sets, "CoOp", "embedded_shapes", 1, 99.0, 99.0)
    base2new(two_sets, "CoOp", "embedded_shapes", 2, 99.0, 99.0)
    table = table_of(two_sets, "base2new")
    assert means(table) == {
        ("caltech101", "CoOp"): [60.0, 20.0, 30.0],  # in the order of the field's tables
        ("dtd", "CoOp"): [80.0, 50.0, 61.54],  # the mean of the two H is 60.00
        ("average", "CoOp"): [70.0, 35.0, 46.67],  # without the embedded set; the mean of the H column is 45.77
        ("embedded_shapes", "CoOp"): [99.0, 99.0, 99.0],
    }
    assert [block.name for block in table.blocks][:3] == ["caltech101", "dtd", "average"]
    assert not table.problems
    h = table.blocks[2].rows[0].cells[2]
    assert {seed: round(value, 2) for seed, value in h.by_seed.items()} == {1: 42.86, 2: 49.52}


def test_shots_are_columns_of_the_few_shot_table(tmp_path):
    for dataset, more in (("dtd", 0.0), ("eurosat", 20.0)):
        for shots in (1, 2, 16):
            for seed in (1, 2):
                fewshot(tmp_path, "CoOp", dataset, shots, seed, 40.0 + shots + seed + more)
        fewshot(tmp_path, "ZeroshotCLIP", dataset, 16, 1, 30.0 + more)
    table = table_of(tmp_path, "fewshot")
    assert table.blocks[0].columns == ["0", "1", "2", "16"]
    assert means(table)["dtd", "CoOp"] == [None, 42.5, 43.5, 57.5]
    assert means(table)["average", "CoOp"] == [None, 52.5, 53.5, 67.5]
    assert means(table)["average", "ZeroshotCLIP"] == [40.0, None, None, None]
    assert not table.problems  # one zero-shot run is all there is to do


@pytest.mark.parametrize("kind", ["xd", "dg"])
def test_source_then_targets_then_their_average(tmp_path, kind):
    for seed in (1, 2):
        fewshot(tmp_path, "CoOp", "imagenet", 16, seed, 70.0 + seed)
        for target, accuracy in (("eurosat", 40.0), ("dtd", 50.0)):
            across(tmp_path, kind, "CoOp", "imagenet", target, seed, accuracy + seed)
    table = table_of(tmp_path, kind)
    assert table.blocks[0].columns == ["imagenet", "dtd", "eurosat", "average"]
    assert means(table) == {("imagenet", "CoOp"): [71.5, 51.5, 41.5, 46.5]}
    (tmp_path / "fewshot/imagenet/shots_16/CoOp/vit_b16/seed2/results.json").unlink()
    table = table_of(tmp_path, kind)
    assert means(table) == {("imagenet", "CoOp"): [None, 51.5, 41.5, 46.5]}  # the source is none of the targets
    assert "imagenet/shots_16/CoOp/vit_b16/seed2 holds neither" in said(table)


# --- what is missing -----------------------------------------------------------------------------------------


def test_a_missing_half_is_named_and_not_averaged_over(two_sets):
    base2new(two_sets, "CoOp", "dtd", 3, 99.0)
    base2new(two_sets, "CoOp", "caltech101", 3, 60.0, 20.0)
    table = table_of(two_sets, "base2new")
    assert means(table)["dtd", "CoOp"] == [86.33, None, None]
    assert means(table)["caltech101", "CoOp"] == [60.0, 20.0, 30.0]
    assert means(table)["average", "CoOp"] == [73.17, None, None]
    assert table.problems == ["CoOp/vit_b16 has no run of seed 3, 16 shots: dtd (new)."]

    table = table_of(two_sets, "base2new", partial=True)
    assert means(table)["dtd", "CoOp"] == [80.0, 50.0, 61.54]  # of the seeds that have both
    assert means(table)["average", "CoOp"] == [70.0, 35.0, 46.67]
    assert table.problems == ["CoOp/vit_b16 has no run of seed 3, 16 shots: dtd (new)."]
    text = as_text(table)
    assert "80.00*  50.00*  61.54*" in text and "60.00   20.00   30.00" in text and "*: the mean of those" in text


def test_what_learns_something_for_each_class_has_no_new_half(two_sets):
    """Which is no fault, and missing nowhere; the average is of base classes, too."""
    for seed in (1, 2):
        for dataset, accuracy in (("dtd", 80.0), ("caltech101", 90.0)):
            base2new(two_sets, "TaskRes", dataset, seed, accuracy)
    table = table_of(two_sets, "base2new")
    assert means(table)["dtd", "TaskRes"] == [80.0, None, None] and not table.problems
    assert means(table)["average", "TaskRes"] == [85.0, None, None]
    shutil.rmtree(two_sets / "base2new/train_base/dtd/shots_16/TaskRes/vit_b16/seed2")
    assert table_of(two_sets, "base2new").problems == ["TaskRes/vit_b16 has no run of seed 2, 16 shots: dtd (base)."]


def test_a_method_without_a_set_has_no_average(two_sets):
    for seed in (1, 2):
        base2new(two_sets, "MaPLe", "dtd", seed, 80.0, 70.0)
    for partial in (False, True):
        table = table_of(two_sets, "base2new", partial=partial)
        assert means(table)["average", "MaPLe"] == [None, None, None]
        assert table.problems == ["MaPLe/vit_b16 has no run of seeds 1, 2, 16 shots: caltech101 (base, new)."]


def test_a_teacher_that_is_only_trained_is_no_row(two_sets):
    teacher = str(two_sets / "base2new/train_base/dtd/shots_16/PromptSRC/vit_b16/seed1")
    config = {
        "TEST": {"FINAL_MODEL": "last_step"},
        "TRAINER": {"NAME": "PromptKD", "PROMPTKD": {"TEACHER_DIR": teacher}},
    }
    for dataset in ("dtd", "caltech101"):
        for seed in (1, 2):
            base2new(two_sets, "PromptSRC", dataset, seed, 90.0)
            base2new(two_sets, "PromptKD", dataset, seed, 80.0, 70.0, config=config)
    table = table_of(two_sets, "base2new")
    assert {method for _, method in means(table)} == {"CoOp", "PromptKD"} and not table.problems
    assert "Left out: PromptSRC/vit_b16, a teacher without tests on new classes." in table.notes
    base2new(two_sets, "PromptSRC", "dtd", 1, new=50.0)  # tested, so a row as any other
    table = table_of(two_sets, "base2new")
    assert means(table)["dtd", "PromptSRC"] == [90.0, None, None] and len(table.problems) == 2


def test_failed_seeds_are_named_with_their_reason(two_sets):
    write(two_sets / "base2new/train_base/dtd/shots_16/CoOp/vit_b16/seed2", 10.0, state="failed", why="out of memory")
    table = table_of(two_sets, "base2new")
    assert means(table)["dtd", "CoOp"] == [None, 50.0, None]
    (problem,) = table.problems
    assert "seed2 did not finish (state: failed, out of memory)" in problem


def test_the_seeds_that_a_table_is_to_have(two_sets):
    assert "CoOp/vit_b16 has no run of seed 3" in said(table_of(two_sets, "base2new", seeds=[1, 2, 3]))
    only = table_of(two_sets, "base2new", seeds=[2])
    assert means(only)["dtd", "CoOp"] == [70.0, 60.0, 64.62] and "1 seed (2)" in said(only)


def test_a_zero_shot_row_needs_one_run_of_whatever_seed(tmp_path):
    """A sweep has it of the first of its seeds alone; which that was is no reason that others lack one."""
    base2new(tmp_path, "ZeroshotCLIP", "dtd", 1, 50.0, 60.0)
    for seed in (2, 3):
        base2new(tmp_path, "CoOp", "dtd", seed, 80.0, 70.0)
    for table in (table_of(tmp_path, "base2new"), table_of(tmp_path, "base2new", seeds=[2, 3])):
        assert means(table)["dtd", "ZeroshotCLIP"] == [50.0, 60.0, 54.55] and "2 seeds (2, 3)" in said(table)
        assert not table.problems
    with pytest.raises(ResultError, match="No run is of the seeds 7"):
        table_of(tmp_path, "base2new", seeds=[7])
    base2new(tmp_path, "CoOp", "eurosat", 2, 80.0, 70.0)
    assert "ZeroshotCLIP/vit_b16 has no run of seed 2, 16 shots: eurosat (base, new)." in said(
        table_of(tmp_path, "base2new")
    )


def test_an_unfinished_zero_shot_run_is_named_once(tmp_path):
    for shots in (4, 16):
        base2new(tmp_path, "CoOp", "dtd", 1, 80.0, 70.0, shots=shots)
    base2new(tmp_path, "ZeroshotCLIP", "dtd", 1, 50.0, shots=4, state="running")
    problems = table_of(tmp_path, "base2new").problems
    assert len([problem for problem in problems if "did not finish (state: running)" in problem]) == 1


def test_a_zero_shot_result_is_missing_at_0_shots(tmp_path):
    for dataset in ("dtd", "eurosat"):
        fewshot(tmp_path, "CoOp", dataset, 1, 1, 50.0)
    fewshot(tmp_path, "ZeroshotCLIP", "dtd", 1, 1, 44.0)
    assert table_of(tmp_path, "fewshot").problems == ["ZeroshotCLIP/vit_b16 has no run of seed 1: eurosat (0 shots)."]


def test_a_test_without_a_source_lacks_that_too(tmp_path):
    across(tmp_path, "xd", "VPT", "imagenet", "dtd", 1, 44.0, weights=None)
    problem = "VPT/vit_b16 has no run of seed 1, 16 shots: the source (trained on an unknown set)."
    assert table_of(tmp_path, "xd").problems == [problem]
