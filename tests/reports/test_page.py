"""The page's data and its HTML: its figures are the tables', what files say is escaped, and it stays small."""

import json
import re
from html import unescape
from html.parser import HTMLParser

import pytest

from reports.formats import number
from reports.page import collect, printed_beside, render
from reports.protocols import PROTOCOLS
from reports.result import ResultError
from tests.reports.runs import SETTINGS, base2new, fewshot, results_of, table_of, write


class Cells(HTMLParser):
    """(table's caption, method of the row, texts of its cells) of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.rows: list[tuple[str, list[str]]] = []
        self.caption, self.inside = "", ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        if tag in ("caption", "td", "th"):
            self.inside, self.text = tag, ""
        elif tag == "tr":
            self.cells: list[str] = []
        elif tag == "small":
            self.inside = ""

    def handle_data(self, data):
        if self.inside:
            self.text += data

    def handle_endtag(self, tag):
        if tag == "caption":
            self.caption, self.inside = " ".join(self.text.split()), ""
        elif tag in ("td", "th"):
            self.cells.append(self.text.strip())
            self.inside = ""
        elif tag == "tr":
            self.rows.append((self.caption, self.cells))


def figures(table) -> set:
    return {
        (row.label, tuple(number(cell).replace("-", "–") for cell in row.cells))
        for block in table.blocks
        for row in block.rows
    }


def test_the_figures_are_those_of_the_tables(output):
    report = collect(output)
    shown = Cells(render(report)).rows
    for name, start in (("base2new", "From base to new"), ("fewshot", "Few-shot"), ("xd", "Cross-dataset")):
        printed = printed_beside(results_of(output, name), PROTOCOLS[name], "accuracy")
        section = next(each for each in report.sections if each.name == name)
        assert figures(section.table) >= figures(table_of(output, name)) - {("", ())}
        assert bool(printed) == (name == "base2new")
        rows = {
            (cells[1].replace(cells[0], "", 1).strip(), tuple(cell.replace("missing", "") for cell in cells[2:]))
            for caption, cells in shown
            if caption.startswith(start) and cells[1:2] != ["method"]
        }
        assert rows == figures(section.table)


def test_published_rows_stand_beside_benchmarks_alone(output):
    report = collect(output)
    real, embedded = report.sections[0].parts
    assert (real.world, embedded.world) == ("", "embedded")
    beside = {row.method for block in real.blocks for row in block.rows} & report.sections[0].published
    assert len(beside) > 5
    assert not {row.method for block in embedded.blocks for row in block.rows} & report.sections[0].published
    assert not collect(output, "macro_f1").sections[0].published


def test_what_files_say_is_escaped(tmp_path):
    bad = "<script>alert(1)</script>"
    more = {
        "classwise": {f"</script>{bad}": {"total": 2, "correct": 1, "accuracy": 50.0}},
        "confused": {f"</script>{bad}": "0:1"},
        "identity": {"classes": [f"</script>{bad}"]},
        "settings": {**SETTINGS, "changed": [f"OPTIM.LR {bad} in place of 1"]},
        "backbone": bad,
    }
    base2new(tmp_path, "ZeroshotCLIP", "dtd", 1, 50.0, 50.0, **more)
    base2new(tmp_path, "<img src=x onerror=alert(1)>", "dtd", 1, 50.0, 50.0, **more)
    fewshot(tmp_path, "CoOp", '"><b>', 4, 1, None, state="failed", why=bad)
    report = collect(tmp_path)
    assert report.matrices and report.comparisons
    page = render(report)
    assert "<script>alert" not in page and "<img src=x" not in page and '"><b>' not in page
    assert page.count("<script") == 2 and "&lt;script&gt;alert(1)" in page
    told = re.search(r'id="matrices">(.*?)</script>', page, flags=re.DOTALL)[1]
    assert json.loads(told)[0]["classes"] == [f"</script>{bad}"]


def test_names_that_would_turn_a_line_round(tmp_path):
    """Of right to left no word is changed, but what forces a direction on those behind it."""
    base2new(tmp_path, "\u202eCoOp", "dtd", 1, 50.0, 50.0)
    fewshot(tmp_path, "KgCoOp", "dtd", 4, 1, None, state="failed", why="\u2067why \u05d0")
    page = render(collect(tmp_path))
    assert not re.search("[\u202a-\u202e\u2066-\u2069]", page)
    assert "\N{REPLACEMENT CHARACTER}CoOp" in page and "why \u05d0" in page


def test_nothing_is_loaded(output):
    page = render(collect(output))
    links = re.findall(r'(?:src|href)="([^"]*)"', page.split("<script>")[0])
    assert links and all(link.startswith(("#", "data:")) for link in links)
    assert "url(" not in page and "@import" not in page
    assert (
        "default-src 'none'" in unescape(page) and "unsafe-eval" not in page and "script-src 'sha256-" in unescape(page)
    )


@pytest.mark.parametrize("content", ["{", "[]", '{"state": 3}', '{"state": "finished", "config": 1, "settings": []}'])
def test_a_damaged_record_is_a_run_too(tmp_path, content):
    fewshot(tmp_path, "CoOp", "dtd", 4, 1, 50.0)
    folder = fewshot(tmp_path, "CoOp", "dtd", 4, 2, 50.0)
    (folder / "results.json").write_text(content)
    report = collect(tmp_path)
    assert not report.whole and [run.place.seed for run in report.runs if run.value("accuracy") is None] == [2]
    assert "seed2" in render(report)


def test_two_hundred_runs_stay_small(tmp_path):
    """Of hundreds of classes, of which many are mistaken: the page shows as much of a thousand."""
    names = [f"a class with a longish name, number {n}" for n in range(300)]
    big = {
        "classwise": {name: {"total": 50, "correct": 40, "accuracy": 80.0} for name in names},
        "confused": {name: " ".join(f"{(n + 7 * k) % 300}:1" for k in range(1, 11)) for n, name in enumerate(names)},
        "identity": {"classes": names},
    }
    record = json.loads((write(tmp_path / "one", 80.0, subsample="all", **big) / "results.json").read_text())
    folders = [
        tmp_path / "fewshot" / dataset / f"shots_{shots}" / method / "vit_b16" / f"seed{seed}"
        for dataset in ("imagenet", "sun397", "dtd", "food101")
        for method in ("ZeroshotCLIP", "CoOp", "MaPLe", "KgCoOp", "VPT")
        for shots in (1, 16)
        for seed in range(1, 6)
    ]
    for folder in folders:
        folder.mkdir(parents=True)
        text = json.dumps(record | {"seed": int(folder.name[4:])})
        (folder / "results.json").write_text(text)
    report = collect(tmp_path)
    assert len(report.runs) == len(report.matrices) == 200 and report.comparisons
    assert len(render(report).encode()) < 3e6


def test_what_holds_no_runs_is_refused(tmp_path):
    with pytest.raises(ResultError, match="not a folder that exists"):
        collect(tmp_path / "nowhere")
    with pytest.raises(ResultError, match="no runs of any table"):
        collect(tmp_path)


def test_seeds_that_one_protocol_lacks(output):
    """They are said, and the others have their tables."""
    report = collect(output, seeds=[2])
    assert [section.name for section in report.sections] == ["base2new", "fewshot"]
    assert "Cross-dataset: No run is of the seeds 2" in report.problems[0] and not report.whole
