"""A table as text, markdown, LaTeX and CSV."""

import csv

import pytest

from reports.formats import as_csv, as_latex, as_markdown, as_text
from tests.reports.runs import base2new, fewshot, table_of, write


@pytest.fixture
def two_methods(two_sets):
    for seed in (1, 2):
        for dataset in ("dtd", "caltech101"):
            base2new(two_sets, "CoOp_100%", dataset, seed, 60.0, 100 / 3, transductive=True)
    return two_sets


def unspaced(text: str) -> list[str]:
    """Lines without the spaces that align their columns."""
    return [" ".join(line.split()) for line in text.splitlines()]


QUICKSTART = """
embedded_species, 16 shots
  method                           base     new       H
  ZeroshotCLIP/embedded           77.33   79.42   78.36
  CoOp/embedded                   91.08   82.42   86.53
  Spotlighter/embedded            91.58   90.25   90.91
  Spotlighter/embedded_zeroshot   89.75   91.50   90.62

Mode: strict (last epoch, inductive).
1 seed (1), averaged first; H is that of the mean base and the mean new, in the average too.
Backbone: ViT-Embedded/8.
Embedded world: a test bed, no benchmark; its figures are never set beside published ones.
"""


def test_text_is_that_of_the_quickstart(tmp_path):
    figures = {
        "ZeroshotCLIP/embedded": (77.33, 79.42), "CoOp/embedded": (91.08, 82.42),
        "Spotlighter/embedded": (91.58, 90.25), "Spotlighter/embedded_zeroshot": (89.75, 91.50),
    }  # fmt: skip
    for method, accuracies in figures.items():
        for folder, accuracy in zip(("train_base", "test_new"), accuracies, strict=True):
            run = tmp_path / "base2new" / folder / "embedded_species/shots_16" / method / "seed1"
            write(run, accuracy, backbone="ViT-Embedded/8")
    assert as_text(table_of(tmp_path, "base2new")) == QUICKSTART.strip()


def test_text_of_a_zero_shot_row_over_shots(tmp_path):
    """What does not belong there is blank; what is missing is a dash."""
    for seed in (1, 2):
        fewshot(tmp_path, "CoOp", "dtd", 1, seed, 50.0)
    fewshot(tmp_path, "CoOp", "dtd", 2, 1, 60.0)
    fewshot(tmp_path, "ZeroshotCLIP", "dtd", 1, 1, 44.0)
    lines = as_text(table_of(tmp_path, "fewshot")).splitlines()
    assert lines[1:4] == [
        "  method                     0       1   2",
        "  ZeroshotCLIP/vit_b16   44.00",
        "  CoOp/vit_b16                   50.00   -",
    ]


def test_markdown(two_methods):
    lines = unspaced(as_markdown(table_of(two_methods, "base2new")))
    assert lines[0] == "**caltech101, 16 shots**"
    assert set(lines[3]) == set("|:-") and [cell[-1] for cell in lines[3].strip("|").split("|")] == ["-", ":", ":", ":"]
    assert "| CoOp/vit_b16 | **80.00** | **50.00** | **61.54** |" in lines
    assert "| CoOp/vit_b16 | **60.00** | 20.00 | 30.00 |" in lines  # equal, so both are best
    assert "| CoOp_100%/vit_b16 † | **60.00** | **33.33** | **42.86** |" in lines
    assert "- Mode: strict (last epoch, inductive): all other runs." in lines


def test_latex(two_methods):
    text = "\n".join(unspaced(as_latex(table_of(two_methods, "base2new"))))
    assert text.count(r"\toprule") == text.count(r"\midrule") == text.count(r"\bottomrule") == 3
    assert text.count(r"\begin{tabular}[t]{lrrr}") == text.count(r"\end{tabular}") == 3
    assert r"CoOp\_100\%/vit\_b16 $^{\dagger}$ & 60.00 & 33.33 & 42.86 \\" in text
    assert r"CoOp/vit\_b16 & \textbf{80.00} & \textbf{50.00} & \textbf{61.54} \\" in text
    assert r"Mode: paper (transductive): CoOp\_100\%/vit\_b16.\par" in text


def test_csv_is_unrounded(two_methods):
    rows = list(csv.DictReader(as_csv(table_of(two_methods, "base2new")).splitlines()))
    assert list(rows[0]) == ["dataset", "shots", "method", "transductive", "base", "new", "H", "seeds", "partial"]
    assert float(rows[1]["new"]) == 100 / 3 and rows[1]["seeds"] == "1 2" and rows[1]["transductive"] == "True"
