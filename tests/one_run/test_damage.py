"""Damaged folders of runs: what is tested, or gone on with, is right, or refused in a sentence; nothing in between."""

import shutil

import pytest
import torch

import train
from tests.helpers import arguments, results
from tests.test_train import assert_same_tensors, broken_off, one_sentence

OPTIONS = ["TRAIN.CHECKPOINT_FREQ", 1]
MODEL = "prompt_learner"


@pytest.fixture(scope="module")
def runs(data_root, tmp_path_factory):
    """A finished run, and one that broke off after its second epoch of three."""
    root, patch = tmp_path_factory.mktemp("runs"), pytest.MonkeyPatch()
    assert train.main(arguments(data_root, root / "whole", options=OPTIONS)) == 0
    broken_off(arguments(data_root, root / "broken", options=OPTIONS), patch)
    return root


def spoilt(path, **changes):
    """A checkpoint with other values."""
    state = torch.load(path, weights_only=True)
    torch.save({**state, **changes}, path)


def without(path, key):
    state = torch.load(path, weights_only=True)
    del state[key]
    torch.save(state, path)


def one_bit(path):
    """In the middle of its tensor."""
    ctx = torch.load(path, weights_only=True)["state_dict"]["ctx"].numpy().tobytes()
    whole = bytearray(path.read_bytes())
    whole[whole.index(ctx) + 100] ^= 4
    path.write_bytes(whole)


def momentum_of_another_shape(path):
    state = torch.load(path, weights_only=True)
    state["optimizer"]["state"][0]["momentum_buffer"] = torch.zeros(3)
    torch.save(state, path)


def momentum_in_lists() -> dict:
    """Each has the one before it twice; an optimiser would go through all of 2**60."""
    lists = [0.0]
    for _ in range(60):
        lists = [lists, lists]
    return {"state": {0: {"momentum_buffer": lists}}, "param_groups": [{"params": [0]}]}


LAST = {  # what happens to the last checkpoint -> what is said
    "one bit": (one_bit, "is damaged (the checksum of its part"),
    "cut": (lambda path: path.write_bytes(path.read_bytes()[:-800]), "is cut short"),
    "empty": (lambda path: path.write_bytes(b""), "is empty"),
    "missing": (lambda path: path.unlink(), "is missing"),
    "epoch 99": (lambda path: spoilt(path, epoch=99), "says that it is of epoch 99"),
    "epoch -3": (lambda path: spoilt(path, epoch=-3), "has no state_dict and epoch"),
    "epoch text": (lambda path: spoilt(path, epoch="two"), "has no state_dict and epoch"),
    "state a list": (lambda path: spoilt(path, state_dict=[1, 2]), "has no state_dict and epoch"),
    "all a list": (lambda path: torch.save([1], path), "holds a list and no state dict"),
    "no state": (lambda path: without(path, "state_dict"), "has no state_dict and epoch"),
    "random states": (lambda path: spoilt(path, random_states={"python": [1]}), "The state of the random numbers in"),
    "optimiser": (lambda path: spoilt(path, optimizer={"state": 3}), "is none, or no whole one"),
    "momentum in lists": (lambda path: spoilt(path, optimizer=momentum_in_lists()), "is none, or no whole one"),
}


@pytest.mark.parametrize("harm", LAST)
def test_the_checkpoint_before_a_damaged_one_is_taken(runs, data_root, tmp_path, capsys, harm):
    """It is named, and the run ends with the tensors of one that never broke off."""
    folder = shutil.copytree(runs / "broken", tmp_path / "run")
    spoil, says = LAST[harm]
    spoil(folder / MODEL / "model.pth.tar-2")
    capsys.readouterr()
    assert train.main(arguments(data_root, folder, options=OPTIONS)) == 0
    said = capsys.readouterr().out
    assert says in said and "It goes on from epoch 1, the last whole one" in said
    assert_same_tensors(runs / "whole", folder)


@pytest.mark.parametrize("harm", [harm for harm in LAST if harm != "missing"])
def test_a_damaged_one_with_none_before_it_is_refused(runs, data_root, tmp_path, capsys, harm):
    folder = shutil.copytree(runs / "broken", tmp_path / "run")
    (folder / MODEL / "model.pth.tar-1").unlink()
    spoil, says = LAST[harm]
    spoil(folder / MODEL / "model.pth.tar-2")
    before = results(folder)
    for _ in range(2):  # and nothing is lost by it
        capsys.readouterr()
        assert train.main(arguments(data_root, folder, options=OPTIONS)) == 2
        assert says in one_sentence(capsys)
        assert results(folder) == before


def test_momentum_of_another_shape_is_refused(runs, data_root, tmp_path, capsys):
    folder = shutil.copytree(runs / "broken", tmp_path / "run")
    momentum_of_another_shape(folder / MODEL / "model.pth.tar-2")
    capsys.readouterr()
    assert train.main(arguments(data_root, folder, options=OPTIONS)) == 2
    assert "The optimiser in" in one_sentence(capsys)


POINTERS = {
    "binary": b"\xff\xfe\x00\x01",
    "absolute": b"/etc/passwd\n",
    "upwards": b"../../model.pth.tar-2\n",
    "empty": b"",
    "missing": b"model.pth.tar-7\n",
    "long": b"x" * 100_000,
}


@pytest.mark.parametrize("pointer", [*POINTERS, "none"])
def test_a_pointer_that_leads_nowhere(runs, data_root, tmp_path, capsys, pointer):
    """The latest checkpoint that lies there is the last."""
    folder = shutil.copytree(runs / "broken", tmp_path / "run")
    path = folder / MODEL / "checkpoint"
    path.unlink()
    if pointer != "none":
        path.write_bytes(POINTERS[pointer])
    capsys.readouterr()
    assert train.main(arguments(data_root, folder, options=OPTIONS)) == 0
    said = capsys.readouterr().out
    assert "epoch [3/3]" in said and "epoch [2/3]" not in said
    assert_same_tensors(runs / "whole", folder)


@pytest.mark.parametrize("name", ["checkpoint", "model.pth.tar-2"])
def test_a_folder_in_a_files_place(runs, data_root, tmp_path, capsys, name):
    folder = shutil.copytree(runs / "broken", tmp_path / "run")
    path = folder / MODEL / name
    path.unlink()
    path.mkdir()
    capsys.readouterr()
    assert train.main(arguments(data_root, folder, options=OPTIONS)) == 2
    assert f"{path} could not be written: a folder is in its place. Move it away." in one_sentence(capsys)
    path.rmdir()
    assert train.main(arguments(data_root, folder, options=OPTIONS)) == 0
    assert_same_tensors(runs / "whole", folder)


@pytest.mark.parametrize(
    "text",
    ["[1, 2]", "{}", '{"state": "finished"}', '{"state": "finished", "config": [1]}', '{"state": {"config": {}}}',
     '{"state": "running", "config": {"OPTIM": 3}}', "nothing", ""],
)  # fmt: skip
@pytest.mark.parametrize("test", [False, True])
def test_a_record_that_is_none(runs, data_root, tmp_path, capsys, text, test):
    """A run with such a record is done again, or refused; a test of it needs its record, or an epoch's name."""
    folder = shutil.copytree(runs / "whole", tmp_path / "run")
    (folder / "results.json").write_text(text)
    capsys.readouterr()
    flags = {"model_dir": folder, "eval_only": True} if test else {}
    code = train.main(arguments(data_root, tmp_path / "test" if test else folder, options=OPTIONS, **flags))
    err = capsys.readouterr().err
    if code == 0:
        record = results(tmp_path / "test" if test else folder)
        assert record["accuracy"] == results(runs / "whole")["accuracy"]
    else:
        assert code == 2 and len([line for line in err.splitlines() if line.startswith("error: ")]) == 1


@pytest.mark.parametrize("harm", ["one bit", "cut", "epoch 99", "state a list", "no state", "another's"])
def test_a_finished_model_is_tested_as_it_finished(runs, data_root, tmp_path, capsys, harm):
    folder = shutil.copytree(runs / "whole", tmp_path / "run")
    path = folder / MODEL / "model.pth.tar-3"
    if harm == "another's":
        shutil.copy(folder / MODEL / "model.pth.tar-1", path)
    else:
        LAST[harm][0](path)
    line = arguments(data_root, tmp_path / "test", model_dir=folder, eval_only=True, options=OPTIONS)
    capsys.readouterr()
    assert train.main(line) == 2
    assert f"{path} is not the file that its run finished with" in one_sentence(capsys)


def test_its_checkpoints_are_in_the_record(runs):
    assert [*results(runs / "whole")["checkpoints"]] == [f"{MODEL}/model.pth.tar-{epoch}" for epoch in (1, 2, 3)]
    assert results(runs / "broken")["checkpoints"] is None


def test_a_refused_command_leaves_what_broke_off(runs, data_root, tmp_path, capsys):
    """With another config, and from the folder itself."""
    folder = shutil.copytree(runs / "broken", tmp_path / "run")
    before = results(folder)
    line = arguments(data_root, folder, resume=folder, options=[*OPTIONS, "OPTIM.NAME", "adam"])
    assert train.main(line) == 2
    assert results(folder) == before
    assert train.main(arguments(data_root, folder, options=OPTIONS)) == 0
    assert_same_tensors(runs / "whole", folder)


def test_leftovers_of_a_killed_write_are_removed(runs, data_root, tmp_path):
    folder = shutil.copytree(runs / "broken", tmp_path / "run")
    left = [folder / ".results.json.0a1b2c3d.part", folder / MODEL / ".model.pth.tar-2.0a1b2c3d.part"]
    for path in left:
        path.touch()
    assert train.main(arguments(data_root, folder, options=OPTIONS)) == 0
    assert not any(path.exists() for path in left)


def test_a_folder_in_place_of_a_checkpoint(runs, data_root, tmp_path, capsys):
    """It is named by a test of the run."""
    folder = shutil.copytree(runs / "whole", tmp_path / "run")
    last = folder / MODEL / "model.pth.tar-3"
    last.unlink()
    last.mkdir()
    capsys.readouterr()
    assert train.main(["--eval-only", "--model-dir", str(folder), *arguments(data_root, tmp_path / "test")]) == 2
    assert "model.pth.tar-3 cannot be read (Is a directory): restore it" in one_sentence(capsys)


def test_a_record_that_is_none_is_said(runs, data_root, tmp_path, capsys):
    folder = shutil.copytree(runs / "whole", tmp_path / "run")
    (folder / "results.json").write_text("half a rec")
    capsys.readouterr()
    assert train.main(arguments(data_root, folder, options=OPTIONS)) == 0
    assert f"{folder / 'results.json'} is not JSON" in (said := capsys.readouterr().out) and "It is done anew." in said


@pytest.mark.parametrize("emptied", [True, False])
def test_a_folder_to_resume_that_has_nothing_for_the_run(runs, data_root, tmp_path, capsys, emptied):
    """It was asked for by name, so that beginning anew is no answer."""
    folder = shutil.copytree(runs / "broken", tmp_path / "run")
    if emptied:
        shutil.rmtree(folder / MODEL)
    else:
        (folder / MODEL).rename(folder / "another_learner")
    capsys.readouterr()
    assert train.main(arguments(data_root, tmp_path / "new", resume=folder, options=OPTIONS)) == 2
    says = "holds no checkpoint to go on from" if emptied else "another_learner, and this run learns prompt_learner"
    assert says in one_sentence(capsys)


def test_a_finished_run_whose_checkpoint_is_gone(runs, data_root, tmp_path, capsys):
    folder = shutil.copytree(runs / "whole", tmp_path / "run")
    for path in (folder / MODEL).glob("model*"):
        path.unlink()
    line = arguments(data_root, tmp_path / "test", model_dir=folder, eval_only=True, options=OPTIONS)
    capsys.readouterr()
    assert train.main(line) == 2
    assert f"restore it, or remove {folder} and train again." in one_sentence(capsys)
