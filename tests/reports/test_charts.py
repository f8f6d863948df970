"""The geometry of the page's charts: lengths and places follow the figures."""

import pytest

from reports.charts import BOTTOM, HEIGHT, TOP, panels
from tests.reports.runs import across, base2new, fewshot, table_of


def test_bars_are_the_table_s_last_column(tmp_path):
    for seed, new in ((1, 40.0), (2, 60.0)):
        base2new(tmp_path, "CoOp", "dtd", seed, 60.0, new)
    base2new(tmp_path, "MaPLe", "dtd", 1, 70.0, 60.0)  # seed 2 is missing
    table = table_of(tmp_path, "base2new")
    (panel,) = panels(table)
    (bar,) = panel.marks
    assert bar.mean == table.blocks[0].rows[0].cells[-1].mean == pytest.approx(2 * 60 * 50 / 110)
    assert bar.spread == pytest.approx((60 - 48) / 2) and bar.whole  # H of the seeds: 48 and 60
    assert panel.methods == {"CoOp/vit_b16": 0}


def test_curves(tmp_path):
    for shots in (1, 2, 4, 16):
        for seed in (1, 2):
            fewshot(tmp_path, "CoOp", "dtd", shots, seed, 40.0 + shots + 2 * seed)
    fewshot(tmp_path, "ZeroshotCLIP", "dtd", 1, 1, 41.0)
    (panel,) = panels(table_of(tmp_path, "fewshot"))
    ticks = {text: x for x, text in panel.x_ticks}
    assert list(ticks) == ["0", "1", "2", "4", "16"]
    assert (
        ticks["2"] - ticks["1"]
        == pytest.approx(ticks["4"] - ticks["2"])
        == pytest.approx((ticks["16"] - ticks["4"]) / 2)
    )
    line = panel.line("CoOp/vit_b16")
    assert [(mark.column, mark.mean, mark.spread) for mark in line] == [
        ("1", 44, 1), ("2", 45, 1), ("4", 47, 1), ("16", 59, 1)
    ]  # fmt: skip
    height = {text: y for y, text in panel.y_ticks}  # what lies between two lines of the grid is drawn between them
    assert height["35"] == HEIGHT - BOTTOM and height["65"] == TOP
    per_point = (height["35"] - height["65"]) / 30
    for mark in line:
        assert mark.y == pytest.approx(height["35"] - per_point * (mark.mean - 35))
        assert mark.low - mark.high == pytest.approx(2 * per_point)
    (star,) = panel.line("ZeroshotCLIP/vit_b16")
    assert star.x == ticks["0"] and star.spread is None


@pytest.mark.parametrize("accuracy", [0.0, 50.0, 100.0])
def test_a_single_point_has_its_place(tmp_path, accuracy):
    fewshot(tmp_path, "CoOp", "dtd", 1, 1, accuracy)
    (panel,) = panels(table_of(tmp_path, "fewshot"))
    assert TOP <= panel.marks[0].y <= HEIGHT - BOTTOM and len(panel.y_ticks) > 1


def test_tables_without_a_picture_have_no_chart(tmp_path):
    across(tmp_path, "xd", "CoOp", "imagenet", "dtd", 1, 42.0)
    assert panels(table_of(tmp_path, "xd")) == []
