"""Your own pictures (../datasets/folder.py): class folders, parts above them, CSV files, names, and what is refused."""

import csv

import numpy as np
import pytest
import torch
from PIL import Image

import train
from dassl.data.datasets import build_dataset
from dassl.utils import InputError, set_random_seed
from tests.helpers import REPOSITORY, results

COLOURS = {
    "Crimson thing": (200, 20, 20),
    "grass_green": (30, 160, 40),
    "n01": (40, 60, 200),
    "über grey": (90, 90, 90),
}


def picture(path, colour=(0, 0, 0), chance=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = (chance or np.random.default_rng(0)).integers(0, 60, (64, 64, 3)) + np.array(colour)
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)


def folders(root, count=10, parts=("",), names=COLOURS):
    chance = np.random.default_rng(0)
    for part in parts:
        for name in names:
            for index in range(count):
                picture(root / part / name / f"{index}.{'JPG' if index % 2 else 'png'}", COLOURS[name], chance)
    return root


def write_csv(path, *rows):
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


def line(root, output=None, trainer="CoOp", **options):
    config = REPOSITORY / f"configs/trainers/{trainer}/embedded.yaml"
    parts = ["--root", root, "--seed", 1, "--trainer", trainer, "--config-file", config]
    parts += ["--dataset-config-file", REPOSITORY / "configs/datasets/folder.yaml"]
    parts += ["--output-dir", output] if output else []
    parts += [part for key, value in options.items() for part in (key.replace("__", "."), value)]
    return [str(part) for part in parts]


def read(root, **options):
    set_random_seed(1)
    return build_dataset(train.build_config(train.parse_arguments(line(root, **options))))


def paths(items, root):
    return sorted(item.impath.removeprefix(f"{root}/") for item in items)


def test_class_folders_are_divided(tmp_path):
    (folders(tmp_path) / "n01" / "notes.txt").write_text("no picture")
    (tmp_path / ".hidden").mkdir()
    dataset = read(tmp_path)
    assert dataset.classnames == ["Crimson thing", "grass_green", "n01", "über grey"]
    assert [len(part) for part in (dataset.train_x, dataset.val, dataset.test)] == [4 * 5, 4 * 2, 4 * 3]
    everything = paths([*dataset.train_x, *dataset.val, *dataset.test], tmp_path)
    assert everything == sorted(
        str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.suffix in (".JPG", ".png")
    )
    assert paths(read(tmp_path).test, tmp_path) == paths(dataset.test, tmp_path)  # the same each time


def test_parts_above_the_class_folders(tmp_path):
    folders(tmp_path, 3, ("train", "test"))
    dataset = read(tmp_path)
    assert (len(dataset.train_x), dataset.val, len(dataset.test)) == (12, None, 12)
    assert all("/test/" in item.impath and item.classname in item.impath for item in dataset.test)
    folders(tmp_path, 2, ("val",), ["n01"])  # labels are by name, although here it is the first
    assert [item.label for item in read(tmp_path).val] == [2, 2]


def test_few_shots_and_halves(tmp_path):
    folders(tmp_path)
    base = read(tmp_path, DATASET__NUM_SHOTS=2, DATASET__SUBSAMPLE_CLASSES="base")
    assert base.classnames == ["Crimson thing", "grass_green"] and len(base.train_x) == 4
    again = read(tmp_path, DATASET__NUM_SHOTS=2, DATASET__SUBSAMPLE_CLASSES="new")  # now there is a split_fewshot/
    assert again.classnames == ["n01", "über grey"] and {item.label for item in again.test} == {0, 1}


def test_csv(tmp_path):
    folders(tmp_path / "jumbled", 4)
    name = "jumbled/n01/0.png"
    write_csv(tmp_path / "list.csv", ["path", "class", "split"], [name, "b", "train"], ["jumbled/n01/1.JPG", "a", ""], ["jumbled/n01/2.png", "b", "test"])  # fmt: skip
    dataset = read(tmp_path, DATASET__FOLDER__CSV="list.csv")
    assert dataset.classnames == ["a", "b"]
    assert [(item.impath, item.label) for item in dataset.test] == [(f"{tmp_path}/jumbled/n01/2.png", 1)]
    assert paths(dataset.train_x, tmp_path) == [name, "jumbled/n01/1.JPG"]
    rows = [[f"jumbled/{kind}/{index}.{'JPG' if index % 2 else 'png'}", kind] for kind in COLOURS for index in range(4)]
    write_csv(tmp_path / "plain.csv", ["path", "class"], *rows)
    dataset = read(tmp_path, DATASET__FOLDER__CSV=tmp_path / "plain.csv")
    assert [len(part) for part in (dataset.train_x, dataset.val, dataset.test)] == [8, 4, 4]


def test_names_and_template(tmp_path):
    folders(tmp_path)
    write_csv(tmp_path / "names.csv", ["folder", "name"], ["n01", "deep sea"])
    dataset = read(tmp_path, DATASET__FOLDER__NAMES="names.csv", DATASET__FOLDER__TEMPLATE="a {} surface.")
    assert dataset.classnames == ["Crimson thing", "grass_green", "deep sea", "über grey"]
    assert dataset.template == "a {} surface."


@pytest.mark.parametrize("trainer", ["CoOp", "Spotlighter", "ZeroshotCLIP"])
def test_a_run_introduces_the_set_before_it_trains(tmp_path, capsys, trainer):
    folders(tmp_path / "pictures")
    options = {"DATASET__NUM_SHOTS": 2, "OPTIM__MAX_EPOCH": 1, "DATALOADER__TRAIN_X__BATCH_SIZE": 4}
    assert train.main(line(tmp_path / "pictures", tmp_path / "out", trainer, **options)) == 0
    said = capsys.readouterr().out
    prompts = (
        "Prompts: a photo of a Crimson thing. a photo of a grass green. a photo of a n01. a photo of a über grey.\n"
    )
    assert prompts in said and "% of 8 validation images" in said
    assert said.index(prompts) < said.index("Lowest: ") < said.index("Evaluate on")
    if trainer != "ZeroshotCLIP":
        assert said.index("Lowest: ") < said.index("epoch [1/1]")
    assert len(results(tmp_path / "out")["classwise"]) == 4


def test_another_folder_is_another_data_set(tmp_path, capsys):
    """Other data sets may move: what lies under the root counts. Here the root is the data."""
    options = {"DATASET__NUM_SHOTS": 1, "OPTIM__MAX_EPOCH": 1}
    for name in ("one", "two"):
        folders(tmp_path / name)
    assert train.main(line(tmp_path / "one", tmp_path / "out", **options)) == 0
    assert train.main(line(tmp_path / "one", tmp_path / "out", **options)) == 0
    assert "Skipped" in capsys.readouterr().out
    assert train.main(line(tmp_path / "two", tmp_path / "out", **options)) == 2
    assert "config.DATASET.ROOT is" in capsys.readouterr().err


def test_the_introduction_counts_right(tmp_path, capsys, monkeypatch):
    """With a test set alone, whose predictions are known: all are called the first class."""
    folders(tmp_path / "set", 3, ("train", "test"))
    nearest_none = lambda model, names, template: torch.zeros(len(names), 128)  # noqa: E731  so the first one is taken
    monkeypatch.setattr("trainers.clip_trainer.zero_shot_text_features", nearest_none)
    assert train.main(line(tmp_path / "set", tmp_path / "out", DATASET__NUM_SHOTS=1, OPTIM__MAX_EPOCH=1)) == 0
    said = capsys.readouterr().out
    assert "Zero-shot CLIP: 25.0% of 12 test images" in said
    assert "Lowest: 'grass green' 0%, 'n01' 0%, 'über grey' 0%" in said


@pytest.mark.parametrize(
    ("change", "options", "says"),
    [
        (lambda root: (root / "empty").mkdir(), {}, "empty holds no images"),
        (lambda root: folders(root, 2, ("train",)), {}, "holds train/ and beside it Crimson thing/"),
        (lambda root: picture(root / "grass green" / "1.png"), {}, "'grass green'.* has 1 images, too few .* takes 4: add some"),
        (lambda root: [picture(root / "Grass Green" / f"{i}.png") for i in range(9)], {}, "'Grass Green' and 'grass_green' have the same name"),
        (lambda root: None, {"DATASET__FOLDER__TEMPLATE": "a photo"}, "a text with one {}"),
        (lambda root: None, {"DATASET__FOLDER__CSV": "nowhere.csv"}, "nowhere.csv cannot be read"),
        (lambda root: write_csv(root / "l.csv", ["path", "class"]), {"DATASET__FOLDER__CSV": "l.csv"}, "no rows below its header"),
        (lambda root: write_csv(root / "l.csv", ["path", "label"], ["n01/0.png", "a"]), {"DATASET__FOLDER__CSV": "l.csv"}, "line 2: there is no class"),
        (lambda root: write_csv(root / "l.csv", ["path", "class", "split"], ["n01/0.png", "a", "dev"]), {"DATASET__FOLDER__CSV": "l.csv"}, "line 2: the split 'dev'"),
        (lambda root: write_csv(root / "l.csv", ["path", "class"], ["n01/0.png", "a"], ["n01/77.png", "a"], ["gone/1.png", "a"]), {"DATASET__FOLDER__CSV": "l.csv"}, "2 images that are not in .*, n01/77.png first"),
        (lambda root: write_csv(root / "n.csv", ["folder", "name"], ["n02", "sea"]), {"DATASET__FOLDER__NAMES": "n.csv"}, "'n02', which is no class here: there are Crimson thing"),
    ],
)  # fmt: skip
def test_what_is_refused(tmp_path, change, options, says):
    root = folders(tmp_path / "pictures", 10)
    change(root)
    with pytest.raises(InputError, match=says) as error:
        read(root, **options)
    assert "\n" not in str(error.value)


def test_parts_that_do_not_fit(tmp_path):
    folders(tmp_path / "alone", 2, ("train",))
    with pytest.raises(InputError, match="training images and none to test on"):
        read(tmp_path / "alone")
    folders(tmp_path / "more", 2, ("train", "test"))
    picture(tmp_path / "more" / "test" / "new" / "1.png")
    with pytest.raises(InputError, match="'new' has test images and no training image"):
        read(tmp_path / "more")


def test_a_typo_in_its_keys_is_named(tmp_path, capsys):
    assert train.main(line(folders(tmp_path), tmp_path / "out", DATASET__FOLDER__TEMPLATES="{}")) == 2
    assert "DATASET.FOLDER.TEMPLATE" in capsys.readouterr().err
