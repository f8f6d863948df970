"""The command: CoOp's options, and tables with their exit codes."""

import json

import pytest

import parse_test_res as parse
from tests.helpers import loaded_after
from tests.reports.runs import base2new

UPSTREAM_LOG = """epoch [50/50] batch [5/5] time 0.1 (0.1) loss 0.5 (0.6) lr 1.0e-05 eta 0:00:00
=> result
* accuracy: 11.1%
{signal}
Deploy the last-epoch model
Evaluate on the *test* set
=> result
* total: 2,465
* correct: 2,300
* accuracy: {accuracy}%
* error: 6.7%
* macro_f1: 90.1%
Elapsed: 0:00:03
"""


def write_run(folder, accuracy=None, state="finished", log=None, **extra):
    folder.mkdir(parents=True)
    if log is not None:
        (folder / "log.txt").write_text(log)
    else:
        (folder / "results.json").write_text(
            json.dumps({"state": state, "accuracy": accuracy, "macro_f1": 50.0, **extra})
        )


@pytest.mark.parametrize("signal", ["Finish training", "Finished training"])
def test_log_after_training(tmp_path, signal):
    write_run(tmp_path / "seed1", log=UPSTREAM_LOG.format(signal=signal, accuracy=93.3))
    assert parse.read_run(tmp_path / "seed1") == 93.3
    assert parse.read_run(tmp_path / "seed1", "macro_f1") == 90.1


def test_log_that_never_finished_training_has_no_result(tmp_path):
    write_run(tmp_path / "seed1", log=UPSTREAM_LOG.format(signal="still going", accuracy=93.3))
    with pytest.raises(parse.ResultError, match="broke off"):
        parse.read_run(tmp_path / "seed1")
    assert parse.read_run(tmp_path / "seed1", test_log=True) == 93.3  # as a test log it has one


def test_mean_and_spread(tmp_path, capsys):
    for seed, accuracy in ((1, 90.0), (2, 92.0), (10, 94.0)):
        write_run(tmp_path / f"seed{seed}", accuracy)
    assert parse.main([str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "* accuracy: 92.00% +- 1.63%" in out  # population deviation, as CoOp's script
    assert out.index("seed2") < out.index("seed10")
    assert parse.main([str(tmp_path), "--ci95"]) == 0
    assert "* accuracy: 92.00% +- 1.85%" in capsys.readouterr().out  # 1.96 * 1.63 / sqrt(3)


def test_several_experiments(tmp_path, capsys):
    write_run(tmp_path / "a" / "seed1", 80.0)
    write_run(tmp_path / "b" / "seed1", 90.0)
    assert parse.main([str(tmp_path), "--multi-exp"]) == 0
    assert capsys.readouterr().out.endswith("Average performance\n* accuracy: 85.00%\n")


def test_a_folder_that_is_called_as_a_protocol(tmp_path):
    write_run(tmp_path / "xd" / "seed1", 80.0)
    assert parse.main([str(tmp_path / "xd")]) == 0


@pytest.mark.parametrize("state", ["running", "failed"])
def test_a_broken_run_is_named(tmp_path, capsys, state):
    write_run(tmp_path / "seed1", 80.0)
    write_run(tmp_path / "seed2", 10.0, state=state, why="out of memory")
    assert parse.main([str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert "seed2 did not finish" in err and "out of memory" in err and err.count("\n") == 1


def test_logs_and_records_side_by_side(tmp_path, capsys):
    write_run(tmp_path / "seed1", log="=> result\n* accuracy: 90.0%\n")
    write_run(tmp_path / "seed2", 91.0)
    assert parse.main([str(tmp_path), "--test-log"]) == 0
    assert "* accuracy: 90.50% +- 0.50%" in capsys.readouterr().out


# --- tables: the arithmetic and the formats have tests of their own, tests/reports/ -------------------------


@pytest.fixture
def runs(tmp_path):
    for seed in (1, 2):
        for method, dataset in (("CoOp", "dtd"), ("CoOp", "eurosat"), ("MaPLe", "dtd"), ("MaPLe", "eurosat")):
            base2new(tmp_path, method, dataset, seed, 60.0 + 10 * seed, 40.0)
    return tmp_path


def test_a_table(runs, capsys):
    assert parse.main([str(runs), "--table", "base2new"]) == 0
    out, err = capsys.readouterr()
    rows = [line.split() for line in out.splitlines()]
    assert rows.count(["CoOp/vit_b16", "75.00", "40.00", "52.17"]) == 3 and not err  # two sets and their average
    assert rows[0] == ["dtd,", "16", "shots"] and "2 seeds (1, 2), averaged first" in out


def test_a_table_of_a_half_done_sweep(runs, capsys):
    """Exit code 1, and the rest of the table stands."""
    record = runs / "base2new/test_new/dtd/shots_16/MaPLe/vit_b16/seed2/results.json"
    record.write_text("{")
    assert parse.main([str(runs), "--table", "base2new"]) == 1
    out, err = capsys.readouterr()
    rows = [line.split() for line in out.splitlines()]
    assert ["MaPLe/vit_b16", "75.00", "-", "-"] in rows and ["CoOp/vit_b16", "75.00", "40.00", "52.17"] in rows
    assert f"{record} is not JSON" in out and "not whole" in err
    assert parse.main([str(runs), "--table", "base2new", "--partial"]) == 1
    assert "70.00*  40.00*  50.91*" in capsys.readouterr().out


def test_pictures_beside_a_table(runs, tmp_path, capsys):
    assert parse.main([str(runs), "--table", "base2new", "--plot", str(tmp_path / "pictures")]) == 0
    assert "base2new_16shots.pdf" in capsys.readouterr().err
    assert len(list((tmp_path / "pictures").iterdir())) == 2


@pytest.mark.parametrize(
    ("folder", "options", "said"),
    [
        ("nowhere", [], "not a folder"),
        ("nowhere", ["--table", "base2new"], "not a folder that exists"),
        ("file", ["--table", "base2new"], "is a file"),
        ("empty", ["--table", "dg"], "holds no runs of any table"),
        (".", ["--table", "fewshot"], "it holds those of --table base2new"),
        (".", ["--table", "base2new", "--seeds", "7"], "No run is of the seeds 7"),
        (".", ["--table", "base2new", "--keyword", "error"], "better when higher"),
        (".", ["--table", "base2new", "--keyword", "macro_f1", "--against", "published"], "--against goes with"),
        (".", ["--table", "base2new", "--plot", "{root}/file"], "is a file"),
        (".", ["--partial"], "go with --table"),
        (".", [], "add --table base2new, or pass the folder that holds the seeds of one"),
        ("base2new", ["--multi-exp"], "add --table base2new"),
        ("embedded", ["--table", "base2new", "--against", "published"], "test bed"),
        ("nowhere", ["--report", "{root}/page.html"], "not a folder that exists"),
        ("empty", ["--report", "{root}/page.html"], "holds no runs of any table"),
        (".", ["--report", "{root}/empty"], "is a folder"),
        (".", ["--report", "{root}/file/page.html"], "is a file"),
        (".", ["--report", "{root}/page.html", "--table", "base2new"], "--report shows all tables"),
        (".", ["--report", "{root}/page.html", "--seeds", "7"], "No run is of the seeds 7"),
        (".", ["--report", "{root}/page.html", "--keyword", "error"], "better when higher"),
        (".", ["--report", "{root}/page.html", "--pictures", "-1"], "no number of pictures"),
        (".", ["--pictures", "2"], "goes with --report"),
    ],
)
def test_bad_input_is_one_sentence(runs, capsys, folder, options, said):
    (runs / "file").write_text("")
    (runs / "empty").mkdir()
    base2new(runs / "embedded", "CoOp", "embedded_shapes", 1, 60.0, 40.0)
    assert parse.main([str(runs / folder), *(option.format(root=runs) for option in options)]) == 2
    err = capsys.readouterr().err
    assert said in err and err.startswith("error: ") and err.count("\n") == 1
    assert not (runs / "page.html").exists()


# --- the page: what is on it has tests of its own, tests/reports/test_page.py -----------------------------------


def test_a_page(runs, capsys):
    page = runs / "new" / "page.html"
    assert parse.main([str(runs), "--report", str(page)]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"{page}: 16 runs") and not err
    assert "<!doctype html>" in page.read_text()[:20] and page.read_text().rstrip().endswith("</html>")
    assert [path.name for path in page.parent.iterdir()] == ["page.html"]


def test_a_page_of_a_half_done_sweep(runs, capsys):
    (runs / "base2new/test_new/dtd/shots_16/MaPLe/vit_b16/seed2/results.json").write_text("{")
    assert parse.main([str(runs), "--report", str(runs / "page.html")]) == 1
    assert "not whole" in capsys.readouterr().err and (runs / "page.html").is_file()


def test_a_page_needs_no_pytorch(runs):
    code = f"import parse_test_res; assert not parse_test_res.main([{str(runs)!r}, '--report', {str(runs / 'page.html')!r}])"
    assert not loaded_after(code, ("torch", "matplotlib"))
