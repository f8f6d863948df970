"""Small trees of all 15 benchmarks, each in the format its authors give it out, with the oddities of the real ones.

`TREES[name](root)` builds one under a data root. What a reader must find there is written by hand in
test_benchmarks.py.
"""

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

TREES: dict[str, Callable[[Path], None]] = {}


def tree(build: Callable) -> Callable:
    TREES[build.__name__] = build
    return build


def jpeg() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (4, 3), (200, 30, 30)).save(file, "JPEG")
    return file.getvalue()


JPEG = jpeg()


def images(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(JPEG)


def text(path: Path, *lines: str, end: str = "\n") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(line + end for line in lines).encode())


def numbered(pattern: str, count: int) -> list[str]:
    return [pattern.format(number) for number in range(1, count + 1)]


def classes_of_ten(folder: Path, *classes: str, pattern: str = "{}.jpg") -> None:
    for name in classes:
        images(folder / name, *numbered(pattern, 10))


# --- folders to divide ------------------------------------------------------------------------------------------


@tree
def Caltech101(root):
    folder = root / "caltech-101/101_ObjectCategories"
    classes_of_ten(folder, "airplanes", "accordion", "Motorbikes", "Leopards", "Faces", pattern="image_{:04d}.jpg")
    (folder / "Faces/image_0010.jpg").rename(folder / "Faces/image_0010.JPG")
    images(folder / "BACKGROUND_Google", "image_0001.jpg")
    text(folder / "BACKGROUND_Google/tmp", "")
    images(folder / "Faces_easy", "image_0001.jpg", "image_0002.jpg")


@tree
def DescribableTextures(root):
    folder = root / "dtd/images"
    classes_of_ten(folder, "polka-dotted", "banded", "waffled", pattern="x_{:04d}.jpg")
    text(folder / "waffled/.directory", "[Dolphin]")
    text(folder / ".DS_Store", "")
    images(folder / ".thumbnails", "a.jpg")
    images(folder / "banded", "._x_0001.jpg")


@tree
def Food101(root):
    folder = root / "food-101"
    classes_of_ten(folder / "images", "apple_pie", "crème_brûlée", "shepherd's pie")
    text(folder / "meta/train.txt", "apple_pie/1")


@tree
def EuroSAT(root):
    for name in ("SeaLake", "AnnualCrop", "Highway"):
        classes_of_ten(root / "eurosat/2750", name, pattern=name + "_{}.jpg")


@tree
def OxfordFlowers(root):
    """Ten images each of classes 2, 1 and 3, in this order; the official lists in setid.mat are not used."""
    folder = root / "oxford_flowers"
    images(folder / "jpg", *numbered("image_{:05d}.jpg", 30))
    savemat(folder / "imagelabels.mat", {"labels": np.array([[2] * 10 + [1] * 10 + [3] * 10], dtype=np.uint8)})
    names = {"3": "colt's foot", "1": "pink primrose", "2": "hard-leaved pocket orchid", "4": "blüte"}
    (folder / "cat_to_name.json").write_text(json.dumps(names))


# --- official lists ---------------------------------------------------------------------------------------------


@tree
def OxfordPets(root):
    folder, lists = root / "oxford_pets", {"trainval": [], "test": []}
    for label, breed in enumerate(("Abyssinian", "american_bulldog", "Great_Pyrenees"), start=1):
        images(folder / "images", *numbered(breed + "_{}.jpg", 7))
        rows = numbered(f"{breed}_{{}} {label} {1 if breed == 'Abyssinian' else 2} 1", 7)
        lists["trainval"] += rows[:5]
        lists["test"] += rows[5:]
    text(folder / "images/Abyssinian_1.mat", "not a picture")  # some lie among the real ones
    images(folder / "images", "._Abyssinian_2.jpg")
    for name, rows in lists.items():
        text(folder / f"annotations/{name}.txt", *rows)
    text(folder / "annotations/list.txt", "#Image CLASS-ID SPECIES BREED ID")


@tree
def StanfordCars(root):
    folder = root / "stanford_cars"
    names = ["AM General Hummer SUV 2000", "Ram C/V Cargo Van Minivan 2012", "Citroën DS 1955"]
    (folder / "devkit").mkdir(parents=True)
    cells = np.empty((1, 3), dtype=object)
    cells[0] = names
    savemat(folder / "devkit/cars_meta.mat", {"class_names": cells})
    annotations(folder / "devkit/cars_train_annos.mat", labels=[3, 1, 2] * 5)
    annotations(folder / "cars_test_annos_withlabels.mat", labels=[2, 3, 1])
    images(folder / "cars_train", *numbered("{:05d}.jpg", 15))
    images(folder / "cars_test", *numbered("{:05d}.jpg", 3))


def annotations(path: Path, labels: list[int]) -> None:
    """The structures of Stanford Cars: a box, a class from 1 and the name of a file."""
    boxes = ["bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2"]
    rows = np.empty((1, len(labels)), dtype=[(key, object) for key in [*boxes, "class", "fname"]])
    for number, label in enumerate(labels, start=1):
        rows[0, number - 1] = (
            *(np.array([[value]], np.uint16) for value in (39, 116, 569, 375, label)),
            f"{number:05d}.jpg",
        )
    savemat(path, {"annotations": rows})


@tree
def FGVCAircraft(root):
    folder, number = root / "fgvc_aircraft", 0
    variants, lists = ["707-320", "F/A-18", "Global Express"], {"train": [], "val": [], "test": []}
    text(folder / "variants.txt", *variants)
    for variant in reversed(variants):  # the lists are in another order than the labels
        for part, count in (("train", 3), ("val", 2), ("test", 1)):
            for _ in range(count):
                number += 1
                images(folder / "images", f"{number:07d}.jpg")
                lists[part].append(f"{number:07d} {variant}")
    for part, rows in lists.items():
        text(folder / f"images_variant_{part}.txt", *rows)


@tree
def SUN397(root):
    folder = root / "sun397"
    classes = ["/a/abbey", "/a/apartment_building/outdoor", "/c/control_tower/outdoor"]
    text(folder / "ClassName.txt", *classes)
    rows = [f"{name}/sun_{number}.jpg" for number in range(1, 8) for name in classes]
    images(folder / "SUN397", *(row[1:] for row in rows))
    images(folder / "SUN397", "a/abbey/sun_unlisted.jpg")
    text(folder / "Training_01.txt", *rows[:15])
    text(folder / "Testing_01.txt", *rows[15:])


@tree
def UCF101(root):
    folder, train, test = root / "ucf101", [], []
    actions = {"ApplyEyeMakeup": "Apply_Eye_Makeup", "HandstandPushups": "Handstand_Pushups", "YoYo": "Yo_Yo"}
    for label, (action, name) in enumerate(actions.items(), start=1):
        video = action.replace("stand", "Stand")  # so in the real lists
        for group in range(1, 8):
            images(folder / "UCF-101-midframes" / name, f"v_{video}_g0{group}_c01.jpg")
            row = f"{action}/v_{video}_g0{group}_c01.avi"
            if group < 6:
                train.append(f"{row} {label}")
            else:
                test.append(row)
    lists = folder / "ucfTrainTestlist"
    text(lists / "classInd.txt", "1 ApplyEyeMakeup", "2 HandstandPushups", "3 YoYo", end="\r\n")
    text(lists / "trainlist01.txt", *train, end="\r\n")
    text(lists / "testlist01.txt", *test, end="\r\n")


# --- ImageNet and its shifted test sets -------------------------------------------------------------------------

SYNSETS = [
    "n01440764 tench",
    "n03590841 jack-o'-lantern",
    "n03773504 missile",
    "n04008634 missile",
    "n07697313 crêpe pan",
]


@tree
def ImageNet(root):
    folder = root / "imagenet"
    text(folder / "classnames.txt", *SYNSETS)
    for synset in reversed([line.split()[0] for line in SYNSETS]):
        images(folder / "images/train" / synset, *numbered(synset + "_{}.JPEG", 3))
        images(folder / "images/val" / synset, *numbered(f"ILSVRC2012_val_{synset}_{{}}.JPEG", 2))
    text(folder / "images/train/LOC_train_solution.csv", "")


@tree
def ImageNetV2(root):
    """Twelve classes, so that folders 10 and 11 sort before 2."""
    folder = root / "imagenetv2"
    text(folder / "classnames.txt", *(f"n{label:08d} thing {label}" for label in range(12)))
    for label in range(12):
        images(folder / f"imagenetv2-matched-frequency-format-val/{label}", f"{label}a.jpeg", f"{label}b.jpeg")


def shifted(folder: Path, images_in: str, suffix: str, readme: bool) -> None:
    """Two images each of the last three classes."""
    text(folder / "classnames.txt", *SYNSETS)
    for line in SYNSETS[2:]:
        images(folder / images_in / line.split()[0], f"b c.{suffix}", f"a.{suffix}")
    if readme:
        text(folder / images_in / "README.txt", "a list of synsets")


@tree
def ImageNetSketch(root):
    shifted(root / "imagenet-sketch", "images", "JPEG", readme=False)


@tree
def ImageNetA(root):
    shifted(root / "imagenet-adversarial", "imagenet-a", "jpg", readme=True)


@tree
def ImageNetR(root):
    shifted(root / "imagenet-rendition", "imagenet-r", "jpg", readme=True)
