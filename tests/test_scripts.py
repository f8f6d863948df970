"""The shell scripts (../scripts): CoOp's folders, settings from the environment, clear refusals."""

import os
import subprocess
import sys

import pytest
from conftest import REPOSITORY, results


def script(name, *arguments, **environment):
    env = {**os.environ, "PYTHON": sys.executable, "CFG": "embedded", "SHOTS": "4", "DEVICE": "cpu", **environment}
    line = ["bash", str(REPOSITORY / "scripts" / name), *arguments]
    return subprocess.run(line, env=env, capture_output=True, text=True, cwd="/")


def test_base_to_new(data_root, tmp_path):
    """Train, test, and both again: skipped. Called from another folder, as the paths say."""
    where = dict(DATA=str(data_root), OUTPUT=str(tmp_path))
    run = "caltech101/shots_4/CoOp/embedded/seed2"
    short = ("OPTIM.MAX_EPOCH", "1")
    done = script("coop/base2new_train.sh", "caltech101", "2", *short, **where)
    assert done.returncode == 0, done.stderr
    trained = results(tmp_path / "base2new" / "train_base" / run)
    assert (trained["subsample"], trained["shots"], trained["seed"], trained["epoch"]) == ("base", 4, 2, 1)
    assert trained["config"]["USE_CUDA"] is False
    done = script("coop/base2new_test.sh", "caltech101", "2", *short, **where)
    assert done.returncode == 0, done.stderr
    assert results(tmp_path / "base2new" / "test_new" / run)["subsample"] == "new"
    for name in ("coop/base2new_train.sh", "coop/base2new_test.sh"):
        done = script(name, "caltech101", "2", *short, **where)
        assert done.returncode == 0 and "Skipped" in done.stdout


def test_a_test_before_its_training(data_root, tmp_path):
    done = script("spotlighter/base2new_test.sh", "caltech101", "1", DATA=str(data_root), OUTPUT=str(tmp_path))
    assert done.returncode == 2 and "train first" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["spotlighter", "coop", "zsclip"])
@pytest.mark.parametrize("phase", ["train", "test"])
def test_usage(name, phase):
    done = script(f"{name}/base2new_{phase}.sh")
    assert done.returncode == 2 and done.stderr.startswith("usage:")


def test_unknown_data_set_and_config(data_root, tmp_path):
    done = script("coop/base2new_train.sh", "caltech", "1", DATA=str(data_root), OUTPUT=str(tmp_path))
    assert done.returncode == 2 and "caltech101.yaml" in done.stderr
    done = script("coop/base2new_train.sh", "caltech101", "1", DATA=str(data_root), OUTPUT=str(tmp_path), CFG="vit_b17")
    assert done.returncode == 2 and "vit_b16.yaml" in done.stderr
