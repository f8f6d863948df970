"""predict.py: what is printed, and what is refused."""

import csv
import io
import json
import os
import shutil
import subprocess
import sys

import pytest

import predict
import train
from one_run.predictor import Predictor
from predict import main
from tests.helpers import CLASSES, REPOSITORY, arguments

KNOWN = set(CLASSES[:3])


@pytest.fixture(scope="module")
def run(data_root, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "CoOp"
    assert train.main(arguments(data_root, folder, options=["OPTIM.MAX_EPOCH", 1])) == 0
    return folder


@pytest.fixture
def photos(data_root, tmp_path):
    """Three pictures, two of them below a folder, and what is none."""
    folder, source = tmp_path / "photos", data_root / "caltech-101" / "101_ObjectCategories"
    (folder / "x").mkdir(parents=True)
    for name, target in (("red", "b.png"), ("green", "x/a.png"), ("blue", "x/é, c.png")):
        shutil.copy(source / name / "test_0.png", folder / target)
    (folder / "notes.txt").write_text("no picture")
    return folder


def one_sentence(capsys) -> str:
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1, said
    return said


def test_text(run, photos, capsys):
    assert main([str(run), str(photos)]) == 0
    said = capsys.readouterr()
    assert "other settings" not in said.err  # PREC auto there and fp32 here is no other setting
    lines = said.out.splitlines()
    assert [line.split(": ")[0] for line in lines] == [
        str(photos / name) for name in ("b.png", "x/a.png", "x/é, c.png")
    ]
    for line in lines:
        words = line.split(": ")[1].replace("(", "").replace(")", "").replace(",", "").split()
        assert set(words[::2]) == KNOWN and sum(float(share.rstrip("%")) for share in words[1::2]) == pytest.approx(
            100, abs=0.2
        )


def test_json_and_csv_say_the_same(run, photos, capsys):
    assert main([str(run), str(photos), "--json", "--top", "2"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert main([str(run), str(photos), "--csv", "--top", "2"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert list(rows[0]) == ["path", "class", "probability", "class_2", "probability_2"] and len(rows) == 3
    for one, row in zip(found, rows, strict=True):
        (runner_up,) = one["runners_up"]
        assert row["path"] == one["path"] and row["class"] == one["class"] and row["class_2"] == runner_up["class"]
        assert float(row["probability"]) == one["probability"] > float(row["probability_2"]) == runner_up["probability"]


def test_broken_pictures_are_named_and_passed_over(run, photos, capsys):
    (photos / "a.png").write_bytes((photos / "b.png").read_bytes()[:200])
    assert main([str(run), str(photos), str(photos / "none.png"), "--csv"]) == 1
    said = capsys.readouterr()
    assert [row["path"] for row in csv.DictReader(io.StringIO(said.out))] == [str(photos / n) for n in ("b.png", "x/a.png", "x/é, c.png")]  # fmt: skip
    errors = [line for line in said.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 2 and str(photos / "a.png") in errors[0] and "none.png does not exist" in errors[1]
    assert said.err.splitlines()[-1] == "2 of 5 pictures cannot be read."
    assert main([str(run), str(photos / "a.png"), "--json"]) == 1
    assert json.loads(capsys.readouterr().out) == []


def test_names_on_the_standard_input(run, photos, tmp_path):
    """In a process of its own: nothing but the predictions is printed, a name may have any bytes."""
    odd = os.fsencode(photos) + b"/\xe9.png"
    shutil.copy(photos / "b.png", odd)
    names = b"\n".join([os.fsencode(photos / "b.png"), odd + b"\r", b""])
    line = [sys.executable, REPOSITORY / "predict.py", run, "--json"]
    done = subprocess.run(line, input=names, capture_output=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    first, second = json.loads(done.stdout)
    assert os.fsencode(second["path"]) == odd and first["probability"] == second["probability"]


@pytest.mark.parametrize("how", ["list", "file"])
def test_other_classes(run, photos, tmp_path, capsys, how):
    names = ["a cow", "sea, by night"] if how == "file" else ["a cow", "the sea"]
    (tmp_path / "names.txt").write_text("\n".join([*names, "", " "]), encoding="utf-8-sig")
    asked = str(tmp_path / "names.txt") if how == "file" else ", ".join(names)
    assert main([str(run), str(photos), "--json", "--classes", asked]) == 0
    for one in json.loads(capsys.readouterr().out):
        assert {one["class"], *(other["class"] for other in one["runners_up"])} == set(names)
    assert main([str(run), str(photos), "--json", "--classes", "new"]) == 0
    assert {one["class"] for one in json.loads(capsys.readouterr().out)} <= set(CLASSES[3:])


def test_calibrated(run, photos, capsys):
    assert main([str(run), str(photos), "--csv", "--calibrated"]) == 0
    said = capsys.readouterr()
    assert "Expected calibration error" in said.err and said.out.startswith("path,class")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--top", "0"], "--top is 0: choose 1 or more"),
        (["--classes", "a"], "--classes 'a' is one name, and no file is called so: name two classes or more"),
        (["--classes", "a,,b"], "--classes has an empty name"),
        (["--classes", "a, b,a"], "--classes names 'a' twice"),
        (["--device", "gpu"], "The device 'gpu' is unknown: choose cpu"),
        (["--device", "7"], "There is no GPU 7 here"),
        (["--load-epoch", "9"], "model.pth.tar-9 does not exist"),
    ],
)
def test_what_the_user_can_mend(run, photos, capsys, options, says, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert main([str(run), str(photos), *options]) == 2
    assert says in capsys.readouterr().err.splitlines()[-1]


def test_no_run_and_no_pictures(run, photos, tmp_path, capsys, monkeypatch):
    assert main([str(tmp_path / "nowhere"), str(photos)]) == 2 and "does not exist" in one_sentence(capsys)
    (tmp_path / "empty").mkdir()
    assert main([str(run), str(tmp_path / "empty")]) == 2 and "There is no picture under" in one_sentence(capsys)
    monkeypatch.setattr(predict.sys, "stdin", None)
    assert main([str(run)]) == 2 and "No picture is named" in one_sentence(capsys)


def test_names_and_folders_that_cannot_be_opened_are_named(run, photos, capsys, monkeypatch):
    """A name that is too long for any file, and a folder that may not be listed; what a link leads to is searched once."""
    (photos / "x" / "up").symlink_to(photos)
    (photos / "closed").mkdir()
    real = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: real(f"{path}/none" if str(path).endswith("closed") else path))
    assert main([str(run), str(photos), "a" * 300, "--csv"]) == 1
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == 1 + 3
    errors = [line for line in said.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 2 and "closed" in errors[0] and "aaa cannot be read (" in errors[1]
    assert main(["r" * 300, str(photos)]) == 2 and "does not exist" in one_sentence(capsys)


def test_a_name_of_two_lines_is_printed_in_one(run, photos, capsys):
    (photos / "b.png").rename(photos / "two\nlines.png")
    assert main([str(run), str(photos / "two\nlines.png")]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"{photos}/two\\nlines.png: ")


def test_json_that_breaks_off_is_whole(run, photos, capsys, monkeypatch):
    def each(self, paths, real=Predictor.each):
        yield next(real(self, paths))
        raise FloatingPointError("The logits are no numbers: mend it.")

    monkeypatch.setattr(Predictor, "each", each)
    assert main([str(run), str(photos), "--json"]) == 2
    (one,) = json.loads(capsys.readouterr().out)
    assert one["path"] == str(photos / "b.png")


def test_closed_streams(run, photos, monkeypatch, capsys):
    (photos / "a.png").write_bytes(b"")
    monkeypatch.setattr(sys, "stderr", None)
    assert main([str(run), str(photos), "--csv"]) == 1
    assert len(capsys.readouterr().out.splitlines()) == 1 + 3  # nothing of the errors
    monkeypatch.setattr(sys, "stdout", None)
    assert main([str(run), str(photos), "--csv"]) == 1


@pytest.mark.parametrize("form", ["--csv", "--json"])
def test_lines_beside_the_bar(run, photos, monkeypatch, form):
    """On a terminal both are in one place: a line begins where the bar was, and the bar does not write over it."""
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setattr(sys, "stderr", terminal)
    assert main([str(run), str(photos), form]) == 0
    assert "picture/s" in terminal.getvalue()
    shown = [line.rsplit("\r", 1)[-1] for line in terminal.getvalue().split("\n")]
    begins = str(photos) if form == "--csv" else '{"path"'
    assert sum(line.lstrip('"').startswith(begins) for line in shown) == 3


def test_names_that_the_backbone_cannot_tell_apart(run, photos, capsys):
    assert main([str(run), str(photos), "--classes", "cat, dog, red", "--csv"]) == 0
    said = capsys.readouterr()
    assert "Warning: 2 classes have one and the same text" in said.err and said.out.startswith("path,class")


def test_arguments_in_the_wrong_order(run, photos, capsys):
    assert main([str(photos / "b.png"), str(run)]) == 2 and "b.png does not exist" in capsys.readouterr().err


def test_an_empty_standard_input(run):
    done = subprocess.run([sys.executable, REPOSITORY / "predict.py", run], input=b"\n", capture_output=True)
    assert done.returncode == 2 and b"The standard input names no picture" in done.stderr


def test_a_gpu_that_is_hidden_is_not_taken(run, photos, capsys, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    monkeypatch.setattr("torch.cuda.is_available", lambda: os.environ["CUDA_VISIBLE_DEVICES"] != "")
    assert predict.choose_device("0") and os.environ["CUDA_VISIBLE_DEVICES"] == "3"
    with pytest.raises(predict.InputError, match="There is no GPU 1 here"):
        predict.choose_device("1")
