"""The page's data and its HTML: its figures are the tables', what files say is escaped, and it stays small."""

import json
import re
from html import unescape
from html.parser import HTMLParser

import pytest

from reports.confusion import matrix_of
from reports.formats import number
from reports.page import collect, duration, memory, printed_beside, render
from reports.protocols import PROTOCOLS
from reports.result import ResultError
from reports.runs import all_runs
from tests.reports.runs import CONFIG, SETTINGS, across, base2new, fewshot, results_of, table_of, write

NAMES = ["cat", "dog", "cow"]


def classes(*accuracies: float) -> dict:
    """The results of three classes with 100 images each, and what was answered in place of each."""
    return {
        "classwise": {
            name: {"total": 100, "correct": int(value), "accuracy": value}
            for name, value in zip(NAMES, accuracies, strict=True)
        },
        "confused": {name: f"{(label + 1) % 3}:{100 - int(accuracies[label])}" for label, name in enumerate(NAMES)},
        "identity": {"classes": NAMES},
    }


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


@pytest.fixture
def output(tmp_path):
    """Two protocols, two worlds, two seeds; a run that is missing, and one that failed."""
    for seed in (1, 2):
        for dataset in ("dtd", "embedded_small"):
            base2new(tmp_path, "ZeroshotCLIP", dataset, seed, 50.0, 55.0, **classes(40, 50, 60))
            base2new(
                tmp_path,
                "CoOp",
                dataset,
                seed,
                60.0 + seed,
                40.0,
                seconds=90.0,
                peak_memory_mib=2048.0,
                **classes(50, 60, 70),
            )
            host = {"config": {**CONFIG, "TRAINER": {"SPOTLIGHTER": {"HOST": "CoOp"}}}}
            base2new(tmp_path, "Spotlighter", dataset, seed, 70.0, 64.0 - seed, **classes(49 + seed, 80, 60), **host)
        fewshot(tmp_path, "CoOp", "dtd", 4, seed, 44.0 + seed)
    fewshot(tmp_path, "CoOp", "dtd", 8, 1, None, state="failed", why="OutOfMemory: <b>20 GiB</b>")
    across(tmp_path, "xd", "CoOp", "imagenet", "dtd", 1, 42.0)
    return tmp_path


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


def test_nothing_is_loaded(output):
    page = render(collect(output))
    links = re.findall(r'(?:src|href)="([^"]*)"', page.split("<script>")[0])
    assert links and all(link.startswith(("#", "data:")) for link in links)
    assert "url(" not in page and "@import" not in page
    assert (
        "default-src 'none'" in unescape(page) and "unsafe-eval" not in page and "script-src 'sha256-" in unescape(page)
    )


def test_runs(output):
    runs = {(run.method, run.phase, run.place.shots, run.dataset, run.place.seed): run for run in all_runs(output)}
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


@pytest.mark.parametrize("content", ["{", "[]", '{"state": 3}', '{"state": "finished", "config": 1, "settings": []}'])
def test_a_damaged_record_is_a_run_too(tmp_path, content):
    fewshot(tmp_path, "CoOp", "dtd", 4, 1, 50.0)
    folder = fewshot(tmp_path, "CoOp", "dtd", 4, 2, 50.0)
    (folder / "results.json").write_text(content)
    report = collect(tmp_path)
    assert not report.whole and len(report.runs) == 2 and report.runs[1].value("accuracy") is None
    assert "seed2" in render(report)


# --- classes -------------------------------------------------------------------------------------------------------


def test_gains_are_those_over_the_host(output):
    comparisons = collect(output).comparisons
    over = {(each.run.method, each.host, each.run.dataset, each.run.phase): each for each in comparisons}
    gain = over["Spotlighter/vit_b16", "CoOp/vit_b16", "dtd", "base2new_train"]
    assert [(each.name, each.host, each.method) for each in gain.classes] == [
        ("dog", 60, 80),
        ("cat", 50, 50.5),  # the mean of two seeds
        ("cow", 70, 60),
    ]
    assert gain.counts == (2, 0, 1) and gain.mean == pytest.approx(3.5) and gain.seeds == [1, 2]
    assert comparisons[0].run.method == "Spotlighter/vit_b16"
    assert ("CoOp/vit_b16", "ZeroshotCLIP/vit_b16", "dtd", "base2new_test") in over
    assert not any(each.run.place.method == "ZeroshotCLIP" for each in comparisons)


def test_best_and_worst_ten(tmp_path):
    for method, gain in (("ZeroshotCLIP", 0), ("CoOp", 1)):
        classwise = {f"c{n}": {"total": 100, "correct": 50, "accuracy": 50.0 + gain * (n - 15)} for n in range(30)}
        fewshot(tmp_path, method, "dtd", 4, 1, 50.0, classwise=classwise)
    (gains,) = collect(tmp_path).comparisons
    assert [each.gain for each in gains.best] == list(range(14, 4, -1))
    assert [each.gain for each in gains.worst] == list(range(-15, -5))


def test_a_matrix(output):
    report = collect(output)
    matrix = next(each for each in report.matrices if each["title"].startswith("CoOp/vit_b16, dtd, base to new: base"))
    assert matrix["classes"] == NAMES and matrix["left_out"] == 0
    assert matrix["rows"] == [[100, 50, 0, "1:50"], [100, 60, 0, "2:40"], [100, 70, 0, "0:30"]]


def test_a_matrix_of_many_classes_is_of_those_that_are_mistaken_most():
    names = [f"c{n}" for n in range(100)]
    record = {
        "identity": {"classes": names},
        "classwise": {name: {"total": 100, "correct": 100 - n} for n, name in enumerate(names)},
        "confused": {f"c{n}": f"0:{n - 1} 99:1" if n > 1 else f"{99}:{n}" for n in range(1, 99)} | {"c99": "98:99"},
    }
    matrix = matrix_of(record)
    assert matrix["classes"] == names[-24:] and matrix["left_out"] == 76
    assert matrix["rows"][-1] == [100, 1, 0, "22:99"] and matrix["rows"][0] == [100, 24, 75, "23:1"]


@pytest.mark.parametrize("confused", [None, 3, {"cat": "1:x"}, {"cat": "7:50"}, {"cat": "1:2"}, {"fox": "1:2"}])
def test_a_damaged_matrix_is_none(confused):
    assert matrix_of(classes(50, 60, 70) | {"confused": confused}) is None


# --- size, and what is refused -------------------------------------------------------------------------------------


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
