"""A trainer that ends the process in its own test: its record says what is there, and its last checkpoint can be tested."""

import subprocess
import sys

import pytest

import train
from tests.helpers import REPOSITORY, arguments, results
from trainers.coop import CoOp

ENDS = {  # how -> its exit code, the record's state, what the record says
    "os._exit(0)": (
        0,
        "failed",
        "the trainer ended the process itself (os._exit(0)); all 3 epochs are trained and saved",
    ),
    "sys.exit(0)": (
        0,
        "failed",
        "the trainer ended the process itself (sys.exit(0)); all 3 epochs are trained and saved",
    ),
    "sys.exit('bye')": (1, "failed", "the trainer ended the process itself (sys.exit('bye')); all 3 epochs"),
}


def ended(line, how, test="lambda *_, **__: {}"):
    test = test.format(how)
    code = f"import os, sys, train; from trainers.coop import CoOp; CoOp.test = {test}; sys.exit(train.main({line!r}))"
    return subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True)


@pytest.mark.parametrize("how", ENDS)
def test_what_is_said_and_what_can_be_done(data_root, tmp_path, capsys, how):
    line = arguments(data_root, tmp_path / "run", "CoOp")
    done = ended(line, how)
    code, state, why = ENDS[how]
    record = results(tmp_path / "run")
    assert (done.returncode, record["state"], record["epoch"], record["accuracy"]) == (code, state, 3, None)
    assert why in record["why"] and "Traceback" not in done.stderr
    assert (
        "Note: the trainer CoOp has ended the process itself" in done.stdout and "so there is no result" in done.stdout
    )

    test = arguments(data_root, tmp_path / "test", "CoOp", eval_only=True, model_dir=tmp_path / "run")
    assert train.main(test) == 0
    said = capsys.readouterr().out
    assert (
        f"Note: the run in {tmp_path / 'run'} has no result ({record['why']}); its last checkpoint is tested." in said
    )
    assert results(tmp_path / "test")["weights"]["epoch"] == 3

    assert train.main(line) == 0, "the same command goes on: nothing is left but the test"
    record = results(tmp_path / "run")
    assert record["state"] == "finished" and "why" not in record
    assert record["accuracy"] == results(tmp_path / "test")["accuracy"]


@pytest.mark.parametrize("how", ["[sys.stdout.close(), os._exit(0)]", "sys.exit()", "os._exit(3)", "sys.exit('bye')"])
def test_one_that_has_its_results_already(data_root, tmp_path, capsys, how):
    """They are the run's, if the trainer says that nothing is amiss; so are those of a test."""
    whole, ends = (
        arguments(data_root, tmp_path / "whole", "CoOp"),
        "(lambda test: lambda *a, **k: (test(*a, **k), k or a[1:] or {})[0])(CoOp.test)",
    )
    assert train.main(whole) == 0
    line = arguments(data_root, tmp_path / "run", "CoOp", options=["TEST.FINAL_MODEL", "best_val"])
    done = ended(line, how, ends)
    record = results(tmp_path / "run")
    is_well = "exit(0)" in how or "exit()" in how
    assert record["state"] == ("finished" if is_well else "failed") and "Traceback" not in done.stderr
    assert (record["accuracy"] is not None) == is_well == ("with its result" in done.stdout)
    if not is_well:
        return
    assert "why" not in record and "trained" not in record and record["checkpoints"] and record["epoch"] == 3
    assert train.main(line) == 0 and "Skipped: " in capsys.readouterr().out
    test = arguments(data_root, tmp_path / "test", "CoOp", eval_only=True, model_dir=tmp_path / "whole")
    ended(test, how, ends)
    assert results(tmp_path / "test")["accuracy"] == results(tmp_path / "whole")["accuracy"]
    assert results(tmp_path / "test")["state"] == "finished"


def test_what_it_has_saved_is_looked_at(data_root, tmp_path, capsys):
    ended(arguments(data_root, tmp_path / "run", "CoOp"), "os._exit(0)")
    file = tmp_path / "run/prompt_learner/model.pth.tar-3"
    file.write_bytes(file.read_bytes() + b"x")
    test = arguments(data_root, tmp_path / "test", "CoOp", eval_only=True, model_dir=tmp_path / "run")
    assert train.main(test) == 2 and "is not the file that its run finished with" in capsys.readouterr().err


def test_one_that_ended_before_is_still_refused(data_root, tmp_path, capsys, monkeypatch):
    """After an epoch of three there is a checkpoint to go on from, and no trained model."""
    monkeypatch.setattr(CoOp, "before_epoch", lambda self: sys.exit(3) if self.epoch == 2 else None)
    with pytest.raises(SystemExit):
        train.main(arguments(data_root, tmp_path / "run", "CoOp", options=["TRAIN.CHECKPOINT_FREQ", 1]))
    record = results(tmp_path / "run")
    assert record["why"] == "the trainer ended the process itself (sys.exit(3))" and record["epoch"] is None
    test = arguments(data_root, tmp_path / "test", "CoOp", eval_only=True, model_dir=tmp_path / "run")
    assert train.main(test) == 2 and "has not finished" in capsys.readouterr().err
