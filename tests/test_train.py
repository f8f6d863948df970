"""Whole runs through train.py's command line, on the small benchmark with the shipped tiny CLIP."""

import contextlib
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch

import train
from one_run.folder import alone_in
from one_run.interrupts import SIGNALS
from one_run.record import by_name, in_short_form
from tests.helpers import CLASSES, REPOSITORY, arguments, results, train_elsewhere

METHODS = ["ZeroshotCLIP", "CoOp", "Spotlighter"]
FIELDS = {
    "method", "dataset", "backbone", "seed", "shots", "subsample", "split", "epoch", "state", "accuracy", "macro_f1", "classwise", "confused",
    "plan", "trainable_parameters", "extra_trainable_parameters", "seconds", "train_seconds", "test_images_per_second",
    "config", "versions", "device", "images_sha256", "commit", "peak_memory_mib", "peak_gpu_memory_mib",
}  # fmt: skip


@pytest.fixture(scope="module")
def trained(data_root, tmp_path_factory):
    """One finished training run of each method, on the base classes."""
    root = tmp_path_factory.mktemp("runs")
    for method in METHODS:
        assert train.main(arguments(data_root, root / method, method)) == 0
    return root


def test_classes_of_one_name_are_both_in_the_record():
    """ImageNet has two "missile" and two "sunglasses"."""
    entry = {"total": 2, "correct": 1, "accuracy": 50.0}
    classes = {0: {"name": "missile"} | entry, 3: {"name": "crane"} | entry, 7: {"name": "missile"} | entry}
    assert by_name(classes) == {"missile [0]": entry, "crane": entry, "missile [7]": entry}


def test_what_was_answered_in_place_of_each_class():
    class Evaluator:
        classwise = {label: {"name": name} for label, name in enumerate(("missile", "crane", "missile"))}
        confused = {0: {2: 3, 7: 1}, 1: {0: 2}}

    assert in_short_form(Evaluator) == {"missile [0]": "2:3 7:1", "crane": "0:2"}
    assert in_short_form(object()) is None  # another's evaluator


@pytest.mark.parametrize("method", METHODS)
def test_record(trained, method):
    record = results(trained / method)
    assert record.keys() >= FIELDS
    assert record["state"] == "finished" and record["method"] == method and record["dataset"] == "Caltech101"
    assert (record["seed"], record["shots"], record["subsample"], record["split"]) == (1, 4, "base", "test")
    assert record["epoch"] == (0 if method == "ZeroshotCLIP" else 3)
    assert list(record["classwise"]) == CLASSES[:3]
    correct = sum(entry["correct"] for entry in record["classwise"].values())
    wrong = [int(part.partition(":")[2]) for told in record["confused"].values() for part in told.split()]
    assert correct + sum(wrong) == 12 and record["confused"].keys() <= record["classwise"].keys()
    assert record["accuracy"] == pytest.approx(100 * correct / 12)  # 4 test images of 3 classes, unrounded
    assert len(record["images_sha256"]) == 64
    assert record["images_sha256"] == results(trained / "CoOp")["images_sha256"]  # same seed, same images
    assert record["config"]["TRAINER"]["NAME"] == method
    assert record["test_images_per_second"] > 0
    assert record["peak_memory_mib"] > 100  # PyTorch alone takes more
    head = subprocess.run(["git", "-C", REPOSITORY, "rev-parse", "HEAD"], capture_output=True, text=True)
    assert (record["commit"] or "").rstrip("+") == head.stdout.strip()
    if method == "ZeroshotCLIP":
        assert record["train_seconds"] is None  # there is nothing to train
    else:
        assert 0 < record["train_seconds"] < record["seconds"]
    log = (trained / method / "log.txt").read_text()
    assert f"* accuracy: {record['accuracy']:.1f}%" in log and "Finish training" in log


def test_settings_reach_the_config(data_root, tmp_path):
    """Seed 0 is a seed; options come after files and flags."""
    line = ["--transforms", "random_flip", *arguments(data_root, tmp_path, seed=0, options=["OPTIM.LR", "1e-3"])]
    cfg = train.build_config(train.parse_arguments(line))
    assert cfg.SEED == 0 and cfg.INPUT.TRANSFORMS == ("random_flip",)
    assert cfg.OPTIM.LR == 0.001 and str(tmp_path) == cfg.OUTPUT_DIR
    assert "SPOTLIGHTER" not in cfg.TRAINER and "COOP" in cfg.TRAINER  # a method brings its own keys only
    cfg = train.build_config(train.parse_arguments(arguments(data_root, tmp_path, "Spotlighter", seed=-1)))
    assert cfg.SEED == -1 and {"SPOTLIGHTER", "COOP"} <= set(cfg.TRAINER) and "ZSCLIP" not in cfg.TRAINER


def test_trainable_parameters(trained):
    counts = {method: results(trained / method) for method in METHODS}
    assert counts["ZeroshotCLIP"]["trainable_parameters"] == 0
    assert counts["CoOp"]["trainable_parameters"] == 4 * 128
    assert counts["Spotlighter"]["trainable_parameters"] == 4 * 128 + 21
    assert [counts[m]["extra_trainable_parameters"] for m in METHODS] == [0, 0, 21]
    assert "21 trainable scalars" in (trained / "Spotlighter" / "log.txt").read_text()


def test_what_is_saved(trained):
    """Learned tensors and the bank, nothing of CLIP."""
    coop = torch.load(trained / "CoOp" / "prompt_learner" / "model.pth.tar-3", weights_only=True)
    assert list(coop["state_dict"]) == ["ctx"]
    head = torch.load(trained / "Spotlighter" / "spotlighter" / "model.pth.tar-3", weights_only=True)["state_dict"]
    assert head["prototypes"].shape == (3, 5, 128)
    assert sum(value.numel() for name, value in head.items() if name.startswith("scalars.")) == 21
    assert not list((trained / "ZeroshotCLIP").rglob("*.tar*"))


def test_spotlighter_trains_its_host_as_the_host_trains_itself(trained):
    """No gradient of the head reaches the context, and no random number is taken from the host."""
    ctx = [
        torch.load(trained / method / "prompt_learner" / "model.pth.tar-3", weights_only=True)["state_dict"]["ctx"]
        for method in ("CoOp", "Spotlighter")
    ]
    assert torch.equal(*ctx)


@pytest.mark.parametrize("method", METHODS)
def test_evaluation_in_another_process(trained, data_root, tmp_path, method):
    """Base: exactly the training process's accuracy. New: other classes, served by the same checkpoint."""
    before, flags = snapshot(trained / method), {"model_dir": trained / method, "eval_only": True}
    halves = ("base", "new")
    lines = [arguments(data_root, tmp_path / half, method, subsample=half, **flags) for half in halves]
    done = train_elsewhere(*lines)
    assert done.returncode == 0, done.stderr
    base, new = (results(tmp_path / half) for half in halves)
    assert base["accuracy"] == results(trained / method)["accuracy"]
    assert base["classwise"] == results(trained / method)["classwise"]
    assert list(new["classwise"]) == CLASSES[3:]
    assert base["epoch"] == new["epoch"] == (0 if method == "ZeroshotCLIP" else 3)
    assert snapshot(trained / method) == before  # evaluation never writes into the training folder


def snapshot(folder):
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in folder.rglob("*") if path.is_file()}


def test_text_features_once_per_evaluation(data_root, tmp_path, monkeypatch):
    from trainers.shared.clip_trainer import PromptedCLIP

    calls = []
    original = PromptedCLIP.text_features
    monkeypatch.setattr(
        PromptedCLIP, "text_features", lambda self, f=None: calls.append(torch.is_grad_enabled()) or original(self)
    )
    line = arguments(data_root, tmp_path, "CoOp", options=["DATALOADER.TEST.BATCH_SIZE", 2, "OPTIM.MAX_EPOCH", 1])
    assert train.main(line) == 0
    assert calls.count(False) == 1  # six batches of the test, one encoding
    assert calls.count(True) == 3  # 12 images in batches of 4


# --- runs that finished, broke off, or go on -----------------------------------------------------------------


def test_a_finished_run_is_skipped(trained, data_root, capsys):
    before = snapshot(trained / "CoOp")
    assert train.main(arguments(data_root, trained / "CoOp", "CoOp")) == 0
    assert "Skipped" in capsys.readouterr().out
    assert snapshot(trained / "CoOp") == before


def test_a_finished_run_of_another_config_is_refused(trained, data_root, capsys):
    before = snapshot(trained / "CoOp")
    assert train.main(arguments(data_root, trained / "CoOp", "CoOp", options=["OPTIM.LR", 0.01])) == 2
    assert "OPTIM.LR is 0.002" in one_sentence(capsys)
    assert snapshot(trained / "CoOp") == before


def test_a_zero_shot_run_is_the_same_whatever_training_is_set_to(trained, data_root, capsys):
    options = ["OPTIM.LR", 0.1, "DATALOADER.TRAIN_X.BATCH_SIZE", 2]
    assert train.main(arguments(data_root, trained / "ZeroshotCLIP", "ZeroshotCLIP", options=options)) == 0
    assert "Skipped" in capsys.readouterr().out
    assert (
        train.main(arguments(data_root, trained / "ZeroshotCLIP", "ZeroshotCLIP", options=["INPUT.SIZE", (32, 32)]))
        == 2
    )


def test_an_evaluation_never_writes_into_the_training_folder(trained, data_root, capsys):
    folder = trained / "CoOp"
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    line = arguments(data_root, folder / ".." / "CoOp", "CoOp", subsample="new", model_dir=folder, eval_only=True)
    assert train.main(line) == 2
    assert "is the training run itself" in one_sentence(capsys)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_a_killed_run_is_not_taken_for_finished(trained, data_root, tmp_path, capsys):
    """Killed in the middle of training: the record says running; the next start runs it again, from the start."""
    line = arguments(data_root, tmp_path, "CoOp", options=["TRAIN.CHECKPOINT_FREQ", 1])
    process = subprocess.Popen(
        [sys.executable, "train.py", *line, "OPTIM.MAX_EPOCH", "100000"], cwd=REPOSITORY, stdout=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while not (tmp_path / "prompt_learner" / "model.pth.tar-2").exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert results(tmp_path)["state"] == "running"
    evaluate = arguments(data_root, tmp_path / "eval", "CoOp", model_dir=tmp_path, eval_only=True)
    assert train.main(evaluate) == 2
    assert "has not finished" in one_sentence(capsys)
    assert train.main(line) == 0
    assert results(tmp_path)["state"] == "finished"
    assert results(tmp_path)["accuracy"] == results(trained / "CoOp")["accuracy"]


def broken_off(line, monkeypatch, seconds=0.0, epoch=2):
    """The run, interrupted as its third (or another) epoch begins; checkpoints are `seconds` apart."""
    from dassl.engine import TrainerX, trainer

    def stop(self):
        if self.epoch == epoch:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(TrainerX, "before_epoch", stop)
        patch.setattr(trainer, "SAVE_SECONDS", seconds)
        assert train.main(line) == 130


@pytest.mark.parametrize(
    "method, epoch, says",
    [
        ("CoOp", 2, "the same command goes on from the last checkpoint"),
        ("CoOp", 0, "nothing is saved yet, and the same command starts from the beginning"),
        ("ZeroshotCLIP", 0, "nothing is saved yet, and the same command starts from the beginning"),
    ],
)
def test_an_interrupt_promises_no_checkpoint_that_is_not_there(
    data_root, tmp_path, monkeypatch, capsys, method, epoch, says
):
    if method == "ZeroshotCLIP":
        monkeypatch.setattr("dassl.engine.SimpleTrainer.test", interrupted)
    broken_off(arguments(data_root, tmp_path, method), monkeypatch, epoch=epoch)
    assert capsys.readouterr().err.splitlines()[-1] == f"error: interrupted; {says}."
    assert bool(list(tmp_path.glob("*/checkpoint"))) == ("last checkpoint" in says)


def test_another_run_in_the_folder_of_one_that_broke_off(data_root, tmp_path, monkeypatch, capsys):
    """It says so, and no checkpoint of the other is taken for one of its own."""
    broken_off(arguments(data_root, tmp_path), monkeypatch)
    assert (tmp_path / "prompt_learner" / "model.pth.tar-2").exists()
    capsys.readouterr()
    assert train.main(arguments(data_root, tmp_path, options=["OPTIM.MAX_EPOCH", 1])) == 0
    said = capsys.readouterr().out
    assert f"{tmp_path} held another run, which broke off (OPTIM.MAX_EPOCH is 3 there and 1 here)" in said
    assert [path.name for path in (tmp_path / "prompt_learner").glob("model*")] == ["model.pth.tar-1"]
    assert results(tmp_path)["checkpoints"].keys() == {"prompt_learner/model.pth.tar-1"}
    assert train.main(arguments(data_root, tmp_path, options=["OPTIM.MAX_EPOCH", 1])) == 0
    assert "held another run" not in capsys.readouterr().out


@pytest.mark.parametrize("seconds", [0.0, 1e6])
def test_an_interrupt_of_a_resumed_run(data_root, tmp_path, monkeypatch, capsys, seconds):
    options = ["TRAIN.CHECKPOINT_FREQ", 1, "OPTIM.MAX_EPOCH", 4]
    broken_off(arguments(data_root, tmp_path / "first", options=options), monkeypatch, seconds=1e6)
    line = arguments(data_root, tmp_path / "second", resume=tmp_path / "first", options=options)
    broken_off(line, monkeypatch, seconds, epoch=3 if seconds == 0 else 2)
    assert "without --resume goes on from the last" in capsys.readouterr().err.splitlines()[-1]


def test_an_interrupt_before_anything_was_begun(data_root, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(train, "build_config", interrupted)
    assert train.main(arguments(data_root, tmp_path)) == 130
    assert capsys.readouterr().err == "error: interrupted; nothing was begun.\n"


def interrupted(*_):
    raise KeyboardInterrupt


def assert_same_tensors(whole, resumed):
    for path in sorted(whole.glob("*/model.pth.tar-3")):
        theirs, ours = (
            torch.load(folder / path.relative_to(whole), weights_only=True)["state_dict"] for folder in (whole, resumed)
        )
        assert theirs.keys() == ours.keys()
        for name, value in theirs.items():
            assert torch.equal(value, ours[name]) if torch.is_tensor(value) else value == ours[name]


@pytest.mark.parametrize("method", ["CoOp", "Spotlighter"])
def test_a_run_that_broke_off_goes_on(trained, data_root, tmp_path, method, monkeypatch, capsys):
    """By the same command, to the very tensors of one that did not; the checkpoint it went on from is gone then."""
    line = arguments(data_root, tmp_path, method)
    broken_off(line, monkeypatch)
    assert results(tmp_path)["state"] == "stopped"
    assert {path.name for path in tmp_path.glob("*/model.pth.tar-*")} == {"model.pth.tar-2"}  # the first's is gone
    capsys.readouterr()
    assert train.main(line) == 0
    said = capsys.readouterr().out
    assert "which broke off" in said and "epoch [3/3]" in said and "epoch [2/3]" not in said
    assert_same_tensors(trained / method, tmp_path)
    assert results(tmp_path)["accuracy"] == results(trained / method)["accuracy"]
    assert {path.name for path in tmp_path.glob("*/model.pth.tar-*")} == {"model.pth.tar-3"}


@pytest.mark.parametrize(
    "method, number", [("CoOp", signal.SIGINT), ("CoOp", signal.SIGHUP), ("Spotlighter", signal.SIGTERM)]
)
def test_a_signal_in_the_midst_of_an_epoch(trained, data_root, tmp_path, method, number, monkeypatch, capsys):
    """The last whole epoch is saved, whenever that was; the same command ends with the very tensors."""
    from dassl.engine import TrainerX

    step, handlers = TrainerX._step, [signal.getsignal(each) for each in SIGNALS]

    def stopped(self, batch):
        done = step(self, batch)
        if (self.epoch, self.batch_idx) == (2, 1):
            signal.raise_signal(number)
        return done

    line = arguments(data_root, tmp_path, method)
    with monkeypatch.context() as patch:
        patch.setattr(TrainerX, "_step", stopped)
        assert train.main(line) == 128 + number
    assert [signal.getsignal(each) for each in SIGNALS] == handlers
    assert "; the same command goes on from the last checkpoint." in one_sentence(capsys)
    record = results(tmp_path)
    assert (record["state"], record["why"]) == ("stopped", f"interrupted by {number.name}")
    assert {path.name for path in tmp_path.glob("*/model.pth.tar-*")} == {"model.pth.tar-2"}
    assert train.main(line) == 0
    said = capsys.readouterr().out
    assert "epoch [3/3]" in said and "epoch [2/3]" not in said
    assert_same_tensors(trained / method, tmp_path)
    assert {path.name for path in tmp_path.glob("*/model.pth.tar-*")} == {"model.pth.tar-3"}


def test_a_signal_between_the_checkpoints_of_two_models(trained, data_root, tmp_path, monkeypatch, capsys):
    from dassl.engine import base

    save = base.save_checkpoint

    def stopped(checkpoint, folder, **how):
        save(checkpoint, folder, **how)
        if checkpoint["epoch"] == 2:
            monkeypatch.setattr(base, "save_checkpoint", save)
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr("dassl.engine.trainer.SAVE_SECONDS", 0.0)
    monkeypatch.setattr(base, "save_checkpoint", stopped)
    line = arguments(data_root, tmp_path, "Spotlighter")
    assert train.main(line) == 143
    assert {path.name for path in tmp_path.glob("*/model.pth.tar-*")} == {"model.pth.tar-2"}
    capsys.readouterr()
    assert train.main(line) == 0 and "epoch [2/3]" not in capsys.readouterr().out
    assert_same_tensors(trained / "Spotlighter", tmp_path)


def test_a_signal_to_the_process_and_its_workers(data_root, tmp_path):
    """As `timeout` and schedulers send it: twice, and to the loaders' workers too."""
    line = arguments(data_root, tmp_path, options=["DATALOADER.NUM_WORKERS", 2])
    process = subprocess.Popen(
        [sys.executable, "train.py", *line, "OPTIM.MAX_EPOCH", "100000"],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert any(text.startswith("epoch [3/") for text in process.stdout)
    process.terminate()
    os.killpg(process.pid, signal.SIGTERM)
    _, said = process.communicate()
    assert process.returncode == 143
    assert said == "error: interrupted by SIGTERM; the same command goes on from the last checkpoint.\n"
    assert results(tmp_path)["state"] == "stopped"


@contextlib.contextmanager
def printing_to(file, patch):
    """As if the process had been started with its standard output there."""
    with open(file, "w") as stream, patch.context() as patched:
        patched.setattr(sys, "stdout", stream)
        yield


def nobody():
    """The writing end of a pipe that nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    return writer


@pytest.mark.parametrize("file", [nobody, lambda: os.open("/dev/full", os.O_WRONLY)], ids=["no reader", "full disk"])
def test_a_run_goes_on_when_its_output_goes_nowhere(trained, data_root, tmp_path, monkeypatch, file):
    """`| head -1`, and a `| tee` that is gone: it has its log."""
    with printing_to(file(), monkeypatch):
        assert train.main(arguments(data_root, tmp_path)) == 0
    ours, theirs = ((folder / "log.txt").read_text().splitlines() for folder in (tmp_path, trained / "CoOp"))
    assert len(ours) == len(theirs) and ours[-1].startswith("Results: ")
    assert_same_tensors(trained / "CoOp", tmp_path)


def test_a_clock_that_is_set_back(data_root, tmp_path, monkeypatch):
    """By an hour each time that it is looked at: durations are those of a clock that nobody sets."""
    now, hours = time.time(), itertools.count()
    monkeypatch.setattr(time, "time", lambda: now - 3600 * next(hours))
    monkeypatch.setattr("dassl.engine.trainer.SAVE_SECONDS", 0.0)
    assert train.main(arguments(data_root, tmp_path)) == 0
    assert results(tmp_path)["seconds"] > results(tmp_path)["train_seconds"] > 0
    log = (tmp_path / "log.txt").read_text()
    assert all(f"Checkpoint saved to {tmp_path}/prompt_learner/model.pth.tar-{epoch}\n" in log for epoch in (1, 2, 3))
    assert "Elapsed: 0:00:" in log and " eta 0:00:" in log and " time -" not in log


def test_an_output_folder_that_is_removed(data_root, tmp_path, monkeypatch, capsys):
    from dassl.engine import TrainerX

    def remove(self):
        if self.epoch == 1:
            shutil.rmtree(tmp_path / "out")

    monkeypatch.setattr(TrainerX, "before_epoch", remove)
    assert train.main(arguments(data_root, tmp_path / "out")) == 2
    assert re.search("was removed while the run|TensorBoard's file cannot be written", one_sentence(capsys))
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def with_crops(data_root, tmp_path_factory):
    """train.py's arguments for CoOp on random crops with some workers, and its folder without any."""

    def line(output, workers):
        keys = {
            "INPUT.TRANSFORMS": ("random_resized_crop", "random_flip", "normalize"),
            "DATALOADER.NUM_WORKERS": workers,
        }
        return arguments(data_root, output, options=[part for pair in keys.items() for part in pair])

    output = tmp_path_factory.mktemp("crops")
    assert train.main(line(output, 0)) == 0
    return line, output


@pytest.mark.parametrize("workers", [1, 2])
def test_the_number_of_workers_changes_nothing(with_crops, trained, tmp_path, monkeypatch, workers):
    monkeypatch.setattr("dassl.data.data_manager.cores", lambda: 2)
    line, without = with_crops
    assert train.main(line(tmp_path, workers)) == 0
    assert_same_tensors(without, tmp_path)
    with pytest.raises(AssertionError):  # the crops do change something
        assert_same_tensors(trained / "CoOp", tmp_path)


@pytest.mark.parametrize("before, after", [(0, 2), (2, 0)])
def test_a_run_goes_on_with_another_number_of_workers(with_crops, tmp_path, monkeypatch, capsys, before, after):
    monkeypatch.setattr("dassl.data.data_manager.cores", lambda: 2)
    line, whole = with_crops
    broken_off(line(tmp_path, before), monkeypatch)
    capsys.readouterr()
    assert train.main(line(tmp_path, after)) == 0
    assert "epoch [2/3]" not in capsys.readouterr().out
    assert_same_tensors(whole, tmp_path)


def without_a_picture(root):
    """The small benchmark's list without its first training picture, so that other shots are drawn."""
    path = root / "caltech-101" / "split_zhou_Caltech101.json"
    split = json.loads(path.read_text())
    former = path.read_text()
    path.write_text(json.dumps({**split, "train": split["train"][1:]}))
    return lambda: path.write_text(former)


def test_it_goes_on_with_the_same_images_alone(data_root, tmp_path, monkeypatch, capsys):
    root = shutil.copytree(data_root, tmp_path / "data")
    line = arguments(root, tmp_path / "out")
    broken_off(line, monkeypatch)
    restore = without_a_picture(root)
    for _ in range(2):  # the refusal itself changes nothing
        capsys.readouterr()
        assert train.main(line) == 2
        assert "some of the 12 train images are others, or have changed. Restore what it had" in one_sentence(capsys)
    restore()
    assert train.main(line) == 0 and "it goes on from its last checkpoint" in capsys.readouterr().out


def test_a_model_is_tested_beside_its_own_training_images(data_root, tmp_path, capsys):
    root = shutil.copytree(data_root, tmp_path / "data")
    assert train.main(arguments(root, tmp_path / "out", options=["OPTIM.MAX_EPOCH", 1])) == 0
    without_a_picture(root)
    capsys.readouterr()
    line = arguments(
        root, tmp_path / "test", model_dir=tmp_path / "out", eval_only=True, options=["OPTIM.MAX_EPOCH", 1]
    )
    assert train.main(line) == 2
    assert (
        f"The run in {tmp_path / 'out'} was trained on other data than is there now: some of the 12 train images"
        in one_sentence(capsys)
    )


def test_resume_from_another_folder(trained, data_root, tmp_path, monkeypatch):
    """--resume, as in Dassl; what CHECKPOINT_FREQ asked for stays."""
    options = ["TRAIN.CHECKPOINT_FREQ", 1]
    broken_off(arguments(data_root, tmp_path / "first", "CoOp", options=options), monkeypatch, seconds=1e6)
    line = arguments(data_root, tmp_path / "second", "CoOp", resume=tmp_path / "first", options=options)
    assert train.main(line) == 0
    assert_same_tensors(trained / "CoOp", tmp_path / "second")
    assert len(list((tmp_path / "first").glob("*/model.pth.tar-*"))) == 2


def test_what_a_resumed_run_has_otherwise_is_said_and_kept(trained, data_root, tmp_path, monkeypatch, capsys):
    """Also when it breaks off in its turn, and goes on by itself; a fresh run has nothing of the kind."""
    assert results(trained / "CoOp")["resumed"] is None
    options = ["OPTIM.MAX_EPOCH", 5, "INPUT.TRANSFORMS", ("random_flip", "normalize"), "TRAIN.PRINT_FREQ", 1]
    line = arguments(data_root, tmp_path, resume=trained / "CoOp", options=options)
    resumed = {"folder": str(trained / "CoOp"), "epoch": 3, "changed": ["INPUT.TRANSFORMS", "OPTIM.MAX_EPOCH"]}
    capsys.readouterr()
    broken_off(line, monkeypatch, epoch=4)
    assert "OPTIM.MAX_EPOCH is 3 there and 5 here" in capsys.readouterr().out
    assert train.main(arguments(data_root, tmp_path, options=options)) == 0
    said = capsys.readouterr().out
    assert "another config" not in said and "epoch [5/5]" in said and "epoch [4/5]" not in said
    assert results(tmp_path)["resumed"] == resumed
    assert train.main(line) == 0 and "Skipped" in capsys.readouterr().out
    assert train.main(arguments(data_root, tmp_path, options=options)) == 2  # a fresh run has other numbers
    resumed_from = f"it was resumed from {trained / 'CoOp'}, with another INPUT.TRANSFORMS, OPTIM.MAX_EPOCH"
    assert resumed_from in one_sentence(capsys)


def test_a_run_resumed_from_a_folder_without_a_record(trained, data_root, tmp_path, capsys):
    shutil.copytree(trained / "CoOp", tmp_path / "first")
    (tmp_path / "first" / "results.json").unlink()
    line = arguments(data_root, tmp_path / "second", resume=tmp_path / "first", options=["OPTIM.MAX_EPOCH", 4])
    assert train.main(line) == 0 and "another config" not in capsys.readouterr().out
    assert results(tmp_path / "second")["resumed"] == {"folder": str(tmp_path / "first"), "epoch": 3, "changed": None}


def test_a_checkpoint_beyond_the_last_epoch(trained, data_root, tmp_path, capsys):
    assert train.main(arguments(data_root, tmp_path, resume=trained / "CoOp", options=["OPTIM.MAX_EPOCH", 2])) == 2
    assert f"checkpoint in {trained / 'CoOp'} is of epoch 3, beyond OPTIM.MAX_EPOCH 2" in one_sentence(capsys)


def test_another_kind_of_optimiser(trained, data_root, tmp_path, capsys):
    options = ["OPTIM.MAX_EPOCH", 4, "OPTIM.NAME", "adam"]
    assert train.main(arguments(data_root, tmp_path, resume=trained / "CoOp", options=options)) == 2
    assert "than this run's, Adam: resume with the OPTIM.NAME that it had" in one_sentence(capsys)


def test_a_run_that_is_resumed_elsewhere_stands_on_its_own(trained, data_root, tmp_path, monkeypatch):
    """From the last epoch on nothing is left to train; the best model may be that of the former folder."""
    line = arguments(data_root, tmp_path / "last", "CoOp", resume=trained / "CoOp")
    assert train.main(line) == 0
    assert results(tmp_path / "last")["accuracy"] == results(trained / "CoOp")["accuracy"]
    assert_same_tensors(trained / "CoOp", tmp_path / "last")
    test = arguments(data_root, tmp_path / "test", "CoOp", model_dir=tmp_path / "last", eval_only=True)
    assert train.main(test) == 0
    best = ["TEST.FINAL_MODEL", "best_val"]
    broken_off(arguments(data_root, tmp_path / "first", "CoOp", options=best), monkeypatch)
    monkeypatch.setattr("dassl.engine.SimpleTrainer.check_learned", lambda self: setattr(self, "best_result", 1e9))
    line = arguments(data_root, tmp_path / "second", "CoOp", resume=tmp_path / "first", options=best)
    assert train.main(line) == 0  # no epoch was better
    first, second = (tmp_path / name / "prompt_learner/model-best.pth.tar" for name in ("first", "second"))
    assert first.read_bytes() == second.read_bytes()


def test_a_broken_off_run_of_another_config_is_begun_anew(data_root, tmp_path, monkeypatch, capsys):
    broken_off(arguments(data_root, tmp_path, "CoOp"), monkeypatch)
    capsys.readouterr()
    assert train.main(arguments(data_root, tmp_path, "CoOp", options=["OPTIM.LR", 0.1])) == 0
    said = capsys.readouterr().out
    assert "held another run, which broke off (OPTIM.LR is" in said and "epoch [1/3]" in said


def test_checkpoints_of_different_epochs_are_not_mixed(data_root, tmp_path, monkeypatch, capsys):
    """A kill between the saving of the host's prompts and of the head."""
    line = arguments(data_root, tmp_path, "Spotlighter")
    broken_off(line, monkeypatch)
    (tmp_path / "spotlighter" / "checkpoint").write_text("model.pth.tar-1\n")
    capsys.readouterr()
    assert train.main(line) == 0
    said = capsys.readouterr().out
    assert "No checkpoint that all models have" in said and "epoch [1/3]" in said


# --- bad input: one sentence, exit code not 0, before any long work -------------------------------------------


def one_sentence(capsys) -> str:
    err = [line for line in capsys.readouterr().err.splitlines() if line.strip()]
    errors = [line for line in err if line.startswith("error: ")]
    assert len(errors) == 1 and not any("Traceback" in line for line in err)
    return errors[0]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (dict(trainer="CoOpp", config_file="configs/trainers/CoOp/embedded.yaml"), "CoOp"),
        (dict(options=["DATASET.NAME", "Caltec101"]), "Caltech101"),
        (dict(options=["OPTIM.MAX_EPOCHS", 3]), "OPTIM.MAX_EPOCH"),
        (dict(options=["OPTIM.LR"]), "OPTIM.LR"),
        (dict(options=["OPTIM.MAX_EPOCH", "many"]), "OPTIM.MAX_EPOCH"),
        (dict(backbone="ViT-B/61"), "'ViT-B/16'"),
        (dict(options=["INPUT.SIZE", "(224, 224)"]), "(64, 64)"),
        (dict(options=["TRAINER.COOP.PREC", "fp16"]), "fp32"),
        (dict(options=["TRAINER.COOP.PREC", "fp8"]), "auto, fp32, fp16, bf16, amp"),
        (dict(subsample="bass"), "all, base, new"),
        (dict(config_file="configs/trainers/CoOp/nowhere.yaml"), "nowhere.yaml"),
        (dict(eval_only=True), "--model-dir"),
        (dict(eval_only=True, model_dir="nowhere"), "nowhere"),
        (dict(trainer="Spotlighter", options=["TRAINER.SPOTLIGHTER.HOST", "CoOq"]), "CoOp"),
        (dict(trainer="Spotlighter", options=["TRAINER.SPOTLIGHTER.HOST", "Spotlighter"]), "itself"),
    ],
    ids=lambda value: " ".join(map(str, value.values())) if isinstance(value, dict) else "",
)
def test_bad_input(data_root, tmp_path, capsys, change, says, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.chdir(REPOSITORY)
    assert train.main(arguments(data_root, tmp_path / "out", **change)) == 2
    assert says in one_sentence(capsys)


def test_wrong_root(tmp_path, capsys):
    assert train.main(arguments(tmp_path / "nowhere", tmp_path / "out")) == 2
    assert "nowhere does not exist" in one_sentence(capsys)
    assert results(tmp_path / "out")["state"] == "failed" and results(tmp_path / "out")["refused"]


def test_output_folder_that_is_a_file(data_root, tmp_path, capsys):
    (tmp_path / "out").write_text("precious")
    assert train.main(arguments(data_root, tmp_path / "out")) == 2
    assert str(tmp_path / "out") in one_sentence(capsys)
    assert (tmp_path / "out").read_text() == "precious"


@pytest.mark.parametrize("workers", [0, 2])
def test_a_corrupt_image(data_root, tmp_path, capsys, workers):
    """Named in one sentence, also where a loader's worker meets it; nothing hangs."""
    shutil.copytree(data_root, tmp_path / "data")
    (tmp_path / "data/caltech-101/101_ObjectCategories/green/test_2.png").write_bytes(b"no picture")
    line = arguments(tmp_path / "data", tmp_path / "out", "ZeroshotCLIP", options=["DATALOADER.NUM_WORKERS", workers])
    assert train.main(line) == 2
    assert re.fullmatch(r"error: The image \S+/green/test_2\.png cannot be read .*", one_sentence(capsys))


def test_a_loss_that_is_no_number(data_root, tmp_path, capsys):
    options = ["OPTIM.LR", 1e30, "OPTIM.WARMUP_EPOCH", -1]
    assert train.main(arguments(data_root, tmp_path, options=options)) == 2
    assert "infinite or NaN in epoch" in one_sentence(capsys)
    assert results(tmp_path)["state"] == "failed" and "refused" not in results(tmp_path)


def test_no_train_builds_and_stops(data_root, tmp_path):
    assert train.main(arguments(data_root, tmp_path, no_train=True)) == 0
    assert results(tmp_path)["state"] == "failed" and "--no-train" in results(tmp_path)["why"]
    assert not list(tmp_path.rglob("*.tar*"))


def test_other_settings_of_the_method_are_named(trained, data_root, tmp_path, capsys):
    """What is learned does not hold them, and a prediction may follow them: a test says so, and one with the run's own says nothing."""
    flags = {"model_dir": trained / "CoOp", "eval_only": True, "subsample": "new"}
    for where, options in (("front", ["TRAINER.COOP.CLASS_TOKEN_POSITION", "front"]), ("", [])):
        train.main(arguments(data_root, tmp_path / f"test_{where}", "CoOp", options=options, **flags))
        said = capsys.readouterr().out
        note = "with other settings of its method, and is tested with these: TRAINER.COOP.CLASS_TOKEN_POSITION is 'end' there and 'front'"
        assert (note in said) == bool(where) and said.count("with other settings of its method") == bool(where)


def test_checkpoint_of_another_method(trained, data_root, tmp_path, capsys):
    line = arguments(data_root, tmp_path, "Spotlighter", model_dir=trained / "CoOp", eval_only=True)
    assert train.main(line) == 2
    assert "method CoOp" in one_sentence(capsys)
    os.rename(trained / "CoOp" / "results.json", trained / "CoOp" / "aside")  # as other code bases' runs have none
    try:
        assert train.main(line) == 2
        assert "holds prompt_learner" in one_sentence(capsys)
    finally:
        os.rename(trained / "CoOp" / "aside", trained / "CoOp" / "results.json")


def test_checkpoint_of_another_context_length(trained, data_root, tmp_path, capsys):
    options = ["TRAINER.COOP.CTX_INIT", "", "TRAINER.COOP.N_CTX", 7]
    assert (
        train.main(arguments(data_root, tmp_path, "CoOp", model_dir=trained / "CoOp", eval_only=True, options=options))
        == 2
    )
    assert "does not fit this run" in one_sentence(capsys)


def test_truncated_checkpoint(trained, data_root, tmp_path, capsys):
    (tmp_path / "run" / "prompt_learner").mkdir(parents=True)
    whole = (trained / "CoOp" / "prompt_learner" / "model.pth.tar-3").read_bytes()
    (tmp_path / "run" / "prompt_learner" / "model.pth.tar-3").write_bytes(whole[: len(whole) // 2])
    line = arguments(data_root, tmp_path / "out", "CoOp", model_dir=tmp_path / "run", load_epoch=3, eval_only=True)
    assert train.main(line) == 2
    assert "model.pth.tar-3" in one_sentence(capsys)


@pytest.mark.parametrize("content", [None, b"half a file"])
def test_missing_and_truncated_weights(data_root, tmp_path, capsys, content):
    path = tmp_path / "weights.pt"
    if content:
        path.write_bytes(content)
    assert train.main(arguments(data_root, tmp_path / "out", "CoOp", backbone=path)) == 2
    assert "weights.pt" in one_sentence(capsys)


def test_two_commands_in_one_folder(data_root, tmp_path, capsys):
    """The second is refused while the first is at work, whatever it asks for, and changes nothing."""
    with alone_in(tmp_path):
        assert train.main(arguments(data_root, tmp_path, options=["OPTIM.LR", 0.5])) == 2
        assert f"is at work already (process {os.getpid()} on" in one_sentence(capsys)
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_what_the_first_has_finished_meanwhile_is_skipped(data_root, tmp_path, monkeypatch, capsys):
    line = arguments(data_root, tmp_path, "ZeroshotCLIP")

    @contextlib.contextmanager
    def after_another(folder):
        with monkeypatch.context() as patch:
            patch.setattr("one_run.work.alone_in", alone_in)
            assert train.main(line) == 0
        capsys.readouterr()
        yield

    monkeypatch.setattr("one_run.work.alone_in", after_another)
    assert train.main(line) == 0
    assert "Skipped" in capsys.readouterr().out
