"""The few-shot curves' arithmetic against hand-made records, and one small run of them."""

import json

import pytest

from benchmarks import few_shot
from benchmarks.compare import BY_LABEL, REFERENCE
from benchmarks.machine import RESULTS
from tests.helpers import results

OURS = "zero-shot CLIP w/ Spotlighter"


def args_of(tmp_path, *more):
    line = ["--sets", "shapes", "scenes", "--seeds", 1, 2, "--shots", 1, 4, "--output", tmp_path / "runs", *more]
    return few_shot.parse_arguments([str(part) for part in line])


def write(args, label, name, shots, seed, accuracy, state="finished", trained=21):
    folder = few_shot.run_of("", args.output, BY_LABEL[label], name, shots, seed).folder
    folder.mkdir(parents=True)
    record = {"state": state, "accuracy": accuracy, "trainable_parameters": trained}
    (folder / "results.json").write_text(json.dumps(record))


def test_means_over_sets_and_seeds(tmp_path):
    """Zero-shot CLIP has one run a set, and stands at 0; a row with a run missing is left out."""
    args = args_of(tmp_path, "--methods", OURS, "CoOp")
    for name, shift in (("shapes", 5), ("scenes", -5)):
        write(args, REFERENCE, name, 1, 1, 50 + shift, trained=0)
        for shots, seed, accuracy in ((1, 1, 60), (1, 2, 62), (4, 1, 70), (4, 2, 73)):
            write(args, OURS, name, shots, seed, accuracy + shift)
            state = "failed" if (name, shots, seed) == ("scenes", 4, 2) else "finished"
            write(args, "CoOp", name, shots, seed, accuracy, state, trained=512)
    rows = few_shot.results_of(args)
    assert rows.keys() == {REFERENCE, OURS} and rows[REFERENCE]["accuracies"] == {"shapes/1/1": 55, "scenes/1/1": 45}
    text = few_shot.markdown(
        {"shots": [1, 4], "rows": rows, "train_cpu_seconds": {OURS: {"1": 0.24, "4": 1.26}}}
    ).splitlines()
    assert f"| {REFERENCE} | 0 | 50.0 | | |" in text
    assert f"| {OURS} | 21 | | 61.0 | 71.5 |" in text
    assert f"| {OURS} | 0.2 | 1.3 |" in text


def test_a_small_run_goes_on_where_it_stopped(root, tmp_path, capsys):
    line = ["--root", root, "--sets", "species", "--seeds", 1, "--shots", 1, 2, "--methods", OURS, "--workers", 1]
    line = [str(part) for part in (*line, "--turns", 1, "--output", tmp_path / "runs", "--out", tmp_path / "out.json")]
    assert few_shot.main(line) == 0
    content, out = json.loads((tmp_path / "out.json").read_text()), capsys.readouterr().out
    runs = [few_shot.run_of("", tmp_path / "runs", BY_LABEL[OURS], "species", shots, 1).folder for shots in (1, 2)]
    assert list(content["rows"][OURS]["accuracies"].values()) == [results(run)["accuracy"] for run in runs]
    assert content["rows"][OURS]["trained"] == [21] and content["rows"][REFERENCE]["trained"] == [0]
    assert min(content["train_cpu_seconds"][OURS].values()) > 0
    assert few_shot.markdown(content) in out
    for path in (tmp_path / "runs/pictures/fewshot_embedded.png", tmp_path / "runs/pictures/fewshot_embedded.pdf"):
        assert f"Picture: {path}" in out and path.stat().st_size > 0
    before = [(run / "results.json").stat().st_mtime_ns for run in runs]
    assert few_shot.main(line) == 0
    assert [(run / "results.json").stat().st_mtime_ns for run in runs] == before
    capsys.readouterr()


@pytest.mark.parametrize("row", ["CoOps", REFERENCE, "PromptKD"])
def test_what_is_no_row(root, row, capsys):
    assert few_shot.main(["--root", str(root), "--sets", "species", "--methods", row]) == 2
    assert f"{row!r} is no row of few-shot curves" in capsys.readouterr().err


def test_the_committed_figures_are_those_of_the_readme():
    content = json.loads((RESULTS / "few_shot.json").read_text())
    assert {REFERENCE, *few_shot.ROWS} == content["rows"].keys()
    page = (RESULTS.parent / "README.md").read_text(encoding="utf-8")
    assert few_shot.markdown(content) in page and content["command"] in page
