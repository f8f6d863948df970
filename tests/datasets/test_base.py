"""CoOp's splits, few-shot sampling and halves (../datasets/base.py)."""

import errno
import json
import random
import shutil

import pytest

from dassl.utils import InputError
from datasets.base import subsample_classes
from datasets.caltech101 import Caltech101
from datasets.splits import Item, divide, hold_out, read_split
from tests.datasets.helpers import config
from tests.helpers import CLASSES


def test_few_shots_are_those_of_the_protocol(data_root):
    """Python's random, seeded by the run: train first, then val with min(shots, 4), all classes, in order of labels."""
    split = json.loads((data_root / "caltech-101" / "split_zhou_Caltech101.json").read_text())
    random.seed(3)
    expected = {}
    for part, shots in (("train", 5), ("val", 4)):
        expected[part] = []
        for label in range(len(CLASSES)):
            expected[part] += random.sample([row for row in split[part] if row[1] == label], shots)
    cfg = config(data_root, shots=5, seed=3)
    random.random()  # a draw follows from the seed alone, whatever was drawn before
    dataset = Caltech101(cfg)
    for part, items in (("train", dataset.train_x), ("val", dataset.val)):
        found = [[item.impath.split("101_ObjectCategories/")[1], item.label, item.classname] for item in items]
        assert found == expected[part]
    assert len(dataset.test) == len(split["test"])


def test_halves(data_root):
    base = Caltech101(config(data_root, subsample="base"))
    new = Caltech101(config(data_root, subsample="new"))
    assert base.classnames == CLASSES[:3] and new.classnames == CLASSES[3:]  # the base half is the larger one
    assert sorted({item.label for item in new.test}) == [0, 1]
    both = Caltech101(config(data_root, subsample="all"))
    sampled = {item.impath for item in base.train_x} | {item.impath for item in new.train_x}
    assert sampled == {item.impath for item in both.train_x}  # sampled over all classes, then halved


def test_template(data_root):
    assert Caltech101(config(data_root)).template.format("cat") == "a photo of a cat."


def rows(items) -> list[tuple[str, int]]:
    return [(item.impath.split("101_ObjectCategories/")[1], item.label) for item in items]


# --- the draw that is kept --------------------------------------------------------------------------------------


@pytest.fixture
def own_root(data_root, tmp_path):
    """A copy to write into."""
    shutil.copytree(data_root / "caltech-101", tmp_path / "caltech-101", ignore=shutil.ignore_patterns("split_fewshot"))
    return tmp_path


def kept_draw(root, shots=2, seed=1):
    return root / f"caltech-101/split_fewshot/shot_{shots}-seed_{seed}.json"


def test_a_draw_is_kept_and_read(own_root, capsys):
    """The file is what counts: rows that are exchanged by hand are read. Its paths are relative."""
    first = Caltech101(config(own_root))
    content = json.loads(kept_draw(own_root).read_text())
    assert [(path, label) for path, label, _ in content["train"]] == rows(first.train_x)
    assert [(path, label) for path, label, _ in content["val"]] == rows(first.val)
    content["train"].reverse()
    kept_draw(own_root).write_text(json.dumps(content))
    capsys.readouterr()
    assert rows(Caltech101(config(own_root)).train_x) == rows(first.train_x)[::-1]
    assert f"{kept_draw(own_root)} has other images than seed 1 draws here" in capsys.readouterr().out
    assert rows(Caltech101(config(own_root, seed=2)).train_x) != rows(first.train_x)
    assert kept_draw(own_root, seed=2).exists()


def test_random_numbers_do_not_depend_on_the_kept_draw(own_root):
    """A run, which begins with its seed, goes on behind the draw; to others nothing was drawn."""
    after = {1: [], 5: []}
    for state in after:
        for there in (False, True):
            assert kept_draw(own_root).exists() == there or state == 5
            cfg = config(own_root)
            random.seed(state)
            Caltech101(cfg)
            after[state].append(random.random())
    assert after[1][0] == after[1][1] != random.Random(1).random()
    assert after[5] == [random.Random(5).random()] * 2


@pytest.mark.parametrize("change", ["rows", "names"])
def test_a_stale_draw_is_made_again(own_root, capsys, change):
    Caltech101(config(own_root))
    before = kept_draw(own_root).read_text()
    path = own_root / "caltech-101/split_zhou_Caltech101.json"
    split = json.loads(path.read_text())
    if change == "rows":
        split["train"] = [row for row in split["train"] if "train_5" not in row[0]]
    else:
        split = {part: [[image, label, f"new {name}"] for image, label, name in split[part]] for part in split}
    path.write_text(json.dumps(split))
    capsys.readouterr()
    again = Caltech101(config(own_root))
    assert f"{kept_draw(own_root)} was drawn from another list of images: drawn again" in capsys.readouterr().out
    assert kept_draw(own_root).read_text() != before
    assert again.classnames == (CLASSES if change == "rows" else [f"new {name}" for name in CLASSES])
    assert not any("train_5" in path for path, _ in rows(again.train_x)) or change == "names"
    Caltech101(config(own_root))
    assert "drawn again" not in capsys.readouterr().out


def elsewhere(draw):
    """It could name any file of the disk."""
    draw["train"][0][0] = "../../../elsewhere.jpg"


def a_validation_picture(draw):
    draw["train"][0] = draw["val"][0]


def another_class(draw):
    draw["train"][0][1:] = draw["train"][-1][1:]


def without_a_class(draw):
    draw["train"] = draw["train"][2:]


def fewer_shots(draw):
    del draw["val"][0]


@pytest.mark.parametrize("change", [elsewhere, a_validation_picture, another_class, without_a_class, fewer_shots])
def test_a_draw_that_the_list_cannot_give_is_made_again(own_root, capsys, change):
    first = Caltech101(config(own_root))
    whole = kept_draw(own_root).read_text()
    draw = json.loads(whole)
    change(draw)
    kept_draw(own_root).write_text(json.dumps(draw))
    again = Caltech101(config(own_root))
    assert (rows(again.train_x), rows(again.val)) == (rows(first.train_x), rows(first.val))
    assert "drawn again" in capsys.readouterr().out and kept_draw(own_root).read_text() == whole


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"made_from": {}, "train": [1], "val": []}', "\u00ff"])
def test_a_damaged_draw_is_made_again(own_root, capsys, content):
    first = Caltech101(config(own_root))
    whole = kept_draw(own_root).read_text()
    kept_draw(own_root).write_bytes(content.encode("latin-1"))
    assert rows(Caltech101(config(own_root)).train_x) == rows(first.train_x)
    assert f"{kept_draw(own_root)} cannot be read: drawn again" in capsys.readouterr().out
    assert kept_draw(own_root).read_text() == whole


def test_a_folder_that_cannot_be_written(own_root, capsys):
    """There is a file in its way."""
    (own_root / "caltech-101/split_fewshot").write_text("")
    dataset = Caltech101(config(own_root))
    assert len(dataset.train_x) == 2 * len(CLASSES)
    assert f"{kept_draw(own_root)} is not kept" in capsys.readouterr().out


def test_a_read_only_disk(own_root, capsys, monkeypatch):
    def refuse(*_, **__):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("dassl.utils.files.new_file", refuse)
    dataset = Caltech101(config(own_root))
    assert len(dataset.train_x) == 2 * len(CLASSES) and not kept_draw(own_root).exists()
    said = capsys.readouterr().out
    assert "is not kept: " in said and "Read-only file system" in said


def test_another_draw_each_time_keeps_nothing(own_root):
    """A seed below 0 says so."""
    drawn = []
    for state in (1, 2):
        cfg = config(own_root, seed=-1)
        random.seed(state)
        drawn.append(rows(Caltech101(cfg).train_x))
    assert drawn[0] != drawn[1] and not (own_root / "caltech-101/split_fewshot").exists()


def test_all_shots_keep_nothing(own_root):
    dataset = Caltech101(config(own_root, shots=-1))
    assert len(dataset.train_x) == 6 * len(CLASSES) and not (own_root / "caltech-101/split_fewshot").exists()


# --- the division made here -------------------------------------------------------------------------------------


def test_own_split_is_built_once_and_coops_is_preferred(own_root, monkeypatch, capsys):
    monkeypatch.setattr(Caltech101, "rows", (14 * len(CLASSES), 0, 0))
    theirs, ours = (own_root / f"caltech-101/split_{whose}_Caltech101.json" for whose in ("zhou", "own"))
    split = theirs.read_text()
    theirs.unlink()
    built = Caltech101(config(own_root, shots=-1))
    assert f"{theirs} is not there: the images were divided anew" in capsys.readouterr().out
    assert (len(built.train_x), len(built.val), len(built.test)) == (
        7 * 5,
        3 * 5,
        4 * 5,
    )  # 14 a class: 7, 2.8, the rest
    content = json.loads(ours.read_text())
    content["train"].reverse()
    ours.write_text(json.dumps(content))
    assert rows(Caltech101(config(own_root, shots=-1)).train_x) == rows(built.train_x)[::-1]
    assert "anew" not in capsys.readouterr().out
    theirs.write_text(split)
    read = Caltech101(config(own_root, shots=-1))
    assert rows(read.train_x) == [(path, label) for path, label, _ in json.loads(split)["train"]]


# --- what may be wrong ------------------------------------------------------------------------------------------


def write_split(root, train, test=()):
    path = root / "caltech-101/split_zhou_Caltech101.json"
    path.write_text(json.dumps({"train": list(train), "val": [], "test": list(test)}))


@pytest.mark.parametrize(
    ("train", "test", "says"),
    [
        ([("red", 0, "red"), ("green", 0, "green")], [], "label 0 is both 'red' and 'green'"),
        ([("red", 0, "A_b"), ("green", 1, "a b")], [], "'A_b' and 'a b' have the same name in a prompt"),
        ([("red", 0, "red"), ("green", 2, "green")], [], "2 labels are not 0 to 1 but between 0 and 2"),
        ([("red", -1, "red"), ("green", 0, "green")], [], "2 labels are not 0 to 1 but between -1 and 0"),
        ([("red", 0, "red")], [("green", 1, "green")], r"1 class\(es\) have no training image, 'green' first"),
    ],
)
def test_classes_that_are_wrong(own_root, train, test, says):
    write_split(own_root, *([(f"{folder}/train_0.png", *rest) for folder, *rest in part] for part in (train, test)))
    with pytest.raises(InputError, match=says):
        Caltech101(config(own_root))


def test_unknown_half(data_root):
    with pytest.raises(InputError, match="'bases'.*all, base, new"):
        Caltech101(config(data_root, subsample="bases"))


def test_relabelling():
    split = {
        "train": [Item("a", 3, "x"), Item("b", 5, "y"), Item("c", 9, "z")],
        "val": [],
        "test": [Item("d", 9, "z"), Item("e", 3, "x")],
    }
    assert subsample_classes(split) == split
    assert subsample_classes(split, "base") == {
        "train": [Item("a", 0, "x"), Item("b", 1, "y")],
        "val": [],
        "test": [Item("e", 0, "x")],
    }
    assert subsample_classes(split, "new") == {"train": [Item("c", 0, "z")], "val": [], "test": [Item("d", 0, "z")]}


def test_an_empty_half():
    with pytest.raises(InputError, match="new half of 1 class"):
        subsample_classes({"train": [Item("a", 0, "only")], "val": [], "test": []}, "new")


def test_missing_root_and_missing_set(data_root, tmp_path):
    with pytest.raises(InputError, match="nowhere does not exist"):
        Caltech101(config(tmp_path / "nowhere"))
    with pytest.raises(InputError, match="caltech-101 is missing"):
        Caltech101(config(tmp_path))


@pytest.mark.parametrize("content", ["{", '{"train": []}', '{"train": [1], "val": [], "test": []}'])
def test_broken_split(tmp_path, content):
    (tmp_path / "split.json").write_text(content)
    with pytest.raises(InputError, match="not a split file"):
        read_split(str(tmp_path / "split.json"), str(tmp_path))


def test_split_that_names_missing_images(tmp_path):
    rows = [["a.png", 0, "a"], ["b.png", 1, "b"]]
    (tmp_path / "split.json").write_text(json.dumps({"train": rows, "val": [], "test": rows}))
    with pytest.raises(InputError, match=r"4 images .* a\.png first"):
        read_split(str(tmp_path / "split.json"), str(tmp_path))


@pytest.mark.parametrize("into_parts, takes", [(hold_out, 3), (divide, 4)])
def test_a_class_that_is_too_small_is_told_how_many_images_it_takes(into_parts, takes):
    items = [Item(f"{i}.jpg", 0, "ant") for i in range(takes)]
    with pytest.raises(InputError, match=f"'ant' has {takes - 1} .*which takes {takes}: add some"):
        into_parts(items[1:])
    parts = into_parts(items)
    assert all(parts.values() if isinstance(parts, dict) else parts)
