"""A run's folder (one_run/folder.py, dassl/checkpoints.py): its record, its checkpoints, its lock."""

import ast
import errno
import json
import os
import re
import subprocess
import sys

import pytest

from dassl.checkpoints import epoch_of, file_of, last_checkpoint, last_epoch, models_in
from dassl.errors import InputError
from one_run.folder import (
    BrokenRecord,
    alone_in,
    holder,
    read_record,
    sound_record,
    state_of,
    take_lock,
    to_give,
    whole_record,
)
from tests.helpers import REPOSITORY

TWICE = '{"state": "failed", "state": "finished"}'
DEEP = ['{"a": ' * levels + "1" + "}" * levels for levels in (60, 100_000)]


@pytest.mark.parametrize(
    "text", ["", "{", "[1]", "3", '"finished"', "\udcff", TWICE, *DEEP, '{"a": 1' + 5000 * "0" + "}"]
)
def test_what_is_no_record(tmp_path, text):
    (tmp_path / "results.json").write_bytes(os.fsencode(text))
    with pytest.raises(BrokenRecord, match=r"results\.json is .*: run it again\."):
        read_record(tmp_path)
    assert whole_record(tmp_path) is None and state_of(tmp_path) is None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("state", ["finished"]),
        ("accuracy", 187.5),
        ("accuracy", float("nan")),
        ("accuracy", True),
        ("config", "CoOp"),
        ("weights", 5),
        ("identity", {"classes": "cat"}),
    ],
)
def test_what_no_run_writes(tmp_path, field, value):
    """A record that others build on is as a run writes it; a table may still have its figure."""
    (tmp_path / "results.json").write_text(json.dumps({"state": "finished", "accuracy": 87.5, field: value}))
    with pytest.raises(BrokenRecord, match=rf"{field} as no run writes it .*: run it again\."):
        sound_record(tmp_path)
    assert whole_record(tmp_path) is None and read_record(tmp_path)["state"]


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


WITH_THE_LOCK = """
import sys
from one_run.folder import alone_in
try:
    with alone_in(sys.argv[1]):
        print("alone")
except Exception as error:
    print(error)
"""


def in_another_process(folder, **kwargs):
    line = [sys.executable, "-c", WITH_THE_LOCK, str(folder)]
    return subprocess.run(line, cwd=REPOSITORY, capture_output=True, text=True, **kwargs).stdout.strip()


def test_the_lock_of_a_run(tmp_path):
    lock = take_lock(tmp_path / "run")
    said = in_another_process(tmp_path / "run")
    assert re.fullmatch(rf"{tmp_path}/run is at work already \(process {os.getpid()} on .+, since .+\): wait .*", said)
    os.close(lock)
    assert in_another_process(tmp_path / "run") == "alone"


def test_a_lock_that_was_given(tmp_path):
    """By who starts a run; it is of no other folder, and not for those that the run starts in turn."""
    lock = take_lock(tmp_path / "run")
    give = {"pass_fds": (lock,), "env": {**os.environ, **to_give(lock)}}
    assert in_another_process(tmp_path / "run", **give) == "alone"
    assert str(os.getpid()) not in holder(tmp_path / "run")  # who was given it has signed
    assert in_another_process(tmp_path / "other", **give) == "alone"
    assert "at work already" in in_another_process(tmp_path / "run", env=give["env"])  # the number alone is no lock
    os.close(lock)


def test_a_file_system_without_locks(tmp_path, monkeypatch, capsys):
    def refuse(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", refuse)
    with alone_in(tmp_path):
        assert "is on a file system without locks (No locks available)" in capsys.readouterr().out


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot be made or written into \(Not a directory\)"):
        take_lock(tmp_path / "file" / "run")


def test_a_record_has_one_reader():
    """The file's name is written once; everybody else asks that module, but for methods, which run on upstream Dassl too."""
    own = {"tests", ".venv", "data", "output"}
    files = [path for path in REPOSITORY.rglob("*.py") if not own & set(path.relative_to(REPOSITORY).parts)]
    naming = {
        str(path.relative_to(REPOSITORY))
        for path in files
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and node.value == "results.json"
    }
    assert naming - {"trainers/shared/finished_run.py"} == {"one_run/folder.py"}
