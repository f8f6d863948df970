"""Your own pictures (../datasets/folder.py): class folders, parts above them, CSV files, names, and what is refused."""

import os
import unicodedata
from collections import Counter
from pathlib import Path

import pytest
import torch
from PIL import Image
from torchvision.datasets import ImageFolder as ImageFolderOfTorchvision

import train
from clip.simple_tokenizer import SimpleTokenizer
from dassl.data.datasets import build_dataset
from dassl.utils import InputError, set_random_seed
from datasets.listing import read_class_folders
from tests.helpers import results
from tests.own_pictures import COLOURS, folders, line, picture, write_csv


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
    for part, share in (("train_x", 0.5), ("val", 0.2), ("test", 0.3)):
        counts = Counter(item.classname for item in getattr(dataset, part))
        assert len(counts) == 4 and abs(counts.total() - 40 * share) <= 5  # about: each path draws for itself
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


def test_a_csv_file_that_leads_outside(tmp_path):
    """Absolute paths are welcome as long as they lead into the data root; what lies elsewhere is asked for by name."""
    root, rows = tmp_path / "root", [[f"n01/{index}.{'JPG' if index % 2 else 'png'}", "a"] for index in range(4)]
    folders(root, 4)
    folders(tmp_path / "elsewhere", 4)
    write_csv(root / "list.csv", ["path", "class"], *[[root / path, name] for path, name in rows])
    assert len(read(root, DATASET__FOLDER__CSV="list.csv").train_x) == 2
    for other in (tmp_path / "elsewhere", "../elsewhere"):
        write_csv(root / "list.csv", ["path", "class"], *[[f"{other}/{path}", name] for path, name in rows])
        with pytest.raises(
            InputError, match=rf"names 4 images outside {root}, {other}/n01/0.png first: .*ALLOW_OUTSIDE"
        ):
            read(root, DATASET__FOLDER__CSV="list.csv")
        assert len(read(root, DATASET__FOLDER__CSV="list.csv", DATASET__ALLOW_OUTSIDE=True).train_x) == 2


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
    divided = (dataset.train_x, dataset.val, dataset.test)
    assert [len({item.label for item in part}) for part in divided] == [4, 4, 4] and sum(map(len, divided)) == 16


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


@pytest.mark.parametrize("trainer", ["CoOp", "ZeroshotCLIP"])
def test_a_run_with_one_class_says_that_its_accuracy_says_nothing(tmp_path, capsys, trainer):
    """The new half of three classes is one; a folder may hold no more either."""
    folders(tmp_path / "set", names=list(COLOURS)[:3])
    options = {"DATASET__NUM_SHOTS": 2, "OPTIM__MAX_EPOCH": 1, "DATALOADER__TRAIN_X__BATCH_SIZE": 2}
    for half, classes in (("new", 1), ("base", 2)):
        options["DATASET__SUBSAMPLE_CLASSES"] = half
        assert train.main(line(tmp_path / "set", tmp_path / half, trainer, **options)) == 0
        assert len(results(tmp_path / half)["classwise"]) == classes
        assert ("There is one class only" in capsys.readouterr().out) == (classes == 1)
    assert results(tmp_path / "new")["accuracy"] == 100.0


def test_another_folder_is_another_data_set_by_what_it_holds(tmp_path, monkeypatch, capsys):
    """The root is the data: it may move, or be written otherwise, as long as the same pictures lie in it."""
    options = {"DATASET__NUM_SHOTS": 1, "OPTIM__MAX_EPOCH": 1}
    for name in ("one", "moved", "other"):
        folders(tmp_path / name)
    picture(tmp_path / "other" / "n01" / "new.png")
    assert train.main(line(tmp_path / "one", tmp_path / "out", **options)) == 0
    monkeypatch.chdir(tmp_path)
    for root in (tmp_path / "one", "one", "moved"):
        capsys.readouterr()
        assert train.main(line(root, tmp_path / "out", **options)) == 0
        assert "Skipped" in capsys.readouterr().out
    assert train.main(line("other", tmp_path / "out", **options)) == 2
    assert "the list that the images are drawn from has changed" in capsys.readouterr().err


def test_the_introduction_counts_right(tmp_path, capsys, monkeypatch):
    """With a test set alone, whose predictions are known: all are called the first class."""
    folders(tmp_path / "set", 3, ("train", "test"))
    nearest_none = lambda model, names, template: torch.zeros(len(names), 128)  # noqa: E731  so the first one is taken
    monkeypatch.setattr("trainers.shared.clip_trainer.zero_shot_text_features", nearest_none)
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
        (lambda root: None, {"DATASET__FOLDER__TEMPLATE": "a {nice} {}"}, "a text with one {}"),
        (lambda root: None, {"DATASET__FOLDER__TEMPLATE": "a {} {"}, "a text with one {}"),
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


# --- what is found, and what is passed over ---------------------------------------------------------------------


def everything(dataset, root) -> list[str]:
    return paths([*dataset.train_x, *(dataset.val or ()), *dataset.test], root)


def test_folders_in_class_folders_are_read_as_torchvision_does(tmp_path):
    folders(tmp_path, 2)
    for name in (
        "n01/deep/er/1.png",
        "n01/deep/2.jfif",
        "n01/3.pgm",
        "n01/4.AVIF",
        "n01/.hidden/5.png",
        "n01/.6.png",
        "n01/@eaDir/7.png",
        "__MACOSX/n01/8.png",
    ):
        picture(tmp_path / "first.png")
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        image = Image.open(tmp_path / "first.png")
        image.save(tmp_path / name, format={"jfif": "jpeg", "pgm": "ppm"}.get(name[-4:].strip(".").lower()))
    (tmp_path / "first.png").unlink()
    (tmp_path / "n01/deep/back").symlink_to(tmp_path / "n01")  # no end of it
    folders(tmp_path, 4)
    found = [name for name in everything(read(tmp_path), tmp_path) if name.startswith("n01")]
    plain = [f"n01/{index}.{'JPG' if index % 2 else 'png'}" for index in range(4)]
    assert found == sorted([*plain, "n01/3.pgm", "n01/4.AVIF", "n01/deep/2.jfif", "n01/deep/er/1.png"])
    theirs = ImageFolderOfTorchvision(tmp_path, is_valid_file=lambda path: "/." not in path).samples
    assert {path.removeprefix(f"{tmp_path}/") for path, _ in theirs if "/n01/" in path and "back" not in path} >= set(
        found
    )


def test_links_to_themselves_are_passed_over(tmp_path):
    folders(tmp_path)
    expected = everything(read(tmp_path), tmp_path)
    for name in ("loop", "loop.png", "n01/loop"):
        (tmp_path / name).symlink_to(Path(name).name)
    assert everything(read(tmp_path), tmp_path) == expected


def test_what_is_passed_over_is_said_once(tmp_path, capsys):
    folders(tmp_path)
    for name in ("n01/1.heic", "n01/more/2.HEIC", "n01/3", "grass_green/notes.txt", "n01/.DS_Store", "README.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    picture(tmp_path / "loose.png")
    read(tmp_path)
    said = capsys.readouterr().out
    assert said.count("passed over") == 1
    assert "5 files are passed over: 2 .heic, 1 .txt, 1 without a suffix, 1 in no class folder\n" in said
    for path in tmp_path.rglob("*"):
        if (path.suffix.lower() in (".heic", ".txt", "") and path.is_file()) or path.name == "loose.png":
            path.unlink()
    read(tmp_path)
    assert "passed over" not in capsys.readouterr().out


@pytest.mark.parametrize("train", ["train", "Train", "TRAINING"])
@pytest.mark.parametrize("val", ["val", "Valid", "validation"])
@pytest.mark.parametrize("test", ["test", "Testing"])
def test_parts_by_their_usual_names(tmp_path, train, val, test):
    folders(tmp_path, 2, (train, val, test), list(COLOURS)[:2])
    dataset = read(tmp_path)
    for part, folder in ((dataset.train_x, train), (dataset.val, val), (dataset.test, test)):
        assert len(part) == 4 and all(f"/{folder}/" in item.impath for item in part)


def test_a_class_called_train(tmp_path):
    folders(tmp_path, 5, names=["n01"])
    for index in range(5):
        picture(tmp_path / "train" / f"{index}.png")
        picture(tmp_path / "train" / "steam" / f"{index}.png")
    dataset = read(tmp_path)
    assert dataset.classnames == ["n01", "train"] and len(everything(dataset, tmp_path)) == 15


@pytest.mark.parametrize(
    ("there", "says"),
    [
        (
            ("train/cat/1.png", "Training/cat/2.png", "test/cat/3.png"),
            "holds both Training/ and train/, which are one part",
        ),
        (("train/1.png", "test/2.png"), "train holds no class folders: .*rename it|test holds no class folders"),
        (("valid/cat/1.png", "test/cat/1.png"), "holds test/ and no train/"),
        (("train/cat/1.png", "test/cat/2.png", "dog/1.png"), "holds test/ and beside it dog/"),
        (("1.png", "2.png"), "holds no class folders with images"),
        (("cat/1.heic", "dog/1.png"), r"cat holds no images \(passed over: \.heic\)"),
    ],
)
def test_folders_that_can_be_read_in_two_ways(tmp_path, there, says):
    for name in there:
        if name.endswith("heic"):
            (tmp_path / name).parent.mkdir(parents=True)
            (tmp_path / name).touch()
        else:
            picture(tmp_path / name)
    with pytest.raises(InputError, match=says) as error:
        read(tmp_path)
    assert "\n" not in str(error.value)


def test_results_among_the_pictures_are_no_class(tmp_path, capsys):
    """Neither this run's folder nor that of another, nor the pictures that lie beside them."""
    folders(tmp_path, 4)
    before = everything(read(tmp_path), tmp_path)
    for name in ("output/fewshot/seed1", "output/fewshot/seed2", "n01/here"):
        picture(tmp_path / name / "tokens" / "1.png")
    picture(tmp_path / "output" / "plots" / "curve.png")
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "1.npy").touch()
    (tmp_path / "output/fewshot/seed1/results.json").write_text('{"state": "finished"}')
    (tmp_path / "n01/here/results.json").write_text('{"state": "finished"}')
    options = {"OUTPUT_DIR": tmp_path / "output/fewshot/seed2", "DATALOADER__TEST__CACHE_DIR": tmp_path / "cache"}
    capsys.readouterr()
    assert everything(read(tmp_path, **options), tmp_path) == before
    assert "cache/, output/ holds results of runs, and is no class" in capsys.readouterr().out


def test_results_over_the_pictures(tmp_path):
    """Where they cannot be told apart; a file that is called as our records are and is none does no harm."""
    folders(tmp_path, 4)
    (tmp_path / "grass_green/results.json").write_text('{"green": true}')
    assert len(everything(read(tmp_path), tmp_path)) == 16
    with pytest.raises(InputError, match="n01 holds pictures and the results of a run: choose another"):
        read(tmp_path, DATALOADER__TEST__CACHE_DIR=tmp_path / "n01")
    (tmp_path / "n01/results.json").write_text('{"state": "failed"}')
    with pytest.raises(InputError, match="n01 holds pictures and the results of a run: choose another"):
        read(tmp_path)


def test_a_run_over_the_pictures_writes_nothing(tmp_path, capsys):
    """Into all of them, a part, or a class, whose next run would find results there."""
    folders(tmp_path, 4, ("train", "test"))
    before = sorted(tmp_path.rglob("*"))
    for output in (tmp_path, tmp_path / "train", tmp_path / "train/n01"):
        assert train.main(line(tmp_path, output)) == 2
        says = f"{output} is a folder of the pictures themselves: choose one of its own, such as {tmp_path / 'output'}"
        assert says in capsys.readouterr().err
        assert sorted(tmp_path.rglob("*")) == before


def test_a_cache_among_the_pictures_is_no_class(tmp_path, capsys):
    folders(tmp_path, 4)
    before = everything(read(tmp_path), tmp_path)
    cached = {"DATALOADER__TEST__CACHE_DIR": tmp_path / "cache"}
    assert train.main(line(tmp_path, tmp_path / "output", "ZeroshotCLIP", **cached)) == 0
    assert list((tmp_path / "cache").glob("*.npy"))
    capsys.readouterr()
    assert everything(read(tmp_path), tmp_path) == before
    assert "cache/, output/ holds results of runs, and is no class" in capsys.readouterr().out


def test_a_run_into_the_pictures(tmp_path):
    folders(tmp_path, 4)
    options = {"DATASET__NUM_SHOTS": 1, "OPTIM__MAX_EPOCH": 1, "DATALOADER__TRAIN_X__BATCH_SIZE": 4}
    for name in ("one", "two"):
        assert train.main(line(tmp_path, tmp_path / "results" / name, **options)) == 0
        assert len(results(tmp_path / "results" / name)["classwise"]) == 4


def test_a_picture_that_goes_or_comes_moves_no_other(tmp_path):
    folders(tmp_path, 30, names=["n01", "grass_green"])

    def parts():
        dataset = read(tmp_path)
        named = {"train": dataset.train_x, "val": dataset.val, "test": dataset.test}
        return {item.impath: part for part, items in named.items() for item in items}

    before = parts()
    for path in list(before)[:9]:
        Path(path).unlink()
    picture(tmp_path / "n01" / "00.png")
    picture(tmp_path / "a new class" / "1.png")
    for index in range(5):
        picture(tmp_path / "a new class" / f"{index}.png")
    after = parts()
    assert len(before) == 60 and {path: after[path] for path in after if path in before} == {
        path: before[path] for path in before if path in after
    }


@pytest.mark.parametrize("count", [4, 5, 6])
def test_each_class_is_in_each_part(tmp_path, count):
    for name in range(12):
        for index in range(count):
            picture(tmp_path / f"class {name}" / f"{index}.png")
    dataset = read(tmp_path)
    for part in (dataset.train_x, dataset.val, dataset.test):
        assert len({item.label for item in part}) == 12


# --- names and lists --------------------------------------------------------------------------------------------

NFC, NFD = (unicodedata.normalize(form, "café crème") for form in ("NFC", "NFD"))


@pytest.mark.parametrize(("folder", "listed"), [(NFC, NFD), (NFD, NFC)])
def test_accents_of_a_mac(tmp_path, folder, listed):
    """The same name, whichever way it is spelt on the disk, in names.csv, in a list and in other parts."""
    assert NFC != NFD
    for name in (folder, "n01"):
        for index in range(4):
            picture(tmp_path / name / f"é{index}.png")
    write_csv(tmp_path / "names.csv", ["folder", "name"], [listed, "a coffee"])
    assert read(tmp_path, DATASET__FOLDER__NAMES="names.csv").classnames == ["a coffee", "n01"]
    other = unicodedata.normalize("NFD" if folder == NFC else "NFC", "é")
    rows = [[f"{name}/{other}{index}.png", name] for name in (listed, "n01") for index in range(4)]
    write_csv(tmp_path / "list.csv", ["path", "class"], *rows, [f"{folder}/é3.png", folder])
    dataset = read(tmp_path, DATASET__FOLDER__CSV="list.csv")
    assert dataset.classnames == [NFC, "n01"] and len(everything(dataset, tmp_path)) == 8
    root = tmp_path / "parts"
    for part, name in (("train", folder), ("test", listed)):
        picture(root / part / name / "1.png")
        picture(root / part / "n01" / "1.png")
    assert [item.label for item in read(root).test] == [0, 1]


def test_two_spellings_side_by_side(tmp_path):
    for name in (NFC, NFD):
        picture(tmp_path / name / "1.png")
    with pytest.raises(InputError, match="holds two folders 'café crème', .*join them"):
        read(tmp_path)


def test_lists_of_other_systems(tmp_path):
    """Backslashes, Windows line ends, a byte order mark, spaces and capitals in the header, other words for parts."""
    folders(tmp_path, 3, names=["n01", "grass_green"])
    rows = ["Path, Class,SPLIT"]
    for name in ("n01", "grass_green"):
        rows += [rf"{name}\0.png,{name},Training", rf".\{name}\1.JPG,{name}, validation", rf"{name}/2.png,{name},TEST"]
    (tmp_path / "list.csv").write_bytes(("\ufeff" + "\r\n".join(rows) + "\r\n\r\n").encode())
    dataset = read(tmp_path, DATASET__FOLDER__CSV="list.csv")
    assert paths(dataset.train_x, tmp_path) == ["grass_green/0.png", "n01/0.png"]
    assert [len(part) for part in (dataset.train_x, dataset.val, dataset.test)] == [2, 2, 2]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("path,class\n\nn01/0.png,a\nn01/1.JPG,b, black\n", r"l\.csv, line 4: there are 1 values more than columns .*double quotes"),
        ('path,class\n"n01/0.png","a\nb"\nn01/1.JPG\n', r"l\.csv, line 4: there is no class"),
        ("path;class\nn01/0.png;a\n", r"line 2: there is no path \(the header is path;class\)"),
        ('path,class\nn01/0.png,"a\n', r"l\.csv cannot be read"),
    ],
)  # fmt: skip
def test_rows_that_do_not_read(tmp_path, text, says):
    folders(tmp_path)
    (tmp_path / "l.csv").write_text(text)
    with pytest.raises(InputError, match=says):
        read(tmp_path, DATASET__FOLDER__CSV="l.csv")


@pytest.mark.parametrize(
    ("parts", "link", "to", "says"),
    [
        (("train", "test"), "val", "test", "in val and in test"),
        (("train", "test"), "test/n01/9.png", "train/n01/0.png", "in train and in test"),
        (("",), "n02", "n01", "as 'n01' and as 'n02'"),
    ],
)
def test_folders_that_are_links_to_others(tmp_path, parts, link, to, says):
    folders(tmp_path, 10, parts)
    (tmp_path / link).symlink_to(tmp_path / to)
    with pytest.raises(InputError, match=f"{tmp_path} has .* twice, .*{says}"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([["0.png", "a", "train"], ["2.png", "b", "train"], ["0.png", "a", "test"], ["./2.png", "b", "test"]], "2 .* n01/0.png first, in train and in test"),
        ([["0.png", "a", "train"], ["0.png", "b", "train"], ["2.png", "a", "test"]], "1 .* n01/0.png first, as 'a' and as 'b'"),
    ],
)  # fmt: skip
def test_pictures_that_judge_what_they_taught(tmp_path, capsys, rows, says):
    folders(tmp_path, names=["n01"])
    rows = [[f"n01/{path}", name, part] for path, name, part in rows]
    write_csv(tmp_path / "l.csv", ["path", "class", "split"], *rows)
    options = {"DATASET__FOLDER__CSV": "l.csv"}
    with pytest.raises(InputError, match=f"l.csv has {says}: .*DATASET.ALLOW_SHARED_IMAGES"):
        read(tmp_path, **options)
    assert train.main(line(tmp_path, tmp_path / "out", **options)) == 2
    dataset = read(tmp_path, **options, DATASET__ALLOW_SHARED_IMAGES=True)
    assert len(dataset.train_x) + len(dataset.test) == len(rows)


@pytest.mark.parametrize(
    ("one", "other"),
    [("A b", "a  b"), ("A_b", "a b"), ("\uff2d\uff35\uff27", "mug"), (NFC, NFC.upper()), ("A320", "A 320"), ("a-b", "a - b"), ("Q&amp;A", "Q&A")],
)  # fmt: skip
def test_names_with_the_same_tokens(tmp_path, one, other):
    tokens = [SimpleTokenizer().encode(name.replace("_", " ")) for name in (one, other)]
    assert tokens[0] == tokens[1]
    for name in (one, other, "dog"):
        for index in range(4):
            picture(tmp_path / name / f"{index}.png")
    with pytest.raises(InputError, match=r"the classes '.*' and '.*' have the same name in a prompt: rename"):
        read(tmp_path)
    write_csv(tmp_path / "names.csv", ["folder", "name"], [other, "another"])
    assert len(read(tmp_path, DATASET__FOLDER__NAMES="names.csv").classnames) == 3


def test_a_name_without_tokens(tmp_path):
    for name in ("_", "dog"):
        for index in range(4):
            picture(tmp_path / name / f"{index}.png")
    with pytest.raises(InputError, match="the class '_' has no name in a prompt"):
        read(tmp_path)


def test_a_new_half_without_test_images(tmp_path, capsys):
    folders(tmp_path, 2, ("train",))
    folders(tmp_path, 2, ("test",), list(COLOURS)[:2])
    assert len(read(tmp_path, DATASET__SUBSAMPLE_CLASSES="base").test) == 4
    with pytest.raises(InputError, match="The new half of the classes, 2 of 4, has no test images"):
        read(tmp_path, DATASET__SUBSAMPLE_CLASSES="new")


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


def test_a_folder_that_cannot_be_listed_is_not_passed_over(tmp_path, monkeypatch):
    """Its pictures would be missing without a word."""
    root = folders(tmp_path / "pictures")
    (root / "n01" / "closed").mkdir()
    real = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: real(f"{path}/none" if str(path).endswith("closed") else path))
    with pytest.raises(InputError, match="n01/closed.* cannot be listed .*correct its rights"):
        read_class_folders(str(root))
