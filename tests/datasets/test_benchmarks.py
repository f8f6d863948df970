"""The 15 benchmarks, read from small trees in their original formats (trees.py)."""

import json
import random
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

import datasets  # noqa: F401  registers
from dassl.data.datasets import DATASET_REGISTRY
from dassl.utils import InputError
from tests.datasets.helpers import config
from tests.datasets.trees import TREES, annotations
from tests.helpers import REPOSITORY


class Facts(NamedTuple):
    config: str  # configs/datasets/<config>.yaml
    folder: str  # of the benchmark
    images: str  # within it
    whole: int  # number of images of the whole benchmark, as published
    names: list[str]  # of the small tree's classes, in the order of labels
    counts: tuple[int, int, int]  # training, validation and test images of the small tree, per class
    prompt: str  # of its second class


FACTS = {
    "Caltech101": Facts(
        "caltech101",
        "caltech-101",
        "101_ObjectCategories",
        4128 + 1649 + 2465,
        ["face", "leopard", "motorbike", "accordion", "airplane"],
        (5, 2, 3),
        "a photo of a leopard.",
    ),
    "DescribableTextures": Facts(
        "dtd",
        "dtd",
        "images",
        2820 + 1128 + 1692,
        ["banded", "polka-dotted", "waffled"],
        (5, 2, 3),
        "polka-dotted texture.",
    ),
    "Food101": Facts(
        "food101",
        "food-101",
        "images",
        50_500 + 20_200 + 30_300,
        ["apple_pie", "crème_brûlée", "shepherd's pie"],
        (5, 2, 3),
        "a photo of crème brûlée, a type of food.",
    ),
    "EuroSAT": Facts(
        "eurosat",
        "eurosat",
        "2750",
        13_500 + 5400 + 8100,
        ["Annual Crop Land", "Highway or Road", "Sea or Lake"],
        (5, 2, 3),
        "a centered satellite photo of Highway or Road.",
    ),
    "OxfordFlowers": Facts(
        "oxford_flowers",
        "oxford_flowers",
        "jpg",
        4093 + 1633 + 2463,
        ["pink primrose", "hard-leaved pocket orchid", "colt's foot"],
        (5, 2, 3),
        "a photo of a hard-leaved pocket orchid, a type of flower.",
    ),
    "OxfordPets": Facts(
        "oxford_pets",
        "oxford_pets",
        "images",
        2944 + 736 + 3669,
        ["abyssinian", "american_bulldog", "great_pyrenees"],
        (4, 1, 2),
        "a photo of a american bulldog, a type of pet.",
    ),
    "StanfordCars": Facts(
        "stanford_cars",
        "stanford_cars",
        "",
        6509 + 1635 + 8041,
        ["2000 AM General Hummer SUV", "2012 Ram C/V Cargo Van Minivan", "1955 Citroën DS"],
        (4, 1, 1),
        "a photo of a 2012 Ram C/V Cargo Van Minivan.",
    ),
    "FGVCAircraft": Facts(
        "fgvc_aircraft",
        "fgvc_aircraft",
        "images",
        3334 + 3333 + 3333,
        ["707-320", "F/A-18", "Global Express"],
        (3, 2, 1),
        "a photo of a F/A-18, a type of aircraft.",
    ),
    "SUN397": Facts(
        "sun397",
        "sun397",
        "SUN397",
        15_880 + 3970 + 19_850,
        ["abbey", "outdoor apartment_building", "outdoor control_tower"],
        (4, 1, 2),
        "a photo of a outdoor apartment building.",
    ),
    "UCF101": Facts(
        "ucf101",
        "ucf101",
        "UCF-101-midframes",
        7639 + 1898 + 3783,
        ["Apply_Eye_Makeup", "Handstand_Pushups", "Yo_Yo"],
        (4, 1, 2),
        "a photo of a person doing Handstand Pushups.",
    ),
    "ImageNet": Facts(
        "imagenet",
        "imagenet",
        "images",
        1_281_167 + 50_000,
        ["tench", "jack-o'-lantern", "missile", "missile", "crêpe pan"],
        (3, 2, 2),
        "a photo of a jack-o'-lantern.",
    ),
    "ImageNetV2": Facts(
        "imagenetv2",
        "imagenetv2",
        "imagenetv2-matched-frequency-format-val",
        10_000,
        [f"thing {label}" for label in range(12)],
        (2, 0, 2),
        "a photo of a thing 1.",
    ),
    "ImageNetSketch": Facts(
        "imagenet_sketch",
        "imagenet-sketch",
        "images",
        50_889,
        ["missile", "missile", "crêpe pan"],
        (2, 0, 2),
        "a photo of a missile.",
    ),
    "ImageNetA": Facts(
        "imagenet_a",
        "imagenet-adversarial",
        "imagenet-a",
        7500,
        ["missile", "missile", "crêpe pan"],
        (2, 0, 2),
        "a photo of a missile.",
    ),
    "ImageNetR": Facts(
        "imagenet_r",
        "imagenet-rendition",
        "imagenet-r",
        30_000,
        ["missile", "missile", "crêpe pan"],
        (2, 0, 2),
        "a photo of a missile.",
    ),
}
DIVIDED = ["Caltech101", "DescribableTextures", "Food101", "EuroSAT", "OxfordFlowers"]
HELD_OUT = ["OxfordPets", "StanfordCars", "SUN397", "UCF101"]
SHIFTED = ["ImageNetV2", "ImageNetSketch", "ImageNetA", "ImageNetR"]


@pytest.fixture
def build(tmp_path, monkeypatch):
    """Builds a benchmark's tree, whose few images pass for all of them; gives its folder."""

    def build(name: str) -> Path:
        TREES[name](tmp_path)
        facts = FACTS[name]
        parts = facts.counts[:1] if name in SHIFTED else facts.counts[:2] if name == "ImageNet" else facts.counts
        monkeypatch.setattr(DATASET_REGISTRY.get(name), "rows", (len(facts.names) * sum(parts), 0, 0))
        return tmp_path / facts.folder

    return build


def read(name, folder, shots=-1, subsample="all", seed=1):
    return DATASET_REGISTRY.get(name)(config(folder.parent, shots=shots, subsample=subsample, seed=seed))


def rows(name, folder, items) -> list[tuple[str, int, str]]:
    images = folder / FACTS[name].images
    return [(Path(item.impath).relative_to(images).as_posix(), item.label, item.classname) for item in items or []]


def numbers_of(items, count: int) -> tuple[int, ...]:
    labels = [item.label for item in items or []]
    return tuple(labels.count(label) for label in range(count))


# --- all of them ------------------------------------------------------------------------------------------------


def test_all_are_here():
    assert set(FACTS) == set(TREES) and len(FACTS) == 15


@pytest.mark.parametrize("name", FACTS)
def test_facts(name):
    """CoOp's config says the registered name; the number of images is that of the published lists."""
    own = yaml.safe_load((REPOSITORY / f"configs/datasets/{FACTS[name].config}.yaml").read_text())
    assert own == {"DATASET": {"NAME": name}}
    benchmark = DATASET_REGISTRY.get(name)
    assert benchmark.number_of_images() == FACTS[name].whole and benchmark.dataset_dir == FACTS[name].folder
    has_split = name in DIVIDED + HELD_OUT
    assert benchmark.split_file == (f"split_zhou_{name}.json" if has_split else "")


@pytest.mark.parametrize("name", FACTS)
def test_original_files(build, name):
    folder, facts = build(name), FACTS[name]
    dataset = read(name, folder)
    count = len(facts.names)
    assert dataset.classnames == facts.names and dataset.num_classes == count
    assert dataset.template.format(dataset.classnames[1].replace("_", " ")) == facts.prompt
    for items, expected in zip((dataset.train_x, dataset.val, dataset.test), facts.counts, strict=True):
        assert numbers_of(items, count) == (expected,) * count and len(items or []) == expected * count
        assert all(item.classname == facts.names[item.label] for item in items or [])
    paths = [{row[0] for row in rows(name, folder, items)} for items in (dataset.train_x, dataset.val, dataset.test)]
    if name in SHIFTED:
        assert dataset.val is None and paths[0] == paths[2]
    elif name == "ImageNet":
        assert not paths[0] & paths[1] and paths[1] == paths[2]
    else:
        assert len(set.union(*paths)) == sum(map(len, paths)) == sum(facts.counts) * count  # no image is in two parts
    kept = folder / f"split_own_{name}.json"
    assert kept.exists() == (name in DIVIDED + HELD_OUT)


@pytest.mark.parametrize("name", FACTS)
def test_few_shots_and_halves(build, name):
    """Two a class, and of ImageNet's validation and the shifted sets all; five classes halve into three and two."""
    folder, facts = build(name), FACTS[name]
    count = len(facts.names)
    base, new, both = (read(name, folder, shots=2, subsample=part) for part in ("base", "new", "all"))
    half = {3: 2, 5: 3, 12: 6}[count]
    assert base.classnames == facts.names[:half] and new.classnames == facts.names[half:]
    shown = (2, min(2, facts.counts[1]), facts.counts[2])
    for dataset, length in ((base, half), (new, count - half), (both, count)):
        for items, expected in zip((dataset.train_x, dataset.val, dataset.test), shown, strict=True):
            assert numbers_of(items, length) == (expected,) * length and len(items or []) == expected * length
    joined = {row[0] for part in (base, new) for row in rows(name, folder, part.train_x)}
    assert joined == {row[0] for row in rows(name, folder, both.train_x)}  # drawn over all classes, then halved


@pytest.mark.parametrize("name", FACTS)
def test_half_unpacked(build, name, monkeypatch):
    """An image too few, and nothing is divided or kept."""
    folder, benchmark = build(name), DATASET_REGISTRY.get(name)
    there = benchmark.number_of_images()
    monkeypatch.setattr(benchmark, "rows", (there + 1, 0, 0))
    with pytest.raises(
        InputError, match=rf"{folder} has {there} of the {there + 1} images of {name}: .*prepare {name}"
    ):
        read(name, folder)
    assert not list(folder.glob("split*"))


@pytest.mark.parametrize("name", DIVIDED + HELD_OUT)
def test_a_split_file_of_coop(build, name):
    """It is taken as it stands, whatever the original files and a split made here say."""
    folder = build(name)
    own = read(name, folder)
    train, test = rows(name, folder, own.train_x), rows(name, folder, own.test)
    changed = [
        (path, 2 - label if label < 3 else label, f"{label} as in CoOp's file") for path, label, _ in reversed(train)
    ]
    assert changed != train
    tested = [row for row in changed if row[1] == 0][:1]
    split = {"train": [row for row in changed if row not in tested], "val": [], "test": tested}
    (folder / f"split_zhou_{name}.json").write_text(json.dumps(split))
    dataset = read(name, folder)
    assert rows(name, folder, dataset.train_x) == split["train"] and dataset.val is None
    assert rows(name, folder, dataset.test) == split["test"] != test


@pytest.mark.parametrize("seed", [1, 3])
def test_few_shots_of_a_split_file_are_coops(build, seed):
    """Classes in the order of their first row, Python's random; training before validation; then the half."""
    folder, chance = build("OxfordPets"), random.Random(5)
    breeds = ["Abyssinian", "american_bulldog", "Great_Pyrenees"]
    split = {
        part: [[f"{breed}_{n}.jpg", label, breed.lower()] for label, breed in enumerate(breeds) for n in numbers]
        for part, numbers in (("train", range(1, 5)), ("val", (5, 6)), ("test", (7,)))
    }
    for part in split.values():
        chance.shuffle(part)
    (folder / "split_zhou_OxfordPets.json").write_text(json.dumps(split))
    order = list(dict.fromkeys(row[1] for row in split["train"]))
    assert order != sorted(order)
    random.seed(seed)
    expected = {}
    for part, shots in (("train", 3), ("val", 3)):
        expected[part] = []
        for label in dict.fromkeys(row[1] for row in split[part]):
            of_class = [row for row in split[part] if row[1] == label]
            expected[part] += random.sample(of_class, shots) if len(of_class) >= shots else of_class
    for half, labels in (("base", {0: 0, 1: 1}), ("new", {2: 0})):
        dataset = read("OxfordPets", folder, shots=3, subsample=half, seed=seed)
        for part, items in (("train", dataset.train_x), ("val", dataset.val)):
            wanted = [(path, labels[label], name) for path, label, name in expected[part] if label in labels]
            assert rows("OxfordPets", folder, items) == wanted


# --- some of them -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DIVIDED)
def test_a_division_is_the_same_everywhere(build, name):
    """Whatever the run's seed."""
    folder = build(name)
    first = read(name, folder, seed=1)
    (folder / f"split_own_{name}.json").unlink()
    again = read(name, folder, seed=2)
    for part in ("train_x", "val", "test"):
        assert rows(name, folder, getattr(first, part)) == rows(name, folder, getattr(again, part))


def test_test_lists(build):
    """In the order of the official lists."""
    expected = {
        "OxfordPets": [
            ("Abyssinian_6.jpg", 0, "abyssinian"),
            ("Abyssinian_7.jpg", 0, "abyssinian"),
            ("american_bulldog_6.jpg", 1, "american_bulldog"),
            ("american_bulldog_7.jpg", 1, "american_bulldog"),
            ("Great_Pyrenees_6.jpg", 2, "great_pyrenees"),
            ("Great_Pyrenees_7.jpg", 2, "great_pyrenees"),
        ],
        "StanfordCars": [
            ("cars_test/00001.jpg", 1, "2012 Ram C/V Cargo Van Minivan"),
            ("cars_test/00002.jpg", 2, "1955 Citroën DS"),
            ("cars_test/00003.jpg", 0, "2000 AM General Hummer SUV"),
        ],
        "FGVCAircraft": [
            ("0000006.jpg", 2, "Global Express"),
            ("0000012.jpg", 1, "F/A-18"),
            ("0000018.jpg", 0, "707-320"),
        ],
        "SUN397": [
            ("a/abbey/sun_6.jpg", 0, "abbey"),
            ("a/apartment_building/outdoor/sun_6.jpg", 1, "outdoor apartment_building"),
            ("c/control_tower/outdoor/sun_6.jpg", 2, "outdoor control_tower"),
            ("a/abbey/sun_7.jpg", 0, "abbey"),
            ("a/apartment_building/outdoor/sun_7.jpg", 1, "outdoor apartment_building"),
            ("c/control_tower/outdoor/sun_7.jpg", 2, "outdoor control_tower"),
        ],
        "UCF101": [
            ("Apply_Eye_Makeup/v_ApplyEyeMakeup_g06_c01.jpg", 0, "Apply_Eye_Makeup"),
            ("Apply_Eye_Makeup/v_ApplyEyeMakeup_g07_c01.jpg", 0, "Apply_Eye_Makeup"),
            ("Handstand_Pushups/v_HandStandPushups_g06_c01.jpg", 1, "Handstand_Pushups"),
            ("Handstand_Pushups/v_HandStandPushups_g07_c01.jpg", 1, "Handstand_Pushups"),
            ("Yo_Yo/v_YoYo_g06_c01.jpg", 2, "Yo_Yo"),
            ("Yo_Yo/v_YoYo_g07_c01.jpg", 2, "Yo_Yo"),
        ],
        "ImageNetR": [
            ("n03773504/a.jpg", 0, "missile"),
            ("n03773504/b c.jpg", 0, "missile"),
            ("n04008634/a.jpg", 1, "missile"),
            ("n04008634/b c.jpg", 1, "missile"),
            ("n07697313/a.jpg", 2, "crêpe pan"),
            ("n07697313/b c.jpg", 2, "crêpe pan"),
        ],
    }
    for name, wanted in expected.items():
        folder = build(name)
        assert rows(name, folder, read(name, folder).test) == wanted


def test_imagenet_v2_is_in_the_order_of_labels(build):
    folder = build("ImageNetV2")
    found = rows("ImageNetV2", folder, read("ImageNetV2", folder).test)
    assert found == [(f"{label}/{label}{i}.jpeg", label, f"thing {label}") for label in range(12) for i in "ab"]


def test_images_of_classes(build):
    """What a folder or a label says is the class of each image, in whichever part it is."""
    folder = build("OxfordFlowers")
    dataset = read("OxfordFlowers", folder)
    of_class = {0: range(11, 21), 1: range(1, 11), 2: range(21, 31)}
    found = rows("OxfordFlowers", folder, dataset.train_x + dataset.val + dataset.test)
    for label, numbers in of_class.items():
        assert sorted(row[0] for row in found if row[1] == label) == [f"image_{n:05d}.jpg" for n in numbers]
    assert [item.label for item in dataset.test] == [1] * 3 + [0] * 3 + [2] * 3  # as the classes first appear

    folder = build("Caltech101")
    dataset = read("Caltech101", folder)
    found = rows("Caltech101", folder, dataset.train_x + dataset.val + dataset.test)
    assert {row[0].split("/")[0] for row in found} == {"Faces", "Leopards", "Motorbikes", "accordion", "airplanes"}
    assert ("Faces/image_0010.JPG", 0, "face") in found


def test_imagenet_validates_on_all_test_images_and_draws_for_training_alone(build):
    folder = build("ImageNet")
    dataset = read("ImageNet", folder, shots=1)
    assert rows("ImageNet", folder, dataset.val) == rows("ImageNet", folder, dataset.test) and len(dataset.val) == 10
    after = random.random()
    random.seed(1)
    for _ in range(5):
        random.sample(range(3), 1)
    assert after == random.random()


def test_nothing_is_drawn_of_a_shifted_set(build):
    folder = build("ImageNetA")
    dataset = read("ImageNetA", folder, shots=1, seed=2)
    after = random.random()
    random.seed(2)
    assert after == random.random() and len(dataset.train_x) == 6 and not (folder / "split_fewshot").exists()


# --- what may be wrong ------------------------------------------------------------------------------------------

LISTS = [
    ("OxfordPets", "annotations/trainval.txt"),
    ("OxfordPets", "annotations/test.txt"),
    ("StanfordCars", "devkit/cars_meta.mat"),
    ("StanfordCars", "devkit/cars_train_annos.mat"),
    ("StanfordCars", "cars_test_annos_withlabels.mat"),
    ("OxfordFlowers", "imagelabels.mat"),
    ("OxfordFlowers", "cat_to_name.json"),
    ("FGVCAircraft", "variants.txt"),
    ("FGVCAircraft", "images_variant_val.txt"),
    ("SUN397", "ClassName.txt"),
    ("SUN397", "Training_01.txt"),
    ("UCF101", "ucfTrainTestlist/classInd.txt"),
    ("UCF101", "ucfTrainTestlist/testlist01.txt"),
    ("ImageNet", "classnames.txt"),
    ("ImageNetV2", "classnames.txt"),
]


@pytest.mark.parametrize(("name", "file"), LISTS)
def test_missing_annotations(build, name, file):
    folder = build(name)
    (folder / file).unlink()
    with pytest.raises(InputError, match=rf"annotation file {folder / file} is missing .*datasets.prepare {name} "):
        read(name, folder)


@pytest.mark.parametrize(("name", "file"), LISTS)
def test_damaged_annotations(build, name, file):
    """The second half is lost, or bytes that are no text came in; nothing is kept."""
    folder = build(name)
    content = (folder / file).read_bytes()
    damaged = b"\xff\xfe" + content if file.endswith(".txt") else content[: len(content) // 2]
    (folder / file).write_bytes(damaged)
    with pytest.raises(InputError, match=rf"{folder / file} is damaged .*fetch it again"):
        read(name, folder)
    assert not list(folder.glob("split*"))


@pytest.mark.parametrize(
    ("name", "file", "number", "line", "says"),
    [
        ("OxfordPets", "annotations/test.txt", 3, "american_bulldog_6 2", "expected 4"),
        ("OxfordPets", "annotations/trainval.txt", 2, "Abyssinian_2 one 1 1", "'one'"),
        ("FGVCAircraft", "images_variant_train.txt", 1, "0000013 DC-3", "no class 'DC-3'"),
        ("FGVCAircraft", "images_variant_train.txt", 9, "0000001", "expected 2"),
        ("SUN397", "Testing_01.txt", 2, "/a/airport/sun_1.jpg", "no class '/a/airport'"),
        ("SUN397", "Testing_01.txt", 2, "sun_1.jpg", "values to unpack"),
        ("UCF101", "ucfTrainTestlist/trainlist01.txt", 4, "Yodel/v_Yodel_g01_c01.avi 1", "no class 'Yodel'"),
        ("UCF101", "ucfTrainTestlist/testlist01.txt", 1, "v_YoYo_g01_c01.avi", "expected 2"),
        ("UCF101", "ucfTrainTestlist/classInd.txt", 3, "YoYo", "expected 2"),
        ("ImageNet", "classnames.txt", 2, "n03590841", "expected 2"),
    ],
)
def test_malformed_line(build, name, file, number, line, says):
    folder = build(name)
    lines = (folder / file).read_text().splitlines()
    lines[number - 1] = line
    (folder / file).write_text("\n".join(lines))
    with pytest.raises(InputError) as error:
        read(name, folder)
    for part in (str(folder / file), f"line {number}, {line!r}", says, "fetch it again"):
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("OxfordPets", "Abyssinian_6.jpg"),
        ("StanfordCars", "cars_test/00001.jpg"),
        ("OxfordFlowers", "image_00001.jpg"),
        ("FGVCAircraft", "0000006.jpg"),
        ("SUN397", "a/abbey/sun_6.jpg"),
        ("UCF101", "Apply_Eye_Makeup/v_ApplyEyeMakeup_g06_c01.jpg"),
    ],
)
def test_listed_images_are_missing(build, name, first):
    folder = build(name)
    dataset = read(name, folder)
    for path in folder.glob("split*"):
        path.unlink()
    listed = sorted(Path(item.impath) for item in dataset.test)
    gone = [folder / FACTS[name].images / first, next(path for path in listed if not path.match(first))]
    for path in gone:
        path.unlink()
    with pytest.raises(InputError, match=rf"\.(txt|mat) names 2 images that are not in .*, {first} first"):
        read(name, folder)


def test_class_folders_that_are_wrong(build):
    folder = build("Food101")
    (folder / "images/zebra").mkdir()
    with pytest.raises(InputError, match="zebra holds no images: unpack it again"):
        read("Food101", folder)
    folder = build("EuroSAT")
    (folder / "2750/Highway").rename(folder / "2750/Desert")
    with pytest.raises(InputError, match="2750/Desert is no class of this benchmark: move it away"):
        read("EuroSAT", folder)
    folder = build("ImageNetV2")
    images = folder / "imagenetv2-matched-frequency-format-val"
    (images / "11").rename(images / "12")
    with pytest.raises(InputError, match="12 is no class of this benchmark"):
        read("ImageNetV2", folder)


def test_imagenet_that_is_not_unpacked_by_class(build):
    folder = build("ImageNet")
    val = folder / "images/val"
    for path in list(val.rglob("*.JPEG")):
        path.rename(val / path.name)
    for path in list(val.iterdir()):
        if path.is_dir():
            path.rmdir()
    with pytest.raises(InputError, match=f"{val} holds no class folders with images: .*one folder a class"):
        read("ImageNet", folder)
    for path in val.iterdir():
        path.unlink()
    val.rmdir()
    with pytest.raises(InputError, match=f"{val} cannot be listed .*unpack it again"):
        read("ImageNet", folder)


def test_only_known_classes_share_a_name(build):
    """ImageNet's two missiles do; any other pair is a slip in the list."""
    folder = build("ImageNet")
    path = folder / "classnames.txt"
    assert read("ImageNet", folder).classnames.count("missile") == 2
    path.write_text(path.read_text(encoding="utf-8").replace(" tench", " Crêpe  pan"), encoding="utf-8")
    with pytest.raises(InputError, match="'Crêpe  pan' and 'crêpe pan' have the same name in a prompt"):
        read("ImageNet", folder)


def test_labels_with_a_gap(build):
    """Class names would be said for other labels than theirs; such a division is not kept."""
    folder = build("OxfordPets")
    for path in (folder / "annotations").glob("t*.txt"):
        path.write_text(path.read_text().replace(" 2 2 1", " 4 2 1"))
    with pytest.raises(InputError, match="3 labels are not 0 to 2 but between 0 and 3: fetch"):
        read("OxfordPets", folder)
    assert not list(folder.glob("split*"))


@pytest.mark.parametrize("label", [0, 4])
def test_cars_of_no_class(build, label):
    folder = build("StanfordCars")
    annotations(folder / "cars_test_annos_withlabels.mat", labels=[2, label, 1])
    with pytest.raises(InputError, match=rf"withlabels\.mat is damaged: entry 2 .*no class {label}\)"):
        read("StanfordCars", folder)


def test_flowers_without_a_name(build):
    folder = build("OxfordFlowers")
    (folder / "cat_to_name.json").write_text('{"1": "a", "2": "b"}')
    with pytest.raises(InputError, match=r"imagelabels\.mat is damaged: entry 21 .*no class '3'"):
        read("OxfordFlowers", folder)


def test_too_few_to_divide(build, monkeypatch):
    folder = build("Food101")
    monkeypatch.setattr(DATASET_REGISTRY.get("Food101"), "rows", ())
    for path in list((folder / "images/apple_pie").iterdir())[1:]:
        path.unlink()
    with pytest.raises(InputError, match="'apple_pie' has 1 images, too few to divide"):
        read("Food101", folder)
