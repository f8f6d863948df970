"""A run's folder (one_run/folder.py, dassl/checkpoints.py): its record, its checkpoints, its lock."""

import ast
import os
import subprocess
import sys

import pytest

from dassl.checkpoints import epoch_of, file_of, last_checkpoint, last_epoch, models_in
from one_run.folder import BrokenRecord, read_record, state_of, take_lock, whole_record
from tests.helpers import REPOSITORY


@pytest.mark.parametrize("text", ["", "{", "[1]", "3", '"finished"', "\udcff"])
def test_what_is_no_record(tmp_path, text):
    (tmp_path / "results.json").write_bytes(os.fsencode(text))
    with pytest.raises(BrokenRecord, match=r"results\.json is .*: run it again\."):
        read_record(tmp_path)
    assert whole_record(tmp_path) is None and state_of(tmp_path) is None


def test_a_record(tmp_path):
    assert read_record(tmp_path) is None and read_record(tmp_path / "nowhere") is None
    (tmp_path / "results.json").write_text('{"state": "running"}')
    assert read_record(str(tmp_path)) == {"state": "running"} and state_of(tmp_path) == "running"


def test_checkpoints(tmp_path):
    assert models_in(str(tmp_path / "nowhere")) == [] and last_epoch(str(tmp_path)) is None
    for name, pointer in (("b", "model.pth.tar-12"), ("a", "model-best.pth.tar")):
        (tmp_path / name).mkdir()
        assert last_checkpoint(str(tmp_path / name)) is None
        (tmp_path / name / "checkpoint").write_text(f"{pointer}\n")
    (tmp_path / "tensorboard").mkdir()
    (tmp_path / "log.txt").write_text("")
    assert models_in(str(tmp_path)) == ["a", "b"] and last_checkpoint(str(tmp_path / "b")) == "model.pth.tar-12"
    assert last_epoch(str(tmp_path)) == 12
    assert file_of(None) == "model-best.pth.tar" and epoch_of(file_of(12)) == 12 and epoch_of(file_of(None)) is None


def test_the_lock_of_a_run(tmp_path):
    lock = take_lock(tmp_path / "run")
    code = "import sys; from one_run.folder import take_lock; from pathlib import Path; print(take_lock(Path(sys.argv[1])))"
    ask = [sys.executable, "-c", code, str(tmp_path / "run")]
    assert subprocess.run(ask, cwd=REPOSITORY, capture_output=True, text=True).stdout == "None\n"
    os.close(lock)
    assert subprocess.run(ask, cwd=REPOSITORY, capture_output=True, text=True).stdout != "None\n"


def test_a_record_has_one_reader():
    """The file's name is written once; everybody else asks that module, but a method that runs on upstream Dassl too."""
    own = {"tests", ".venv", "data", "output"}
    files = [path for path in REPOSITORY.rglob("*.py") if not own & set(path.relative_to(REPOSITORY).parts)]
    naming = {
        str(path.relative_to(REPOSITORY))
        for path in files
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and node.value == "results.json"
    }
    assert naming - {"trainers/promptkd.py"} == {"one_run/folder.py"}
