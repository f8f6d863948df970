"""Rows to cells: means, H, averages, what a half-done sweep shows, what is said under a table, and the formats."""

import csv

import pytest

import parse_test_res as parse
from reports.read import beside, published, read_runs
from reports.tables import FORMATS, make_table
from tests.reports.test_read import across, base2new, fewshot, write


def table_of(root, kind, **options):
    return make_table(read_runs(root, kind), kind, **options)


def means(table) -> dict:
    """{(block, method): means}, without the config's name."""
    return {
        (block.name, row.method.removesuffix("/vit_b16")): [
            None if cell is None or cell.mean is None else round(cell.mean, 2) for cell in row.cells
        ]
        for block in table.blocks
        for row in block.rows
    }


def said(table) -> str:
    return "\n".join(table.notes + table.problems)


@pytest.fixture
def two_sets(tmp_path):
    for seed, base, new in ((1, 90.0, 40.0), (2, 70.0, 60.0)):
        base2new(tmp_path, "CoOp", "dtd", seed, base, new, backbone="ViT-B/16")
        base2new(tmp_path, "CoOp", "caltech101", seed, 60.0, 20.0, backbone="ViT-B/16")
    return tmp_path


# --- arithmetic ------------------------------------------------------------------------------------------------


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


# --- what is missing -------------------------------------------------------------------------------------------


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
    text = FORMATS["text"](table)
    assert "80.00*  50.00*  61.54*" in text and "60.00   20.00   30.00" in text and "*: the mean of those" in text


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


# --- what stands under it --------------------------------------------------------------------------------------


def test_modes(tmp_path):
    base2new(tmp_path, "CoOp", "dtd", 1, 80.0, 40.0)
    assert "Mode: strict (last epoch, inductive)." in said(table_of(tmp_path, "base2new"))
    base2new(tmp_path, "PromptKD", "dtd", 1, 80.0, 40.0, transductive=True)
    base2new(tmp_path, "VPT", "dtd", 1, 80.0, 40.0, config={"TEST": {"FINAL_MODEL": "best_val"}})
    base2new(tmp_path, "IVLP", "dtd", 1, 80.0, 40.0, config=None)
    base2new(tmp_path, "MaPLe", "dtd", 1, 80.0, 40.0, split="val")
    table = table_of(tmp_path, "base2new")
    assert "Mode: strict (last epoch, inductive): all other runs." in table.notes
    assert "Mode: paper (transductive): PromptKD/vit_b16." in table.notes
    assert any("paper (best epoch on validation images" in note and "VPT/vit_b16" in note for note in table.notes)
    assert "Mode: paper (tested on val images): MaPLe/vit_b16." in table.notes
    assert "Mode unknown (no config beside the log): IVLP/vit_b16." in table.notes
    text = FORMATS["text"](table)
    assert "PromptKD/vit_b16 †" in text and "† transductive" in text and "CoOp/vit_b16 †" not in text


def test_what_differs_is_said(two_sets):
    base2new(two_sets, "CoOp", "dtd", 1, 80.0, 40.0, shots=4, backbone="RN50")
    base2new(two_sets, "CoOp", "embedded_shapes", 1, 80.0, 40.0, backbone="ViT-Embedded/8")
    table = table_of(two_sets, "base2new", seeds=[1])
    assert "Shots differ: 4, 16." in table.notes
    assert "Backbone: ViT-Embedded/8." in table.notes  # another world, so no difference
    assert any("Backbones differ" in note and "RN50" in note and "Embedded/" not in note for note in table.notes)
    assert any("test bed, no benchmark" in note for note in table.notes)


def test_methods_that_saw_different_images_are_named(tmp_path):
    for method, hashed in (("CoOp", "aaaaaaaa1"), ("MaPLe", "aaaaaaaa1"), ("ZeroshotCLIP", "cccccccc1")):
        base2new(tmp_path, method, "dtd", 1, 80.0, 40.0, images_sha256=hashed)
    assert not table_of(tmp_path, "base2new").problems  # zero-shot sees no training image
    base2new(tmp_path, "IVLP", "dtd", 1, 80.0, images_sha256="bbbbbbbb1")
    base2new(tmp_path, "IVLP", "dtd", 1, new=40.0, images_sha256="dddddddd1", weights={"model_dir": "there"})
    (problem,) = [problem for problem in table_of(tmp_path, "base2new").problems if "(base)" in problem]
    assert "seed 1 (aaaaaaaa: CoOp/vit_b16, MaPLe/vit_b16; bbbbbbbb: IVLP/vit_b16)" in problem


# --- beside the published figures ------------------------------------------------------------------------------


def test_published_rows(two_sets, capsys):
    base2new(two_sets, "CoOp", "imagenet", 1, 76.0, 68.0)
    base2new(two_sets, "CoOp", "imagenet", 2, 76.0, 68.0)
    base2new(two_sets, "CoOp", "embedded_shapes", 1, 80.0, 40.0)
    base2new(two_sets, "CoOp", "embedded_shapes", 2, 80.0, 40.0)
    assert parse.main([str(two_sets), "--table", "base2new", "--against", "published", "--format", "csv"]) == 0
    out, err = capsys.readouterr()
    rows = {(line["dataset"], line["method"]): line for line in csv.DictReader(out.splitlines())}
    assert rows["imagenet", "CoOp (published)"]["H"] == "71.92"  # as printed
    assert "CoOp (published), imagenet: H is printed 71.92, and its base and new give 72.42." in err
    ours, theirs = rows["average", "CoOp/vit_b16"], rows["average", "CoOp (published)"]
    assert float(ours["base"]) == pytest.approx((76 + 60 + 80) / 3)
    assert float(theirs["base"]) == pytest.approx((76.47 + 98.00 + 79.44) / 3)  # of the same three sets
    assert not any("published" in method for dataset, method in rows if dataset.startswith("embedded_"))


def test_the_published_average_is_as_printed_where_all_its_sets_are(tmp_path):
    for dataset in {row.dataset for row in published()} - {"average"}:
        base2new(tmp_path, "CoOp", dataset, 1, 80.0, 40.0)
    runs = read_runs(tmp_path, "base2new")
    found = means(make_table(runs + beside(runs), "base2new"))
    assert found["average", "PromptKD w/ Spotlighter (published)"] == [85.65, 80.46, 82.89]
    base2new(tmp_path, "CoOp", "folder", 1, 80.0, 40.0)  # a twelfth set, of the user's own
    runs = read_runs(tmp_path, "base2new")
    table = make_table(runs + beside(runs), "base2new")
    assert ("average", "CoOp") in means(table) and ("average", "CoOp (published)") not in means(table)
    assert "No published figures: folder." in table.notes


# --- formats ---------------------------------------------------------------------------------------------------


@pytest.fixture
def two_methods(two_sets):
    for seed in (1, 2):
        for dataset in ("dtd", "caltech101"):
            base2new(two_sets, "CoOp_100%", dataset, seed, 60.0, 100 / 3, transductive=True)
    return two_sets


def test_markdown(two_methods):
    lines = FORMATS["markdown"](table_of(two_methods, "base2new")).splitlines()
    assert lines[0] == "**caltech101, 16 shots**" and lines[3] == "|---|---:|---:|---:|"
    assert "| CoOp/vit_b16 | **80.00** | **50.00** | **61.54** |" in lines
    assert "| CoOp/vit_b16 | **60.00** | 20.00 | 30.00 |" in lines  # equal, so both are best
    assert "| CoOp_100%/vit_b16 † | **60.00** | **33.33** | **42.86** |" in lines
    assert "- Mode: strict (last epoch, inductive): all other runs." in lines


def test_latex(two_methods):
    text = FORMATS["latex"](table_of(two_methods, "base2new"))
    assert text.count(r"\toprule") == text.count(r"\midrule") == text.count(r"\bottomrule") == 3
    assert text.count(r"\begin{tabular}[t]{lrrr}") == text.count(r"\end{tabular}") == 3
    assert r"CoOp\_100\%/vit\_b16 $^{\dagger}$ & 60.00 & 33.33 & 42.86 \\" in text
    assert r"CoOp/vit\_b16 & \textbf{80.00} & \textbf{50.00} & \textbf{61.54} \\" in text
    assert r"Mode: paper (transductive): CoOp\_100\%/vit\_b16.\par" in text


def test_csv_is_unrounded(two_methods):
    rows = list(csv.DictReader(FORMATS["csv"](table_of(two_methods, "base2new")).splitlines()))
    assert list(rows[0]) == ["dataset", "shots", "method", "transductive", "base", "new", "H", "seeds", "partial"]
    assert float(rows[1]["new"]) == 100 / 3 and rows[1]["seeds"] == "1 2" and rows[1]["transductive"] == "True"
