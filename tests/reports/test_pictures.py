"""Pictures of tables: what they show is read from the figures, and the files are written."""

import matplotlib
import pytest

from reports.pictures import STYLE, bars, curves, draw
from reports.result import ResultError
from tests.reports.runs import across, base2new, fewshot, table_of


@pytest.fixture
def few_shot_table(tmp_path):
    for dataset in ("dtd", "eurosat"):
        for seed in (1, 2):
            for shots in (1, 4):
                fewshot(tmp_path, "CoOp", dataset, shots, seed, 40.0 + shots + 2 * seed)
        fewshot(tmp_path, "ZeroshotCLIP", dataset, 1, 1, 40.0)
    return table_of(tmp_path, "fewshot")


def test_curves(few_shot_table):
    figure = curves(few_shot_table.blocks, "")
    panels = [panel for panel in figure.axes if panel.get_visible() and panel.axison]
    assert [panel.get_title() for panel in panels] == ["dtd", "eurosat", "average of 2 sets"]
    lines = {line.get_label(): line for line in panels[0].lines}
    assert lines["CoOp/vit_b16"].get_xydata().tolist() == [[1, 44], [4, 47]]
    star = lines["ZeroshotCLIP/vit_b16"]
    assert (star.get_marker(), star.get_linestyle(), star.get_xydata().tolist()) == ("*", "None", [[0, 40]])
    at = panels[0].transData.transform([(shots, 40) for shots in (1, 2, 4, 8)])[:, 0]
    assert at[1] - at[0] == pytest.approx(at[3] - at[2])  # doubling is one step
    (band,) = panels[0].collections
    assert sorted({y for _, y in band.get_paths()[0].vertices[:-1].tolist()}) == [43, 45, 46, 48]  # ± 1 over the seeds
    assert panels[0].get_ylabel() == "accuracy (%)" and panels[0].get_xlabel() == "training images a class"


def test_bars(tmp_path):
    for seed, base in ((1, 60.0), (2, 80.0)):
        base2new(tmp_path, "CoOp", "dtd", seed, base, 40.0)
        base2new(tmp_path, "CoOp", "eurosat", seed, 60.0, 60.0)
        base2new(tmp_path, "MaPLe", "dtd", seed, 70.0, 60.0)
    table = table_of(tmp_path, "base2new")
    figure = bars(table.blocks, "")
    (panel,) = figure.axes
    heights = sorted(round(bar.get_height(), 2) for bar in panel.patches)
    assert heights == [50.91, 56.52, 60.0, 64.62]  # of MaPLe neither eurosat nor the average is there
    assert panel.get_ylim()[0] == 40 and panel.get_ylim()[1] > max(heights)
    (legend,) = figure.legends
    caption = " ".join(legend.get_title().get_text().split())
    assert "standard deviation of H over seeds" in caption and "missing: not all seeds are there" in caption
    assert panel.get_ylabel() == "H (%)"
    assert figure.get_suptitle() == "The axis begins at 40, not at 0"
    assert figure.texts[0].get_fontsize() > 1.2 * STYLE["axes.titlesize"] and figure.texts[0].get_weight() == "bold"
    assert [text.get_text() for text in legend.get_texts()] == ["CoOp/vit_b16", "MaPLe/vit_b16"]


def test_bars_from_0_on_need_no_word(tmp_path):
    base2new(tmp_path, "CoOp", "dtd", 1, 12.0, 12.0)
    figure = bars(table_of(tmp_path, "base2new").blocks, "")
    assert figure.axes[0].get_ylim()[0] == 0 and figure.get_suptitle() == ""


def test_the_highest_bar_of_all_lines_is_whole(tmp_path):
    """The lines share their axis, which is not that of the first line."""
    for number in range(30):
        base2new(tmp_path, "CoOp", f"set{number}", 1, 60.0 + number, 60.0 + number)
    table = table_of(tmp_path, "base2new")
    panels = bars(table.blocks, "").axes
    assert len(panels) == 2 and {panel.get_ylim() for panel in panels} == {(50.0, 91.0)}
    assert "none, as there is one seed" in panels[0].figure.legends[0].get_title().get_text()


def test_files(few_shot_table, tmp_path):
    before = matplotlib.rcParams["font.size"]
    paths = draw(few_shot_table, tmp_path / "new" / "pictures")
    assert [path.name for path in paths] == ["fewshot.png", "fewshot.pdf"]
    assert paths[0].read_bytes()[:4] == b"\x89PNG" and paths[1].read_bytes()[:4] == b"%PDF"
    assert matplotlib.rcParams["font.size"] == before != STYLE["font.size"]
    (tmp_path / "file").write_text("")
    with pytest.raises(ResultError, match="is a file"):
        draw(few_shot_table, tmp_path / "file")


def test_tables_without_a_picture(tmp_path):
    across(tmp_path, "xd", "CoOp", "imagenet", "dtd", 1, 42.0)
    with pytest.raises(ResultError, match="no picture of xd"):
        draw(table_of(tmp_path, "xd"), tmp_path / "pictures")
