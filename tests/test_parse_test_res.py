"""Tables and means: from results.json and from logs that other code wrote."""

import json

import pytest

import parse_test_res as parse

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


@pytest.mark.parametrize("state", ["running", "failed"])
def test_a_broken_run_is_named(tmp_path, capsys, state):
    write_run(tmp_path / "seed1", 80.0)
    write_run(tmp_path / "seed2", 10.0, state=state, why="out of memory")
    assert parse.main([str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert "seed2 did not finish" in err and "out of memory" in err and err.count("\n") == 1


def base2new(root, method, dataset, seed, base, new):
    tail = f"{dataset}/shots_16/{method}/vit_b16/seed{seed}"
    if base is not None:
        write_run(root / "base2new" / "train_base" / tail, base)
    if new is not None:
        write_run(root / "base2new" / "test_new" / tail, new)


def test_base2new_table(tmp_path, capsys):
    """H of the means, not the mean of the H; the average row likewise."""
    for seed, base, new in ((1, 90.0, 40.0), (2, 70.0, 60.0)):
        base2new(tmp_path, "CoOp", "caltech101", seed, base, new)
    base2new(tmp_path, "CoOp", "dtd", 1, 60.0, 20.0)
    base2new(tmp_path, "CoOp", "embedded_species", 1, 99.0, 99.0)
    assert parse.main([str(tmp_path), "--table", "base2new"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["CoOp/vit_b16", "80.00", "50.00", "61.54", "1,2"] in rows
    assert ["CoOp/vit_b16", "60.00", "20.00", "30.00", "1"] in rows
    assert ["CoOp/vit_b16", "70.00", "35.00", "46.67", "1,2"] in rows  # without the embedded set
    assert any("embedded" in row[0] and "test" in row for row in rows if row)


def test_base2new_names_a_missing_half(tmp_path, capsys):
    base2new(tmp_path, "CoOp", "dtd", 1, 60.0, 20.0)
    base2new(tmp_path, "CoOp", "dtd", 2, 99.0, None)
    assert parse.main([str(tmp_path), "--table", "base2new"]) == 1
    captured = capsys.readouterr()
    assert "60.00  20.00  30.00   1" in captured.out
    assert "seed2 has a base result and no new result" in captured.err


def test_wrong_folder(tmp_path, capsys):
    assert parse.main([str(tmp_path / "nowhere")]) == 2
    assert "not a folder" in capsys.readouterr().err
    assert parse.main([str(tmp_path), "--table", "base2new"]) == 2
