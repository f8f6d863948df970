"""Exports as files (deploy/), and export.py: what is written is the run, and is used without this code."""

import ast
import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import export
import predict
import train
from deploy import folder as deploy_folder
from deploy import formats
from tests.helpers import CLASSES, REPOSITORY, arguments, results
from tests.trainers.spotlighter.world import SECOND_LOOK
from trainers.spotlighter import over_host

onnx = pytest.importorskip("onnxruntime", reason="it comes with requirements-test.txt")


@pytest.fixture(scope="module")
def run(data_root, tmp_path_factory):
    """Spotlighter that drops tokens and looks again."""
    output = tmp_path_factory.mktemp("runs") / "spotlighter"
    options = ["OPTIM.MAX_EPOCH", 1, "TRAINER.SPOTLIGHTER.KEEP", 0.6, "TRAINER.SPOTLIGHTER.ZOOM", 3]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(over_host, "choose_zoom", lambda *_: SECOND_LOOK)
        assert train.main(arguments(data_root, output, "Spotlighter", options=options)) == 0
    return output


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    out = tmp_path_factory.mktemp("exports") / "classifier"
    assert export.main([str(run), "--out", str(out), "--onnx", "--int8", "--pt2", "--pictures", "0"]) == 0
    return out


def test_what_is_in_the_folder(run, exported):
    names = {"model.onnx", "model_int8.onnx", "model.pt2", "labels.json", "preprocess.json", "run.json", "comparison.json", "use_me.py"}  # fmt: skip
    assert {path.name for path in exported.iterdir()} == names
    assert [path.name for path in exported.parent.iterdir()] == ["classifier"]  # nothing is left over
    assert json.loads((exported / "labels.json").read_text()) == CLASSES[:3]
    assert json.loads((exported / "run.json").read_text()) == results(run)


def test_it_is_compared_with_the_run(run, exported):
    found = json.loads((exported / "comparison.json").read_text())
    assert found["pictures"] == 12 and found["run"]["accuracy"] == results(run)["accuracy"]
    for name in ("model.onnx", "model.pt2"):
        assert found[name]["largest_difference"] < 1e-4 and found[name]["same_class"] == 100
        assert found[name]["accuracy"] == found["run"]["accuracy"]
    int8 = found["model_int8.onnx"]
    assert 1e-6 < int8["largest_difference"] < 0.5 and int8["images_per_second"] > 0
    assert int8["megabytes"] < found["model.onnx"]["megabytes"] / 2


def test_it_is_used_without_this_code(run, exported, data_root, tmp_path, capsys):
    """In a folder of its own, by a process that finds no module of ours: the probabilities are those of predict.py."""
    picture = data_root / "caltech-101" / "101_ObjectCategories" / "red" / "test_1.png"
    wide = tmp_path / "wide.jpg"
    with Image.open(picture) as image:
        image.resize((131, 70)).save(wide)
    grey = tmp_path / "grey.png"
    Image.fromarray(np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)).save(grey)
    asked = [str(picture), str(wide), str(grey)]
    done = subprocess.run(
        [sys.executable, "-I", exported / "use_me.py", *asked], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert predict.main([str(run), *asked, "--csv"]) == 0
    expected = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert done.stdout.splitlines() == [
        f"{row['path']}: {row['class']} {float(row['probability']):.1%}" for row in expected
    ]


def test_what_the_script_needs():
    """onnxruntime, numpy and pillow; and it stays one screen."""
    text = (REPOSITORY / "deploy" / "use_me.py").read_text()
    imports = [node for node in ast.walk(ast.parse(text)) if isinstance(node, (ast.Import, ast.ImportFrom))]
    modules = {alias.name for node in imports if isinstance(node, ast.Import) for alias in node.names}
    modules |= {node.module for node in imports if isinstance(node, ast.ImportFrom)}
    assert modules - set(sys.stdlib_module_names) == {"numpy", "onnxruntime", "PIL"}
    assert len(text.splitlines()) < 40


def test_other_classes_calibrated(run, tmp_path, capsys):
    """Their texts are baked in. Their pictures have no labels, so that there are differences alone."""
    line = [
        str(run),
        "--out",
        str(tmp_path / "out"),
        "--pt2",
        "--classes",
        "a cow, red",
        "--calibrated",
        "--pictures",
        "3",
    ]
    assert export.main(line) == 0
    assert json.loads((tmp_path / "out" / "labels.json").read_text()) == ["a cow", "red"]
    found = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert found["pictures"] == 3 and found["temperature"] == results(run)["calibration"]["temperature"] != 1
    assert "accuracy" not in found["run"] and found["model.pt2"]["largest_difference"] < 1e-4
    assert not (tmp_path / "out" / "use_me.py").exists()  # which needs ONNX
    function = formats.read_pt2(tmp_path / "out" / "model.pt2")
    assert np.allclose(function(np.zeros((2, 3, 64, 64), np.float32)).sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("how", ["there", "file", "link", "cwd", "disk", "count", "no onnx", "no run", "no data"])
def test_what_is_refused_leaves_nothing(run, tmp_path, capsys, monkeypatch, how):
    out, line, says = tmp_path / "out", [], ""
    if how == "there":
        (out / "x").mkdir(parents=True)
        says = f"--out {out} is there already"
    elif how == "file":
        out.write_text("")
        says = f"--out {out} is there already"
    elif how == "link":
        out.symlink_to("nowhere")
        says = f"--out {out} is there already"
    elif how == "cwd":
        monkeypatch.chdir(tmp_path)
        out, says = Path(), "--out . cannot be made"
        line = ["--pt2", "--no-comparison"]
    elif how == "disk":
        monkeypatch.setattr(formats.torch.export, "save", lambda *_: os.write(os.open("/dev/full", os.O_WRONLY), b"x"))
        line, says = ["--pt2", "--no-comparison"], "model.pt2 could not be written (No space left on device)"
    elif how == "count":
        line, says = ["--pictures", "-5"], "--pictures is -5: choose 0, which is all, or more"
    elif how == "no onnx":
        monkeypatch.setattr(formats.importlib.util, "find_spec", lambda name: None if name == "onnxscript" else name)
        says = "ONNX needs onnxscript: pip install -r requirements-export.txt, or choose --pt2 alone"
    elif how == "no run":
        run, says = tmp_path, "holds no results.json"
    else:
        line, says = ["--root", str(tmp_path / "nowhere")], "does not exist"
    before = sorted(tmp_path.rglob("*"))
    assert export.main([str(run), "--out", str(out), *line]) == 2
    assert says in capsys.readouterr().err and sorted(tmp_path.rglob("*")) == before


def test_a_failure_in_the_midst_leaves_nothing(run, tmp_path, monkeypatch):
    monkeypatch.setitem(deploy_folder.FORMATS, "model.pt2", formats.Format(formats.write_pt2, lambda path: 1 / 0))
    with pytest.raises(ZeroDivisionError):
        export.main([str(run), "--out", str(tmp_path / "out"), "--pt2"])
    assert not list(tmp_path.iterdir())


def test_a_file_that_differs_is_told(run, tmp_path, monkeypatch, capsys):
    def read(path):
        function = formats.read_pt2(path)
        return lambda images: function(images) + np.float32(2e-4)

    monkeypatch.setitem(deploy_folder.FORMATS, "model.pt2", formats.Format(formats.write_pt2, read))
    assert export.main([str(run), "--out", str(tmp_path / "out"), "--pt2"]) == 1
    assert (
        "differs from the run by more than 1e-4" in capsys.readouterr().err
        and (tmp_path / "out" / "model.pt2").exists()
    )


def test_without_its_data(run, tmp_path, capsys):
    line = [str(run), "--out", str(tmp_path / "out"), "--pt2", "--no-comparison", "--root", str(tmp_path / "nowhere")]
    assert export.main(line) == 0 and "It was not compared with the run." in capsys.readouterr().out


def test_the_script_names_what_it_cannot_read(exported, data_root, tmp_path):
    """And goes on with the others; a model that was not exported is one sentence."""
    picture = data_root / "caltech-101" / "101_ObjectCategories" / "red" / "test_1.png"
    (tmp_path / "text.png").write_text("no picture")
    line = [
        sys.executable,
        "-I",
        exported / "use_me.py",
        tmp_path / "none.png",
        tmp_path / "text.png",
        tmp_path,
        picture,
    ]
    done = subprocess.run(line, capture_output=True, text=True)
    assert len(done.stdout.splitlines()) == 1 and len(done.stderr.splitlines()) == 3, done.stderr
    assert all(each.startswith("error: ") and "cannot be read" in each for each in done.stderr.splitlines())
    (tmp_path / "use_me.py").write_text((exported / "use_me.py").read_text())
    for name in ("labels.json", "preprocess.json"):
        (tmp_path / name).write_text((exported / name).read_text())
    done = subprocess.run([sys.executable, "-I", tmp_path / "use_me.py", picture], capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr == f"error: There is no {tmp_path / 'model.onnx'}.\n"


def test_a_run_of_a_gpu(data_root, tmp_path):
    """Whose config asks for fp16: the files are in fp32, and it is compared with itself in fp32."""
    run = tmp_path / "run"
    assert train.main(arguments(data_root, run, options=["OPTIM.MAX_EPOCH", 1])) == 0
    path = run / "results.json"
    text = path.read_text()
    assert '"PREC": "auto"' in text
    path.write_text(
        text.replace('"PREC": "auto"', '"PREC": "fp16"').replace('"precision": "fp32"', '"precision": "fp16"')
    )
    assert export.main([str(run), "--out", str(tmp_path / "out"), "--pt2", "--pictures", "3"]) == 0
    assert json.loads((tmp_path / "out" / "comparison.json").read_text())["pictures"] == 3
