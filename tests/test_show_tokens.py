"""Pictures of what a run looks at, from the command line: which files are written, and what is refused."""

import json
import shutil

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

import show_tokens
import train
from one_run.rebuild import rebuild
from show_tokens import draw, look, main, names_of_pictures
from tests.helpers import CLASSES, arguments
from tests.trainers.spotlighter.world import SECOND_LOOK
from trainers.spotlighter import over_host

PIXELS = ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711])  # CLIP's mean and deviation


@pytest.fixture(scope="module")
def run(data_root, tmp_path_factory):
    """A finished run that drops tokens and zooms, on the base classes."""
    output = tmp_path_factory.mktemp("runs") / "spotlighter"
    keys = {"KEEP": 0.6, "ZOOM": 3}
    options = [part for key, value in keys.items() for part in (f"TRAINER.SPOTLIGHTER.{key}", value)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(over_host, "choose_zoom", lambda *_: SECOND_LOOK)
        assert train.main(arguments(data_root, output, "Spotlighter", options=["OPTIM.MAX_EPOCH", 1, *options])) == 0
    return output


def image_of(path, size=(80, 64), seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def test_a_folder(run, tmp_path, monkeypatch, capsys):
    """Every image at any depth, one picture each, of the very image that the model saw."""
    photos = {"a.png": (80, 64), "x/a.png": (50, 90), "x/y/B.JPG": (64, 64), "a.jpg": (64, 64)}
    for seed, (name, size) in enumerate(photos.items()):
        image_of(tmp_path / "photos" / name, size, seed)
    (tmp_path / "photos" / "notes.txt").write_text("no image")
    (tmp_path / "photos" / ".a.png").write_text("no image either")
    saw, drawn = [], []
    monkeypatch.setattr(show_tokens, "look", lambda t, x: saw.append(x[0]) or look(t, x))
    monkeypatch.setattr(show_tokens, "draw", lambda *a: drawn.append(a) or draw(*a))
    assert main([str(run), str(tmp_path / "photos"), "--out", str(tmp_path / "out")]) == 0
    written = sorted(path for path in (tmp_path / "out").rglob("*") if path.is_file())
    names = ["a.png.png", "x/a.png", "x/y/B.png", "a.jpg.png"]  # the first and the last lie in one folder
    assert written == sorted(tmp_path / "out" / "Caltech101_base" / "photos" / name for name in names)
    lines = capsys.readouterr().out.splitlines()
    for path in written:
        with Image.open(path) as picture:
            picture.load()
            assert picture.format == "PNG" and picture.width > 3 * picture.height
        assert any(line.startswith(f"{path}: ") and line.split(": ")[1].split(",")[0] in CLASSES[:3] for line in lines)
    mean, deviation = (torch.tensor(x)[:, None, None] for x in PIXELS)
    for normalised, (picture, _, names, title) in zip(saw, drawn, strict=True):
        assert torch.allclose((picture - mean) / deviation, normalised, atol=1e-5)
        assert names == CLASSES[:3] and "KEEP 0.6, ZOOM 3" in title and "Spotlighter over CoOp" in title


def test_classes_and_root(run, data_root, tmp_path, monkeypatch):
    """Other classes, in a data folder that was moved; a kill or a full disk leaves the former picture."""
    shutil.copytree(data_root, tmp_path / "moved")
    roots, names = [], []

    def rebuilt(*args):
        trainer = rebuild(*args)
        roots.append(trainer.cfg.DATASET.ROOT)
        names.append(list(trainer.lab2cname.values()))
        return trainer

    monkeypatch.setattr(show_tokens, "rebuild", rebuilt)
    image, out = image_of(tmp_path / "photos" / "a.png"), tmp_path / "out"
    line = [str(run), str(image), "--out", str(out), "--root", str(tmp_path / "moved"), "--classes", "new"]
    assert main(line) == 0
    assert roots == [str(tmp_path / "moved")] and names == [CLASSES[3:]]
    picture = out / "Caltech101_new" / "photos" / "a.png"
    former = picture.read_bytes()

    def full_disk(self, file, **_):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", full_disk)
    assert main(line) == 2
    assert [path for path in out.rglob("*") if path.is_file()] == [picture] and picture.read_bytes() == former


def test_one_image_among_several_class_sets(run, tmp_path, capsys):
    """A picture for each, beside one another; and never in place of the image itself."""
    image, out = image_of(tmp_path / "Caltech101_base" / "photos" / "a.png"), tmp_path / "out"
    for classes in ([], ["--classes", "base"], ["--classes", "all"]):
        assert main([str(run), str(image), "--out", str(out), *classes]) == 0
    written = sorted(path for path in out.rglob("*") if path.is_file())
    assert written == [out / f"Caltech101_{classes}" / "photos" / "a.png" for classes in ("all", "base")]
    former = image.read_bytes()
    assert main([str(run), str(image), "--out", str(tmp_path)]) == 2
    assert "a.png would take its place" in capsys.readouterr().err and image.read_bytes() == former


def test_folders_of_one_name_keep_their_pictures(run, tmp_path, monkeypatch):
    """Drawn into one --out, and again: one picture each. So do own classes of two data roots."""
    out = tmp_path / "out"
    folders = [image_of(tmp_path / owner / "photos" / "a.png", seed=seed).parent for seed, owner in enumerate("xy")]
    for folder in (*folders, *folders):
        assert main([str(run), str(folder), "--out", str(out)]) == 0
    written = sorted(path for path in out.rglob("*") if path.is_file())
    assert [path.name for path in written] == ["a-2.png", "a.png"]
    assert written[0].read_bytes() != written[1].read_bytes()
    monkeypatch.setattr(show_tokens, "is_its_root", lambda name: True)
    assert main([str(run), str(folders[0]), "--out", str(out)]) == 0
    assert sorted(path.name for path in out.rglob("*.png")) == ["a-2.png", "a-3.png", "a.png"]


def test_a_broken_image_is_named_and_passed_over(run, tmp_path, capsys):
    for name in "acd":
        image_of(tmp_path / "photos" / f"{name}.png")
    for name in "bc":
        (tmp_path / "photos" / f"{name}.png").write_bytes(b"no picture")
    assert main([str(run), str(tmp_path / "photos"), "--out", str(tmp_path / "out")]) == 1
    assert sorted(path.name for path in (tmp_path / "out").rglob("*.png")) == ["a.png", "d.png"]
    first, second, last = capsys.readouterr().err.splitlines()
    assert first.startswith("error: ") and "b.png cannot be read" in first and "c.png cannot be read" in second
    assert last == "2 of 4 images are drawn, the others cannot be read."


@pytest.mark.parametrize(
    "there, asked, name",
    [
        (["x.jpg"], "x.jpg", "x.png"),
        (["x.jpg", "x.txt", ".x.png", "y.png"], "x.jpg", "x.png"),  # no images beside it
        (["x.jpg", "x.png"], "x.jpg", "x.jpg.png"),
        (["x.jpg", "X.png"], "X.png", "X.png.png"),  # one file on a disk that knows no capitals
        (["x.jpg", "x.png", "x.jpg.gif"], "x.jpg.gif", "x.jpg.gif.png"),  # not the name of x.jpg's
        (["x.dat"], "x.dat", "x.png"),  # asked for by its name, an image may be called as it likes
    ],
)
def test_names_of_pictures(tmp_path, there, asked, name):
    for file in there:
        (tmp_path / file).touch()
    assert names_of_pictures(tmp_path, [tmp_path / asked])[tmp_path / asked] == name


def test_the_two_maps_are_explained(run, tmp_path, monkeypatch, capsys):
    figures = []
    monkeypatch.setattr(show_tokens, "draw", lambda *a: figures.append(draw(*a)) or figures[0])
    assert main([str(run), str(image_of(tmp_path / "photos" / "a.png")), "--out", str(tmp_path / "out")]) == 0
    titles = [panel.get_title() for panel in figures[0].axes]
    assert any(title.startswith("sample-wise") and "near the texts of the classes" in title for title in titles)
    assert any(title.startswith("semantic-wise") and "near the training images" in title for title in titles)
    with pytest.raises(SystemExit):
        main(["--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert (
        "sample-wise map: how near each token is to the texts" in said and "semantic-wise map: how near it is" in said
    )


def changed_record(run, folder, **changes):
    """A copy of the run whose record says something else."""
    shutil.copytree(run, folder)
    record = json.loads((run / "results.json").read_text())
    (folder / "results.json").write_text(json.dumps(record | changes))
    return folder


def broken_alone(folder):
    (folder / "a.png").unlink()
    return folder


BAD = {
    "no run": lambda run, tmp: ([tmp / "nowhere", tmp / "a.png"], "nowhere does not exist"),
    "no record": lambda run, tmp: ([tmp, tmp / "a.png"], "holds no results.json"),
    "method": lambda run, tmp: ([changed_record(run, tmp / "b", method="CoOp"), tmp / "a.png"], "is a run of CoOp"),
    "unfinished": lambda run, tmp: ([changed_record(run, tmp / "b", state="running"), tmp / "a.png"], "not finished"),
    "a test": lambda run, tmp: (
        [changed_record(run, tmp / "b", weights={"model_dir": "there"}), tmp / "a.png"],
        "test of the model in there",
    ),
    "no image": lambda run, tmp: ([run, tmp / "b.png"], "b.png does not exist"),
    "empty folder": lambda run, tmp: ([run, run], "no image under"),
    "unreadable": lambda run, tmp: ([run, tmp / "broken.png"], "broken.png cannot be read"),
    "all unreadable": lambda run, tmp: ([run, broken_alone(tmp)], "broken.png cannot be read"),
    "data": lambda run, tmp: ([run, tmp / "a.png", "--root", tmp / "nowhere"], "nowhere does not exist: pass --root"),
    "epoch": lambda run, tmp: ([run, tmp / "a.png", "--load-epoch", 7], "choose one with --load-epoch"),
    "key": lambda run, tmp: ([run, tmp / "a.png", "--opts", "OPTIM.RL", 1], "OPTIM.LR"),
    "out a file": lambda run, tmp: ([run, tmp / "a.png", "--out", tmp / "a.png"], "a.png is a file"),
    "out among images": lambda run, tmp: ([run, tmp, "--out", tmp / "sub"], "choose another --out"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(run, tmp_path, case, capsys, monkeypatch):
    """One sentence that names the thing, exit code 2, and no file written."""
    monkeypatch.chdir(tmp_path)
    image_of(tmp_path / "a.png")
    whole = image_of(tmp_path / "broken.png").read_bytes()
    (tmp_path / "broken.png").write_bytes(whole[: len(whole) // 2])
    line, says = BAD[case](run, tmp_path)
    if "--out" not in line:
        line += ["--out", tmp_path.parent / f"{tmp_path.name}_out"]
    before = sorted(tmp_path.parent.rglob("*"))
    assert main([str(part) for part in line]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1 and errors[0].startswith("error: ") and says in errors[0]
    assert sorted(tmp_path.parent.rglob("*")) == before
