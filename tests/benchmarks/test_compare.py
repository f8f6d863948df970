"""The comparison's arithmetic against hand-made records, and one small run of it."""

import json
import math
import shlex

import pytest

from benchmarks import compare
from benchmarks.compare import BY_LABEL, ENTRIES, Comparison, rows_of, run_folder
from benchmarks.machine import RESULTS
from dassl.engine import TRAINER_REGISTRY
from tests.helpers import REPOSITORY, results


def write(output, label, set_name, seed, base, new, **more):
    """The two records of a row."""
    for half, accuracy in zip(BY_LABEL[label].halves, (base, new), strict=False):
        path = run_folder(output, half, BY_LABEL[label], set_name, seed)
        path.mkdir(parents=True)
        record = {"state": "finished", "accuracy": accuracy, "trainable_parameters": 512, "train_seconds": 2.0}
        (path / "results.json").write_text(json.dumps({**record, "test_images_per_second": 100.0, **more}))


def test_every_row_has_a_config_and_a_script():
    for entry in ENTRIES:
        assert entry.method in TRAINER_REGISTRY.registered_names()
        assert (REPOSITORY / f"configs/trainers/{entry.method}/{entry.config}.yaml").is_file()
        assert not entry.host or ENTRIES.index(BY_LABEL[entry.host]) < ENTRIES.index(entry)
        assert not entry.teacher or ENTRIES.index(BY_LABEL[entry.teacher]) < ENTRIES.index(entry)
    ours = {name for name in TRAINER_REGISTRY.registered_names() if TRAINER_REGISTRY.get(name).__module__.startswith("trainers.")}  # fmt: skip
    assert ours == {entry.method for entry in ENTRIES}


def table_of(output, labels, sets, seeds) -> Comparison:
    rows, missing = rows_of(output, [BY_LABEL[label] for label in labels], sets, seeds)
    return Comparison(rows, sets, seeds, missing)


def test_the_committed_table_is_what_its_figures_give():
    """To the byte, from the accuracies and medians in the committed JSON file."""
    written = (RESULTS / "compare.json").read_text()
    content = json.loads(written)
    comparison = Comparison(content["rows"], content["sets"], content["seeds"])
    assert comparison.whole == [entry.label for entry in ENTRIES if entry.label in content["rows"]]
    text = compare.markdown(comparison, content["command"], {"torch": "2.14.1+cu130"})
    assert text == (RESULTS / "compare.md").read_text(encoding="utf-8")
    assert json.dumps(compare.as_json(comparison, content["command"]), indent=4, separators=(",", ": ")) == written


def test_hosts_that_are_run():
    """All of a row's, but those whose row is there, unless the plug-in takes their run."""
    labels = lambda *asked, there=(): [entry.label for entry in compare.entries_of(list(asked), there)]  # noqa: E731
    assert labels("CoOp w/ DePT") == ["CoOp", "CoOp w/ DePT"]
    assert labels("CoOp w/ DePT", there=["CoOp", "MaPLe"]) == ["CoOp w/ DePT"]
    assert labels("CoOp w/ Spotlighter", there=["CoOp"]) == ["CoOp", "CoOp w/ Spotlighter"]
    assert labels("PromptKD w/ Spotlighter") == ["PromptSRC", "PromptKD", "PromptKD w/ Spotlighter"]


def test_means_and_gains(tmp_path):
    """Seeds and sets are averaged first, then H; gains are paired by seed, with Student's quantile for 1 degree."""
    for seed, (host, plugged) in {1: (50, 60), 2: (60, 66)}.items():
        write(tmp_path, "CoOp", "shapes", seed, host, host)
        write(tmp_path, "CoOp w/ Spotlighter", "shapes", seed, plugged + 10, plugged - 10)
    table = table_of(tmp_path, ["CoOp", "CoOp w/ Spotlighter"], ["shapes"], [1, 2])
    assert table.missing == [] and table.whole == ["CoOp", "CoOp w/ Spotlighter"]
    h = lambda base, new: 2 * base * new / (base + new)  # noqa: E731
    assert table.mean("CoOp w/ Spotlighter", ["shapes"]) == pytest.approx((73, 53, h(73, 53)))
    first, second = h(70, 50) - 50, h(76, 56) - 60
    mean, half = table.gain("CoOp w/ Spotlighter", "CoOp")
    assert mean == pytest.approx((first + second) / 2)
    assert half == pytest.approx(12.706 * abs(first - second) / math.sqrt(2) / math.sqrt(2), rel=1e-4)


def test_a_row_with_a_run_missing_is_named_and_left_out(tmp_path):
    write(tmp_path, "CoOp", "shapes", 1, 70, 60)
    write(tmp_path, "CoOp", "shapes", 2, 70, 60, state="failed")
    write(tmp_path, "PromptKD", "shapes", 1, 80, 70, transductive=True)
    write(tmp_path, "PromptKD", "shapes", 2, 80, 70, transductive=True)
    table = table_of(tmp_path, ["CoOp", "PromptKD"], ["shapes"], [1, 2])
    text = compare.markdown(table, "the command", {"torch": "2"})
    assert "| PromptKD † | 80.0 | 70.0 | **74.7** |" in text and "| CoOp |" not in text
    assert "CoOp on shapes, seed 2" in text and "the command" in text and "test bed" in text


def test_a_row_without_new_classes_has_dashes(tmp_path, monkeypatch):
    """Of what learns something for each class; the run of the new half is not asked for."""
    of_classes = lambda method, options=(): method.name if method.name == "VPT" else ""  # noqa: E731
    monkeypatch.setattr(compare, "what_is_of_classes", of_classes)
    for name, more in (("shapes", 0), ("small", 10)):
        write(tmp_path, "VPT, deep", name, 1, 70 + more, 60)
        write(tmp_path, compare.REFERENCE, name, 1, 50, 50)
    table = table_of(tmp_path, [compare.REFERENCE, "VPT, deep"], ["shapes", "small"], [1])
    assert table.mean("VPT, deep", table.sets) == (75, None, None) and table.missing == []
    assert not run_folder(tmp_path, "new", BY_LABEL["VPT, deep"], "shapes", 1).exists()
    text = compare.markdown(table, "the command", {"torch": "2"})
    assert "| VPT, deep | 75.0 | – | – |  |  | 512 |" in text and "| VPT, deep | 70.0/– | 80.0/– |" in text
    assert "–: learns something for each class" in text
    assert compare.as_json(table, "the command")["rows"]["VPT, deep"]["accuracies"] == {"shapes/1": [70, None], "small/1": [80, None]}  # fmt: skip


def test_a_small_run_goes_on_where_it_stopped(root, tmp_path, capsys):
    argv = ["--root", root, "--output", tmp_path / "runs", "--out", tmp_path, "--name", "small", "--sets", "species"]
    argv = [str(part) for part in [*argv, "--seeds", 1, "--workers", 1, "--methods", "zero-shot CLIP"]]
    assert compare.main(argv) == 0
    run = run_folder(tmp_path / "runs", "base", BY_LABEL["zero-shot CLIP"], "species", 1)
    record = results(run)
    assert record["accuracy"] is not None and record["test_images_per_second"] > 0 and record["train_seconds"] is None
    before = (run / "results.json").stat().st_mtime_ns
    assert compare.main(argv) == 0
    assert (run / "results.json").stat().st_mtime_ns == before
    assert f"{record['accuracy']:.1f}" in (tmp_path / "small.md").read_text()
    content = json.loads((tmp_path / "small.json").read_text())
    assert content["rows"]["zero-shot CLIP"]["accuracies"]["species/1"][0] == record["accuracy"]
    more = [*argv[:-1], "zero-shot CLIP, 8 templates", "--add"]
    assert compare.main(more) == 0
    added = json.loads((tmp_path / "small.json").read_text())
    assert list(added["rows"]) == ["zero-shot CLIP", "zero-shot CLIP, 8 templates"]
    assert (
        added["rows"]["zero-shot CLIP"] == content["rows"]["zero-shot CLIP"] and added["command"] == content["command"]
    )
    assert added["rows"]["zero-shot CLIP, 8 templates"]["command"] == shlex.join(
        ["python", "-m", "benchmarks.compare", *more]
    )
    assert (
        f"Added by `{added['rows']['zero-shot CLIP, 8 templates']['command']}`" in (tmp_path / "small.md").read_text()
    )
    capsys.readouterr()


@pytest.mark.parametrize(
    "options, what",
    [
        ([], "name those that are, with --methods"),
        (["--methods", "CoOp"], "none.json to add to: leave out --add"),
        (["--methods", "CoOp", "--name", "other"], "other.json is of the sets shapes and the seeds 1, 2: "),
    ],
)
def test_what_cannot_be_added_to(options, what, root, tmp_path, capsys):
    """Said before anything is run, and the table stays as it is."""
    (tmp_path / "other.json").write_text('{"sets": ["shapes"], "seeds": [1, 2], "rows": {}, "command": ""}')
    argv = ["--root", str(root), "--sets", "species", "--out", str(tmp_path), "--name", "none", "--add", *options]
    assert compare.main(argv) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and what in error and error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["other.json"]


@pytest.mark.parametrize(
    "rows, sets, seeds, what",
    [
        (["CoOp", "zero-shot CLIP"], ["species"], [1], "1 rows that this run would lose, such as CoOp: "),
        (["zero-shot CLIP"], ["species", "shapes"], [1], "1 sets that this run would lose, such as shapes: "),
        (["zero-shot CLIP"], ["species"], [1, 2, 3], "2 seeds that this run would lose, such as 2: "),
    ],
)
def test_a_larger_table_is_not_written_over(rows, sets, seeds, what, root, tmp_path, capsys):
    """Said before anything is run, and the table stays as it is."""
    there = json.dumps({"sets": sets, "seeds": seeds, "rows": {row: {} for row in rows}, "command": ""})
    (tmp_path / "compare.json").write_text(there)
    argv = [
        "--root",
        str(root),
        "--sets",
        "species",
        "--seeds",
        "1",
        "--methods",
        "zero-shot CLIP",
        "--out",
        str(tmp_path),
    ]
    assert compare.main([*argv, "--output", str(tmp_path / "runs")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and what in error and "--name" in error and error.count("\n") == 1
    assert (tmp_path / "compare.json").read_text() == there and len(list(tmp_path.iterdir())) == 1


def test_a_failed_run_is_named(root, tmp_path, capsys):
    split = next(root.glob("embedded_species/split*.json"))
    whole = split.read_text()
    try:
        split.write_text(whole[:100])
        argv = ["--root", root, "--output", tmp_path / "runs", "--out", tmp_path, "--sets", "species", "--seeds", 1]
        argv += ["--workers", 1, "--methods", "zero-shot CLIP"]
        assert compare.main([str(part) for part in argv]) == 1
    finally:
        split.write_text(whole)
    said = capsys.readouterr()
    assert "error: zero-shot CLIP on species, seed 1, base classes: " in said.err and "Traceback" not in said.err


@pytest.mark.parametrize("options, what", [(["--methods", "CoOps"], "'CoOps' is no row"), (["--root", "nowhere"], "nowhere has no embedded_")])  # fmt: skip
def test_what_does_not_exist(root, options, what, capsys):
    assert compare.main(["--root", str(root), "--sets", "species", *options]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and what in error and error.count("\n") == 1
