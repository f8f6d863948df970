"""A run states which file of a user's trained it, and is no other file's: not when it is skipped, tested, or goes on."""

import json
import shutil

import pytest

import train
from dassl.errors import InputError
from one_run.folder import BrokenRecord, sound_record
from one_run.rebuild import rebuild
from tests.helpers import arguments, results
from trainers.shared import ours

FILE = {"file": "trainers/theirs.py", "sha256": "1" * 64}
CHANGED = FILE | {"sha256": "2" * 64}
OTHERS = {  # who trained, who is asked -> what is said
    "theirs for ours": (None, FILE, "CoOp is this repository's own there and trainers/theirs.py's here"),
    "ours for theirs": (FILE, None, "CoOp is trainers/theirs.py's there and this repository's own here"),
    "a changed one": (FILE, CHANGED, "trainers/theirs.py's CoOp, or what that file brings, has changed"),
}


@pytest.fixture
def by(monkeypatch):
    """Calls train.py as if CoOp stood in a file of a user's; None: in ours."""

    def call(file, line) -> int:
        monkeypatch.setattr(ours, "file_of_user", lambda name: file if name == "CoOp" else None)
        return train.main(line)

    return call


@pytest.fixture
def edit_record():
    def edit(run, **changes):
        path = run / "results.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return edit


@pytest.fixture(scope="module")
def runs(data_root, tmp_path_factory):
    """Folders of runs by who trained them."""
    folder, made = tmp_path_factory.mktemp("runs"), {}
    for name, file in (("ours", None), ("theirs", FILE)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ours, "file_of_user", lambda name, file=file: file if name == "CoOp" else None)
            options = ["TRAIN.CHECKPOINT_FREQ", 1]
            assert train.main(arguments(data_root, folder / name, "CoOp", options=options)) == 0
        made[str(file)] = folder / name
    return made


def line_of(data_root, output, **flags):
    options = () if "eval_only" in flags else ["TRAIN.CHECKPOINT_FREQ", 1]
    return arguments(data_root, output, "CoOp", options=options, **flags)


@pytest.mark.parametrize("who", OTHERS)
def test_another_file_is_refused(data_root, runs, by, tmp_path, capsys, monkeypatch, who):
    trained, asked, says = OTHERS[who]
    run = runs[str(trained)]
    assert results(run)["methods"] == ({} if trained is None else {"CoOp": trained})
    tested = line_of(data_root, tmp_path / "test", eval_only=True, model_dir=run)
    resumed = line_of(data_root, tmp_path / "more", resume=run)
    skipped = line_of(data_root, run)
    for line, where in (
        (tested, "was trained by another file"),
        (resumed, "was trained by another file"),
        (skipped, "holds a finished run that is not this one"),
    ):
        assert by(asked, line) == 2
        said = capsys.readouterr().err
        assert where in said and says in said and "Traceback" not in said
    assert not (tmp_path / "test/results.json").exists() and not (tmp_path / "more/results.json").exists()
    with pytest.raises(InputError, match="was trained by another file"):
        rebuild(run)  # as predictions, pictures and exports do


@pytest.mark.parametrize("file", [None, FILE, FILE | {"file": "trainers/moved.py"}])
def test_the_same_file_is_taken(data_root, runs, by, tmp_path, capsys, file):
    run = runs[str(None if file is None else FILE)]
    assert by(file, line_of(data_root, run)) == 0 and "Skipped: " in capsys.readouterr().out
    assert by(file, line_of(data_root, tmp_path / "test", eval_only=True, model_dir=run)) == 0
    assert by(file, line_of(data_root, tmp_path / "more", resume=run)) == 0
    assert results(tmp_path / "more")["accuracy"] == results(tmp_path / "test")["accuracy"] == results(run)["accuracy"]


@pytest.mark.parametrize("who", OTHERS)
def test_one_that_broke_off_begins_anew(data_root, runs, by, tmp_path, capsys, edit_record, who):
    trained, asked, says = OTHERS[who]
    run = tmp_path / "run"
    shutil.copytree(runs[str(trained)], run)
    edit_record(run, state="failed")
    assert by(asked, line_of(data_root, run)) == 0
    said = capsys.readouterr().out
    assert f"{run} held another run, which broke off ({says}): this one begins anew." in said
    assert results(run)["methods"] == ({} if asked is None else {"CoOp": asked}) and results(run)["resumed"] is None


def test_a_record_of_before_says_nothing(data_root, runs, by, tmp_path, edit_record):
    run = tmp_path / "run"
    shutil.copytree(runs[str(FILE)], run)
    edit_record(run, methods=None)
    assert by(None, line_of(data_root, tmp_path / "test", eval_only=True, model_dir=run)) == 0


def test_a_host_of_spotlighters(data_root, runs, by, tmp_path, capsys):
    """Its host's file is stated too, and a run of the host by another one is not taken up."""
    options = ["TRAINER.SPOTLIGHTER.HOST_DIR", runs[str(FILE)], "TRAIN.CHECKPOINT_FREQ", 1]
    line = arguments(data_root, tmp_path / "over", "Spotlighter", options=options)
    assert by(None, line) == 2
    assert "was trained by another file: CoOp is trainers/theirs.py's there" in capsys.readouterr().err
    assert by(FILE, line) == 0 and results(tmp_path / "over")["methods"] == {"CoOp": FILE}


@pytest.mark.parametrize("methods", [{"CoOp": 5}, {"CoOp": {"file": "a"}}, {"CoOp": FILE | {"sha256": 5}}, [1]])
def test_what_no_run_writes(runs, tmp_path, edit_record, methods):
    shutil.copytree(runs[str(None)], tmp_path / "run")
    edit_record(tmp_path / "run", methods=methods)
    with pytest.raises(BrokenRecord, match="methods as no run writes it"):
        sound_record(tmp_path / "run")
