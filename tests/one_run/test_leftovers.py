"""What processes that were killed leave in a run's folder is gone once the run has finished."""

import shutil

import pytest

import train
from tests.helpers import arguments
from tests.test_train import broken_off

MODEL = "prompt_learner"


def checkpoints(folder):
    return {path.name for path in (folder / MODEL).iterdir()}


@pytest.mark.parametrize("options, kept", [([], set()), (["TRAIN.CHECKPOINT_FREQ", 1], {"model.pth.tar-1", "model.pth.tar-2"})])  # fmt: skip
def test_a_checkpoint_that_was_to_go(data_root, tmp_path, monkeypatch, options, kept):
    """Killed after the second checkpoint was written, and before the first was removed; what was asked for stays."""
    line = arguments(data_root, tmp_path, options=options)
    broken_off(line, monkeypatch)
    shutil.copy(tmp_path / MODEL / "model.pth.tar-2", tmp_path / MODEL / "model.pth.tar-1")
    assert train.main(line) == 0
    assert checkpoints(tmp_path) == {"checkpoint", "model.pth.tar-3"} | kept


def test_files_that_were_being_written(data_root, tmp_path):
    """Before the first checkpoint too; those of a run in a folder of its own below are no concern."""
    left = [f"{MODEL}/.model.pth.tar-1.0badcafe.part", ".results.json.0badcafe.part"]
    for name in [*left, "other/.results.json.0badcafe.part"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert train.main(arguments(data_root, tmp_path)) == 0
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob(".*.part")] == [
        "other/.results.json.0badcafe.part"
    ]


def test_another_runs_checkpoints_stay(data_root, tmp_path, monkeypatch):
    """A run that was resumed from a folder, and not begun in it, removes nothing there."""
    first, second = tmp_path / "first", tmp_path / "second"
    broken_off(arguments(data_root, first, options=["TRAIN.CHECKPOINT_FREQ", 1]), monkeypatch)
    before = checkpoints(first)
    assert train.main(arguments(data_root, second, resume=first)) == 0
    assert checkpoints(first) == before
