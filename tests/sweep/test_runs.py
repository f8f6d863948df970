"""Sweeps of real runs on the small benchmark: a failure among them, a stop in the middle and a second start."""

import json
import os
import signal
import subprocess
import sys

import pytest

from one_run.folder import state_of, take_lock
from sweep.__main__ import main
from sweep.protocols import Run
from sweep.start import Starter
from tests.clip_weights import SMALL, random_state
from tests.helpers import REPOSITORY, results, train_elsewhere
from tests.helpers import arguments as arguments_of_train
from tests.sweep.stand_ins import Fake, at_work, wait_until

OF_A_MACHINE = ("seconds", "train_seconds", "test_images_per_second", "peak_memory_mib", "commit")


def arguments(data_root, output, *more):
    line = ["--data", data_root, "--output", output, "--seeds", 1, "--shots", 2, "--devices", "cpu", *more]
    return [str(part) for part in line]


@pytest.mark.slow
def test_a_data_set_that_is_not_there(data_root, tmp_path, capsys):
    """Its training fails, its test is left out, the other data set is done; the plan then knows."""
    line = arguments(data_root, tmp_path, "--methods", "ZeroshotCLIP:embedded", "--datasets", "eurosat", "caltech101")
    assert main(line) == 1
    out, err = capsys.readouterr()
    assert "4 runs: 0 finished before, 4 to do." in out and "2 of 4 runs are finished." in out
    assert "failed: base2new_train ZeroshotCLIP/embedded eurosat shots_2 seed1" in err and "error: EuroSAT" in err
    assert "skipped: base2new_test ZeroshotCLIP/embedded eurosat" in err
    tested = tmp_path / "base2new/test_new/caltech101/shots_2/ZeroshotCLIP/embedded/seed1"
    assert results(tested)["subsample"] == "new" and results(tested)["device"].startswith("cpu")
    assert "Results: " in (tested / "console.txt").read_text()
    assert main([*line, "--dry-run"]) == 0
    states = [text.split()[0] for text in capsys.readouterr().out.splitlines() if "base2new_" in text]
    assert states == ["to", "to", "finished", "finished"]
    assert main([*line, "--dry-run", "--set", "INPUT.SIZE", "(32, 32)"]) == 2  # another run has these folders
    assert "INPUT.SIZE" in capsys.readouterr().err


def test_stopped_and_started_again(data_root, tmp_path, capsys):
    line = arguments(
        data_root, tmp_path, "--protocol", "fewshot", "--methods", "ZeroshotCLIP:embedded", "CoOp:embedded",
        "--datasets", "caltech101", "--set", "OPTIM.MAX_EPOCH", 2,
    )  # fmt: skip
    first, second = (
        tmp_path / f"fewshot/caltech101/shots_2/{name}/embedded/seed1" for name in ("ZeroshotCLIP", "CoOp")
    )
    sweep = subprocess.Popen(
        [sys.executable, "-m", "sweep", *line],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until(lambda: state_of(second) == "running" or sweep.poll() is not None, 300)
    sweep.send_signal(signal.SIGINT)
    out, err = sweep.communicate()
    assert sweep.returncode == 130 and "Stopped, 1 of 2 runs are finished" in out, err
    assert "Traceback" not in err
    assert results(second)["state"] == "stopped" and results(second)["why"] == "interrupted by SIGTERM"
    lock = take_lock(second)  # nobody is at work there
    assert lock is not None
    os.close(lock)
    before = (first / "results.json").read_bytes()
    assert main(line) == 0
    assert "2 runs: 1 finished before, 1 to do." in capsys.readouterr().out
    assert results(second)["state"] == "finished" and results(second)["epoch"] == 2
    assert (first / "results.json").read_bytes() == before
    assert main(line) == 0 and "2 runs: 2 finished before, 0 to do." in capsys.readouterr().out


def without(record, *folders):
    """A record but for what differs from run to run, and for where it lies."""
    text = json.dumps({name: value for name, value in record.items() if name not in OF_A_MACHINE})
    for folder in folders:
        text = text.replace(str(folder), "HERE")
    return json.loads(text)


@pytest.mark.skipif(sys.platform != "linux", reason="only on Linux runs are forked")
def test_runs_of_one_start_are_those_of_train(data_root, tmp_path):
    """The same records and checkpoints, to the bit; of weights that change between runs too, though they are kept."""
    weights, torch, begun_by = tmp_path / "weights.pt", pytest.importorskip("torch"), set()

    def write_weights(seed):
        torch.save(random_state(SMALL, seed=seed), weights)

    def line(name, **flags):
        options = ["INPUT.SIZE", "(32, 32)", "OPTIM.MAX_EPOCH", 2]
        return arguments_of_train(data_root, tmp_path / name, backbone=weights, options=options, **flags)

    write_weights(0)
    assert train_elsewhere(line("drawn", no_train=True)).returncode == 0  # whoever draws the shots writes them down
    with Starter() as starter:
        for number in range(3):
            if number == 2:
                write_weights(1)
            forked, alone = tmp_path / f"forked{number}", tmp_path / f"alone{number}"
            assert train_elsewhere(line(alone.name)).returncode == 0
            work = at_work(Run("run", Fake(forked, (str(REPOSITORY / "train.py"), *line(forked.name)))), starter)
            assert work.process.wait() == 0 and work.outcome().state == "finished"
            begun_by.add(starter.server)
            assert without(results(forked), forked) == without(results(alone), alone)
            assert results(forked)["checkpoints"]
    assert len(begun_by) == 1 and starter.forks
    sums = [results(tmp_path / f"forked{number}")["identity"]["files"]["MODEL.BACKBONE.NAME"] for number in range(3)]
    assert sums[0] == sums[1] != sums[2]
