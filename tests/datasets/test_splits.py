"""Lists of pictures: names as they are on the disk, and where they lead, and pictures that are listed twice (../datasets/splits.py, paths.py)."""

import hashlib
import json
import os
import unicodedata

import pytest

from dassl.utils import InputError, real_paths
from datasets import splits
from datasets.caltech101 import Caltech101
from datasets.paths import inside, leads_outside, on_disk
from datasets.splits import (
    PARTS,
    Item,
    as_json,
    check_shared,
    divide_by_path,
    drawn_from,
    read_split,
    sha256_of_split,
)
from tests.datasets.helpers import config

NFC, NFD = (unicodedata.normalize(form, "é") for form in ("NFC", "NFD"))


@pytest.mark.parametrize(
    ("there", "listed"),
    [
        ("a/b/1.jpg", "a/b/1.jpg"),
        ("a/b/1.jpg", r"a\b\1.jpg"),
        ("a/b/1.jpg", r"a/b\1.jpg"),
        (r"a\1.jpg", r"a\1.jpg"),  # as a name on Linux may be
        (f"{NFD}/{NFD}.jpg", f"{NFC}/{NFC}.jpg"),
        (f"{NFC}/b/{NFD}.jpg", f"{NFD}\\b\\{NFC}.jpg"),
    ],
)
def test_a_path_is_as_its_file_is_called(tmp_path, there, listed):
    path = tmp_path / there
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    (tmp_path / "split.json").write_text(json.dumps({"train": [[listed, 0, "x"]], "val": [], "test": []}))
    assert read_split(str(tmp_path / "split.json"), str(tmp_path))["train"] == [Item(there, 0, "x")]
    absolute = on_disk({"": [Item(str(path), 0, "x")]}, str(tmp_path / "elsewhere"), "a list")
    assert absolute[""] == [Item(str(path), 0, "x")]


@pytest.mark.parametrize(
    "listed", ["", "a/b/", "nowhere/", "a/B/1.jpg", r"C:\a\b\1.jpg", "a/b/c/1.jpg", "b/1.jpg", "a\\b/2.jpg"]
)
def test_a_path_that_is_not_there(tmp_path, listed):
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/1.jpg").touch()
    with pytest.raises(InputError) as error:
        on_disk({"train": [Item(listed, 0, "x"), Item("a/b/1.jpg", 0, "x")]}, str(tmp_path), "a list", "mend it")
    assert str(error.value) == f"a list names 1 images that are not in {tmp_path}, {listed} first: mend it."


def test_shared_images(tmp_path):
    """However their paths are written, and through links."""
    split = {
        "train": [Item("1.jpg", 0, "a"), Item("1.jpg", 0, "a"), Item("2.jpg", 1, "b")],  # the same row twice is no leak
        "val": [Item("3.jpg", 0, "a")],
        "test": [Item("4.jpg", 0, "a")],
    }
    check_shared(split, str(tmp_path), "a list")
    for name in "1234":
        (tmp_path / f"{name}.jpg").touch()
    (tmp_path / "link.jpg").symlink_to("3.jpg")
    (tmp_path / "folder").symlink_to(tmp_path)
    for other in ("./3.jpg", str(tmp_path / "3.jpg"), "link.jpg", "folder/3.jpg", "folder/link.jpg"):
        more = split | {"test": [*split["test"], Item(other, 0, "a"), Item("2.jpg", 1, "b")]}
        says = f"a list has 2 image.* twice, {other.removeprefix('./')} first, in val and in test"
        with pytest.raises(InputError, match=says):
            check_shared(more, str(tmp_path), "a list")
        check_shared(more, str(tmp_path), "a list", allowed=True)


def test_a_split_file_that_shares_images(data_root, tmp_path):
    """The benchmark's own run refuses it, unless it is told otherwise."""
    folder = tmp_path / "caltech-101"
    folder.mkdir()
    (folder / "101_ObjectCategories").symlink_to(data_root / "caltech-101" / "101_ObjectCategories")
    split = json.loads((data_root / "caltech-101" / "split_zhou_Caltech101.json").read_text())
    split["test"] += split["train"][:3]
    (folder / "split_zhou_Caltech101.json").write_text(json.dumps(split))
    cfg = config(tmp_path)
    with pytest.raises(InputError, match=r"split_zhou_Caltech101.json has 3 image.* in train and in test"):
        Caltech101(cfg)
    cfg.DATASET.ALLOW_SHARED_IMAGES = True
    assert len(Caltech101(cfg).test) == len(split["test"])


ROWS = [
    ["a.png", "0", "red"],
    ["a.png", 0.5, "red"],
    ["a.png", True, "red"],
    ["a.png", 0, 7],
    ["\ud800/a.png", 0, "red"],
    [{}, 0, "red"],
    None,
    "abc",
]


@pytest.mark.parametrize("row", ROWS)
def test_a_row_that_is_none(tmp_path, row):
    (tmp_path / "split.json").write_text(json.dumps({"train": [row], "val": [], "test": []}))
    with pytest.raises(
        InputError, match=r"split\.json is not a split file .*: train has .*\. Fetch or write it again\."
    ):
        read_split(str(tmp_path / "split.json"), str(tmp_path))


@pytest.mark.parametrize("spelt", ["./{}", "/data/{}", "/data/../data/{}", "other/../{}"])
def test_one_picture_is_one_however_its_path_is_spelt(spelt):
    names = [f"red/{number}.png" for number in range(40)]
    plain = divide_by_path([Item(name, 0, "red") for name in names], "/data")
    other = divide_by_path([Item(spelt.format(name), 0, "red") for name in names], "/data")
    for part in PARTS:
        assert [spelt.format(item.path) for item in plain[part]] == [item.path for item in other[part]]
    assert plain == divide_by_path([Item(name, 0, "red") for name in names])


def test_divide_by_path():
    """The path alone decides: shares as stated, whatever else is there and in whatever order."""
    items = [Item(f"{name}/{index}.jpg", label, name) for label, name in enumerate("ab") for index in range(2000)]
    split = divide_by_path(items)
    for part, share in zip(PARTS, (0.5, 0.2, 0.3), strict=True):
        assert abs(len(split[part]) / 4000 - share) < 0.02
    part_of = {item: part for part in PARTS for item in split[part]}
    for part, some in divide_by_path(items[::-3]).items():
        assert some and all(part_of[item] == part for item in some)
    assert drawn_from(f"{NFC}/1.jpg") == drawn_from(f"{NFD}/1.jpg") != drawn_from("e/1.jpg")


# --- no list leads outside ----------------------------------------------------------------------------------------


@pytest.fixture
def data(tmp_path):
    """images/ with a folder, and links of the user's: to a folder, and to a picture, elsewhere; and a link to it."""
    for name in ("data/images/a/1.jpg", "data/other/1.jpg", "data/images2/1.jpg", "disk/b/1.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "data/images/b").symlink_to(tmp_path / "disk/b")
    (tmp_path / "data/images/a/2.jpg").symlink_to(tmp_path / "disk/b/1.jpg")
    (tmp_path / "spelt").symlink_to(tmp_path / "data")
    return tmp_path


INSIDE = (
    "a/1.jpg", "./a/1.jpg", "a/2.jpg", "b/1.jpg", "a/../a/1.jpg", "a/../b/1.jpg", "../images/a/1.jpg", "a/..\\a\\1.jpg", "a..b/1.jpg",
    "{data}/data/images/a/1.jpg", "{data}/data/images/b/1.jpg", "{data}/spelt/images/a/1.jpg", "{data}/spelt/images/b/1.jpg", "{data}/data/other/../images/a/2.jpg",
)  # fmt: skip
OUTSIDE = (
    "../other/1.jpg", "../../disk/b/1.jpg", "..\\other\\1.jpg", "a/../../other/1.jpg", "../images2/1.jpg", "b/../../../etc/passwd",
    "b/../b/1.jpg", "/etc/passwd", "{data}/disk/b/1.jpg", "{data}/data/images2/1.jpg", "{data}/data/images/../other/1.jpg", "..",
)  # fmt: skip


@pytest.mark.parametrize("folder", ["data/images", "spelt/images"])
@pytest.mark.parametrize("path, outside", [*((path, False) for path in INSIDE), *((path, True) for path in OUTSIDE)])
def test_what_leads_outside(data, folder, path, outside):
    assert leads_outside(path.format(data=data), str(data / folder)) == outside


LINKED = ("a/2.jpg", "b/1.jpg", "b\\1.jpg", "{data}/spelt/images/b/1.jpg")
STRAIGHT = ("a/1.jpg", "a/nowhere.jpg", "nowhere/1.jpg", "{data}/spelt/images/a/1.jpg")


@pytest.mark.parametrize("folder", ["data/images", "spelt/images"])
@pytest.mark.parametrize("path, outside", [*((path, False) for path in STRAIGHT), *((path, True) for path in LINKED)])
def test_links_that_lead_outside(data, folder, path, outside):
    """A folder that is one itself, to another disk, is where its images lie."""
    images, told = str(data / folder), []
    inside({"train": [Item(path.format(data=data), 0, "a")]}, images, "a list", told.append)
    assert bool(told) == outside


@pytest.mark.parametrize("linked", ["a/2.jpg", "b/1.jpg"])
def test_a_split_file_whose_image_is_a_link_elsewhere(data, linked):
    path, images = data / "split.json", str(data / "spelt/images")
    path.write_text(json.dumps({"train": [["a/1.jpg", 0, "a"], [linked, 0, "a"]], "val": [], "test": []}))
    with pytest.raises(InputError, match=rf"names 1 images outside {images}, {linked} first: .*ALLOW_OUTSIDE"):
        read_split(str(path), images)
    assert len(read_split(str(path), images, allow_outside=True)["train"]) == 2


def test_a_folder_is_asked_for_once_and_no_picture_is(tmp_path, monkeypatch):
    """Of a million there, each question would cost seconds on a disk, and minutes on a network's."""
    split = {"train": [Item(f"{name}/{number}.jpg", 0, name) for name in "ab" for number in range(50)]}
    for item in split["train"]:
        (tmp_path / item.path).parent.mkdir(exist_ok=True)
        (tmp_path / item.path).touch()
    asked = []
    for name in ("stat", "lstat", "readlink", "scandir", "listdir"):
        ask = getattr(os, name)
        monkeypatch.setattr(os, name, lambda path, *more, ask=ask, **options: asked.append(path) or ask(path))
    assert inside(split, str(tmp_path), "a list") == split
    assert on_disk(split, str(tmp_path), "a list") == split
    check_shared(split, str(tmp_path), "a list")
    assert not any(str(path).endswith(".jpg") for path in asked) and 6 <= len(asked) < 100


def test_a_file_lies_where_links_lead(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/1.jpg").touch()
    (tmp_path / "a/2.jpg").symlink_to("1.jpg")
    (tmp_path / "b").symlink_to("a")
    files = [str(tmp_path / name) for name in ("a/1.jpg", "a/2.jpg", "b/1.jpg", "b/2.jpg", "c/1.jpg")]
    first = os.path.realpath(tmp_path / "a/1.jpg")
    assert [*real_paths(files)] == [first] * 4 + [os.path.realpath(tmp_path / "c/1.jpg")]


@pytest.mark.parametrize("at_once", [1, 2, 100])
def test_the_hash_of_a_split_is_that_of_its_json(monkeypatch, at_once):
    """However many rows are written at a time."""
    monkeypatch.setattr(splits, "AT_ONCE", at_once)
    split = {
        part: [Item(f"{part}/{number}é.jpg", number, 'a "b"') for number in range(5)] for part in ("train", "test")
    }
    split["val"] = []
    whole = json.dumps(as_json(split), sort_keys=True)
    assert sha256_of_split(split) == hashlib.sha256(whole.encode()).hexdigest()


def test_nothing_is_asked_of_the_disk_for_a_plain_path(monkeypatch):
    monkeypatch.setattr("os.path.realpath", None)
    assert not leads_outside("n01440764/n01440764_10026.JPEG", "/data/imagenet")


def test_a_split_file_that_leads_outside(data):
    path = data / "split.json"
    rows = {"train": [["a/1.jpg", 0, "a"]], "val": [], "test": [["../other/1.jpg", 0, "a"], ["/etc/passwd", 0, "a"]]}
    path.write_text(json.dumps(rows))
    images = str(data / "data/images")
    with pytest.raises(
        InputError, match=rf"{path} names 2 images outside {images}, ../other/1.jpg first: .*ALLOW_OUTSIDE"
    ):
        read_split(str(path), images)
    assert [item.path for item in read_split(str(path), images, allow_outside=True)["test"]] == [
        "../other/1.jpg",
        "/etc/passwd",
    ]
