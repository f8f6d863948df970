"""python -m datasets.verify on small folders in the benchmarks' layouts."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
from PIL import Image

import datasets.verify as verify
from datasets.sources import File
from datasets.verify import READERS
from tests.helpers import REPOSITORY as ROOT


def draw(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(folder / name)


def shrink(monkeypatch, name: str, rows: tuple[int, int, int]) -> None:
    """The facts of a benchmark that is small enough to be made here, and whose list nobody knows."""
    monkeypatch.setattr(READERS[name], "rows", rows)
    sources = [replace(each, sha256="") if isinstance(each, File) else each for each in READERS[name].sources]
    monkeypatch.setattr(READERS[name], "sources", tuple(sources))


@pytest.fixture
def pets(tmp_path, monkeypatch) -> Path:
    """A whole, small `oxford_pets`."""
    shrink(monkeypatch, "oxford_pets", (4, 2, 2))
    folder = tmp_path / "oxford_pets"
    draw(folder / "images", *(f"{name}_{number}.jpg" for name in ("cat", "dog") for number in range(4)))
    split = {
        part: [[f"{name}_{number}.jpg", label, name] for label, name in enumerate(("cat", "dog")) for number in numbers]
        for part, numbers in (("train", (0, 1)), ("val", (2,)), ("test", (3,)))
    }
    (folder / "split_zhou_OxfordPets.json").write_text(json.dumps(split))
    return folder


def run(capsys, root, *args: str) -> tuple[int, dict]:
    code = verify.main([*args, "--root", str(root), "--json"])
    return code, {finding["name"]: finding for finding in json.loads(capsys.readouterr().out)}


def test_whole(pets, tmp_path, capsys):
    code, found = run(capsys, tmp_path, "OxfordPets")
    assert code == 0
    assert found == {
        "oxford_pets": {
            "name": "oxford_pets",
            "folder": str(pets),
            "present": True,
            "images": 8,
            "images_expected": 8,
            "split": "CoOp's",
            "split_sha256": sha256((pets / "split_zhou_OxfordPets.json").read_bytes()).hexdigest(),
            "rows": [4, 2, 2],
            "rows_expected": [4, 2, 2],
            "broken": [],
            "whole": True,
            "note": "",
            "next": "",
        }
    }


def test_table_of_all(pets, tmp_path, capsys):
    assert verify.main(["--root", str(tmp_path)]) == 1  # the other 14 are missing
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["benchmark", "there", "images", "split", "SHA-256", "train/val/test", "next"]
    assert [line.split()[0] for line in lines] == list(READERS)
    digest = sha256((pets / "split_zhou_OxfordPets.json").read_bytes()).hexdigest()
    for line in lines:
        name, there, *rest = line.split()
        if name == "oxford_pets":
            assert [there, *rest] == ["yes", "8", "/", "8", "CoOp's", digest[:12], "4/2/2", "whole"]
        else:
            assert there == "no" and line.endswith(f"python -m datasets.prepare {name} --root {tmp_path}")


def test_nothing_is_written(pets, tmp_path, capsys):
    (pets / "split_zhou_OxfordPets.json").unlink()
    (pets / "annotations").mkdir()
    before = sorted(tmp_path.rglob("*"))
    code, found = run(capsys, tmp_path, "oxford_pets")
    assert code == 1 and found["oxford_pets"]["split"] == "missing" and sorted(tmp_path.rglob("*")) == before
    assert "datasets.prepare oxford_pets" in found["oxford_pets"]["next"]
    assert "(fetches split_zhou_OxfordPets.json)" in found["oxford_pets"]["next"]


def test_too_few_images(pets, tmp_path, capsys):
    (pets / "images/dog_3.jpg").unlink()
    (pets / "images/.hidden.jpg").touch()
    (pets / "images/dog.mat").touch()
    code, found = run(capsys, tmp_path, "oxford_pets")
    assert code == 1 and found["oxford_pets"]["images"] == 7 and "datasets.prepare" in found["oxford_pets"]["next"]


def test_an_image_of_the_split_is_missing(pets, tmp_path, capsys):
    (pets / "images/dog_3.jpg").rename(pets / "images/dog_4.jpg")
    code, found = run(capsys, tmp_path, "oxford_pets")
    assert code == 1 and "names 1 images that are not in" in found["oxford_pets"]["next"]


@pytest.mark.parametrize("content", ["{", "[]", '{"train": [], "val": [], "test": [1]}', '{"train": []}'])
def test_a_damaged_split(pets, tmp_path, capsys, content):
    (pets / "split_zhou_OxfordPets.json").write_text(content)
    code, found = run(capsys, tmp_path, "oxford_pets")
    assert code == 1 and "is not a split file" in found["oxford_pets"]["next"]


def test_other_sizes_than_coop(pets, tmp_path, capsys):
    split = json.loads((pets / "split_zhou_OxfordPets.json").read_text())
    split["train"].append(split["val"].pop())
    (pets / "split_zhou_OxfordPets.json").write_text(json.dumps(split))
    assert verify.main(["oxford_pets", "--root", str(tmp_path)]) == 1
    assert "5/1/2 (not 4/2/2)  the lists are not CoOp's: move them away" in capsys.readouterr().out


def known(monkeypatch, sha256: str) -> None:
    """The SHA-256 of the list of `oxford_pets`."""
    first, *others = READERS["oxford_pets"].sources
    monkeypatch.setattr(READERS["oxford_pets"], "sources", (replace(first, sha256=sha256), *others))


def test_whose_list_it_is_shows_in_what_it_says(pets, tmp_path, capsys, monkeypatch):
    """Spaces and line ends do not count: some copies of CoOp's files end in a line end, which CoOp's do not."""
    file = pets / "split_zhou_OxfordPets.json"
    split = json.loads(file.read_text())
    as_coop = json.dumps(split, indent=4, separators=(",", ": "))
    known(monkeypatch, sha256(as_coop.encode()).hexdigest())
    for text in (as_coop, f"{as_coop}\n", json.dumps(split)):
        file.write_text(text)
        code, found = run(capsys, tmp_path, "oxford_pets")
        assert (code, found["oxford_pets"]["split"], found["oxford_pets"]["next"]) == (0, "CoOp's", "")
    split["train"][0], split["train"][1] = split["train"][1], split["train"][0]  # the same images, in another order
    file.write_text(json.dumps(split))
    code, found = run(capsys, tmp_path, "oxford_pets")
    assert code == 1 and found["oxford_pets"]["split"] == "another" and not found["oxford_pets"]["whole"]
    assert found["oxford_pets"]["next"].startswith("the lists are not CoOp's: move them away, then python -m datasets.")


def test_a_file_that_changed_since_it_came(pets, tmp_path, capsys):
    digest = sha256((pets / "split_zhou_OxfordPets.json").read_bytes()).hexdigest()
    kept = pets / "split_zhou_OxfordPets.json.sha256"
    kept.write_text(f"{digest}  split_zhou_OxfordPets.json\n")
    assert run(capsys, tmp_path, "oxford_pets")[0] == 0
    kept.write_text(f"{'0' * 64}  split_zhou_OxfordPets.json\n")
    code, found = run(capsys, tmp_path, "oxford_pets")
    says = (
        "split_zhou_OxfordPets.json changed since it came (see split_zhou_OxfordPets.json.sha256): move it away, then"
    )
    assert code == 1 and found["oxford_pets"]["next"].startswith(says)


def test_images_that_no_list_names_are_explained(pets, tmp_path, capsys):
    draw(pets / "images", "1.jpg", "a/1.jpg", "a/2.jpg", "b/1.jpg")
    code, found = run(capsys, tmp_path, "oxford_pets")
    says = "the lists leave 4 of the 12 images out, 2 in a and 1 in b"
    assert code == 0 and found["oxford_pets"]["note"] == says
    assert verify.main(["oxford_pets", "--root", str(tmp_path)]) == 0
    assert "12 / 8  CoOp's" in (out := capsys.readouterr().out) and out.endswith(f"whole; {says}\n")


def test_an_own_split(pets, tmp_path, capsys):
    (pets / "split_zhou_OxfordPets.json").rename(pets / "split_own_OxfordPets.json")
    code, found = run(capsys, tmp_path, "oxford_pets")
    assert code == 0 and found["oxford_pets"]["split"] == "own" and "not comparable" in found["oxford_pets"]["next"]


def test_deep_lists_broken_images(pets, tmp_path, capsys, monkeypatch):
    assert run(capsys, tmp_path, "oxford_pets", "--deep")[0] == 0
    for number in range(3):
        (pets / f"images/cat_{number}.jpg").write_bytes((pets / f"images/cat_{number}.jpg").read_bytes()[:-200])
    assert run(capsys, tmp_path, "oxford_pets")[0] == 0  # not opened
    code, found = run(capsys, tmp_path, "oxford_pets", "--deep")
    assert code == 1 and found["oxford_pets"]["broken"] == [
        str(pets / f"images/cat_{number}.jpg") for number in range(3)
    ]
    monkeypatch.setattr(verify, "AT_MOST", 2)
    assert len(run(capsys, tmp_path, "oxford_pets", "--deep")[1]["oxford_pets"]["broken"]) == 2


def test_a_benchmark_without_split_file(tmp_path, capsys, monkeypatch):
    shrink(monkeypatch, "fgvc_aircraft", (2, 1, 1))
    folder = tmp_path / "fgvc_aircraft"
    draw(folder / "images", "1.jpg", "2.jpg", "3.jpg", "4.jpg")
    (folder / "variants.txt").write_text("A340-300\n")
    for part, numbers in (("train", "12"), ("val", "3"), ("test", "4")):
        (folder / f"images_variant_{part}.txt").write_text("".join(f"{number} A340-300\n" for number in numbers))
    code, found = run(capsys, tmp_path, "fgvc_aircraft")
    assert (
        code == 0 and found["fgvc_aircraft"]["split"] == "none needed" and found["fgvc_aircraft"]["rows"] == [2, 1, 1]
    )
    (folder / "variants.txt").unlink()
    code, found = run(capsys, tmp_path, "fgvc_aircraft")
    assert code == 1 and "variants.txt is missing" in found["fgvc_aircraft"]["next"]


def test_a_set_that_only_tests(tmp_path, capsys, monkeypatch):
    shrink(monkeypatch, "imagenet_a", (0, 0, 2))
    folder = tmp_path / "imagenet-adversarial"
    draw(folder / "imagenet-a", "n01/1.jpg", "n02/1.jpg")
    (folder / "classnames.txt").write_text("n01 tench\nn02 cock\nn03 hen\n")
    code, found = run(capsys, tmp_path, "imagenet_a", "--deep")
    assert code == 0 and found["imagenet_a"]["rows"] == [0, 0, 2]


def test_embedded_sets(tmp_path, capsys, monkeypatch):
    folder = tmp_path / "embedded_small"
    draw(folder / "images", "a/1.png", "a/2.png", "a/3.png")
    rows = [[f"a/{number}.png", 0, "a"] for number in (1, 2, 3)]
    (folder / "split_zhou_EmbeddedSmall.json").write_text(
        json.dumps(dict(zip(("train", "val", "test"), [[row] for row in rows], strict=True)))
    )
    (folder / "world.json").write_text(json.dumps({"images": 3}))
    monkeypatch.setattr("datasets.prepare.READERS", {"imagenet": READERS["imagenet"]})  # the others are not asked for
    code, found = run(capsys, tmp_path)
    assert code == 1 and set(found) == {"imagenet", "embedded_small"}
    assert found["embedded_small"]["whole"] and found["embedded_small"]["split"] == "drawn"
    (folder / "images/a/3.png").unlink()
    code, found = run(capsys, tmp_path, "embedded_small")
    assert code == 1 and "python -m datasets.embedded --root" in found["embedded_small"]["next"]


def test_mistakes_are_one_sentence(tmp_path, capsys):
    for args, said in (
        (["--root", str(tmp_path / "nowhere")], "The data root .*nowhere does not exist"),
        (["oxford_cats", "--root", str(tmp_path)], "no benchmark 'oxford_cats': the nearest names are oxford_pets"),
        (["embedded_small", "--root", str(tmp_path)], "no benchmark 'embedded_small'"),  # not there
    ):
        with pytest.raises(SystemExit, match="2"):
            verify.main(args)
        error = capsys.readouterr().err.splitlines()[-1]
        assert error.startswith("python -m datasets.verify: error: ")
        assert re.search(said, error)


def test_as_a_command(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "datasets.verify", "dtd", "--root", tmp_path], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 1 and done.stderr == "" and len(done.stdout.splitlines()) == 2


# --- your own pictures ------------------------------------------------------------------------------------------


def drawn_apart(folder: Path, *names: str) -> None:
    """Pictures of which no two are the same."""
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (number, 7 * number % 256, len(name))).save(folder / name)


def own(capsys, root, *args: str) -> tuple[int, dict]:
    code = verify.main(["folder", *args, "--root", str(root), "--json"])
    return code, json.loads(capsys.readouterr().out)[0]


def test_own_pictures_that_are_whole(tmp_path, capsys):
    drawn_apart(
        tmp_path, *(f"{name}/{number}.png" for name in ("cat", "big_dog") for number in range(4)), "cat/a/5.png"
    )
    (tmp_path / "cat/notes.txt").touch()
    code, found = own(capsys, tmp_path)
    assert (code, found["images"], found["parts"], found["classes"]) == (0, 9, {}, {"big_dog": 4, "cat": 5})
    assert found["whole"] and found["problems"] == [] and found["passed_over"] == "1 files are passed over: 1 .txt"
    assert verify.main(["folder", "--root", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert (
        "9 images of 2 classes" in said and "a class: 4 ('big_dog') to 5 ('cat')" in said and said.endswith("whole\n")
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["big_dog", "cat"]  # nothing is written


def test_all_that_is_wrong_is_said_at_once(tmp_path, capsys):
    names = ("A b", "a  b", "few", "cat")
    drawn_apart(tmp_path, *(f"{name}/{number}.png" for name in names for number in range(3 if name == "few" else 5)))
    (tmp_path / "few/copy.png").write_bytes((tmp_path / "cat/1.png").read_bytes())
    (tmp_path / "few/0.png").unlink()
    for number in range(12):
        (tmp_path / f"cat/{number}.jpg").write_text(f"no picture {number}")
    code, found = own(capsys, tmp_path)
    assert code == 1 and not found["whole"] and len(found["broken"]) == 12
    says = [
        r"too few images to divide, which takes 4: 'few' \(3\): add some",
        r"same name in a prompt: 'A b' and 'a  b': rename",
        r"1 image\(s\) are there under two names: cat/1.png \('cat'\) = few/copy.png \('few'\): keep one",
        r"broken: .*/cat/0.jpg, .*, .* and 9 more: save them again",
    ]
    assert len(found["problems"]) == len(says)
    for problem, said in zip(found["problems"], says, strict=True):
        assert re.search(said, problem) and "prepare" not in problem and "unpack" not in problem


def test_own_parts_that_share_pictures(tmp_path, capsys):
    drawn_apart(tmp_path, *(f"{part}/{name}/{n}.png" for part in ("train", "Test") for name in "ab" for n in range(2)))
    assert own(capsys, tmp_path)[0] == 0
    (tmp_path / "Test/a/again.png").write_bytes((tmp_path / "train/a/0.png").read_bytes())
    (tmp_path / "train/a/more.png").write_bytes((tmp_path / "train/a/1.png").read_bytes())  # no leak
    drawn_apart(tmp_path, "train/untested/1.png")
    code, found = own(capsys, tmp_path)
    assert code == 1 and found["parts"] == {"train": 6, "val": 0, "test": 5}
    assert [re.sub(r":.*", "", problem) for problem in found["problems"]] == [
        "no images to test on",
        "1 image(s) are there under two names",
    ]
    assert "train/a/0.png (train, 'a') = Test/a/again.png (test, 'a')" in found["problems"][1]


def test_own_lists(tmp_path, capsys):
    drawn_apart(tmp_path, *(f"p/{number}.png" for number in range(4)))
    rows = ["path,class,split", "p/0.png,a,train", "p/1.png,b,train", "p/2.png,a,test", "p/3.png,b,test"]
    (tmp_path / "list.csv").write_text("\n".join(rows))
    assert own(capsys, tmp_path, "--csv", "list.csv")[0] == 0
    (tmp_path / "names.csv").write_text("folder,name\nb,A")
    code, found = own(capsys, tmp_path, "--csv", "list.csv", "--names-csv", "names.csv")
    assert code == 1 and ["'a' and 'A'" in problem for problem in found["problems"]] == [True]
    (tmp_path / "list.csv").write_text("\n".join([*rows, r"p\1.png,b,test"]))
    code, found = own(capsys, tmp_path, "--csv", "list.csv")
    assert code == 1 and "1 image(s) listed twice: p/1.png (train, 'b' and test, 'b')" in found["problems"][0]
    (tmp_path / "list.csv").write_text("\n".join([*rows, "p/1.png,b,black,test"]))
    code, found = own(capsys, tmp_path, "--csv", "list.csv")
    assert code == 1 and "line 6" in found["problems"][0]


def test_all_folders_that_cannot_be_read_are_named(tmp_path, capsys):
    """And what is wrong with the others is looked for all the same."""
    drawn_apart(
        tmp_path, *(f"{part}/{name}/{number}.png" for part in ("train", "test") for name in "ab" for number in range(2))
    )
    drawn_apart(tmp_path, "beside/1.png", "test/untrained/1.png", "train/untested/1.png")
    for empty in ("train/none", "test/nothing", "val"):
        (tmp_path / empty).mkdir()
    (tmp_path / "train/a/1.png").write_text("no picture")
    code, found = own(capsys, tmp_path)
    says = [
        "val holds no class folders: put",
        "and beside it beside/",
        "The class folder .*test/nothing holds no images",
        "The class folder .*train/none holds no images",
        "the class 'untrained' has test images and no training image",
        "no images to test on: 'untested'",
        "broken: .*train/a/1.png",
    ]
    assert code == 1 and found["classes"] == {"a": 4, "b": 4, "untested": 1}
    assert all(any(re.search(said, problem) for problem in found["problems"]) for said in says)
    assert len(found["problems"]) == len(says)


def test_all_lines_of_a_list_that_cannot_be_read_are_named(tmp_path, capsys):
    drawn_apart(tmp_path, *(f"p/{number}.png" for number in range(5)))
    rows = [
        "path,class,split",
        *(f"p/{number}.png,{'ab'[number % 2]},{('train', 'test')[number // 2]}" for number in range(4)),
    ]
    (tmp_path / "list.csv").write_text(
        "\n".join([*rows, ",a,train", "p/4.png,a,tomorrow", "p/9.png,b,test", "p/4.png,c,test"])
    )
    code, found = own(capsys, tmp_path, "--csv", "list.csv")
    says = [
        "line 6: there is no path",
        "line 7: the split 'tomorrow'",
        "names 1 images that are not",
        "'c' has test images and no",
    ]
    assert code == 1 and found["images"] == 4 and len(found["problems"]) == len(says)
    assert all(said in problem for said, problem in zip(says, found["problems"], strict=True))
    (tmp_path / "list.csv").write_text("\n".join(["file,class", *rows[1:]]))
    (problem,) = own(capsys, tmp_path, "--csv", "list.csv")[1]["problems"]
    assert "line 2: there " in problem
    (tmp_path / "list.csv").write_text("\n".join([rows[0], *["p/0.png,,"] * 30]))
    assert own(capsys, tmp_path, "--csv", "list.csv")[1]["problems"][-1] == "10 more of this kind."


def test_one_class_is_worth_a_remark(tmp_path, capsys):
    """A run takes it, and says the same."""
    drawn_apart(tmp_path, *(f"cat/{number}.png" for number in range(16)))
    code, found = own(capsys, tmp_path)
    assert code == 0 and found["whole"] and "there is one class, 'cat', so that every prediction" in found["remarks"][0]
    assert verify.main(["folder", "--root", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "  a class: 16\n" in said and "  remark: there is one class" in said and said.endswith("whole\n")


def test_own_lists_that_lead_outside(tmp_path, capsys):
    root = tmp_path / "root"
    root.mkdir()
    drawn_apart(tmp_path, *(f"p/{number}.png" for number in range(8)))
    (root / "list.csv").write_text("\n".join(["path,class", *(f"../p/{n}.png,{'ab'[n % 2]}" for n in range(8))]))
    code, found = own(capsys, root, "--csv", "list.csv")
    assert code == 1 and "names 8 images outside" in found["problems"][0]
    assert own(capsys, root, "--csv", "list.csv", "--allow-outside")[0] == 0


def test_own_pictures_alone(tmp_path, capsys):
    for args in (["folder", "dtd"], ["dtd", "--csv", "list.csv"]):
        with pytest.raises(SystemExit, match="2"):
            verify.main([*args, "--root", str(tmp_path)])
        assert "own pictures" in capsys.readouterr().err
    assert verify.main(["folder", "--root", str(tmp_path)]) == 1
    assert "put the images there, one folder a class" in capsys.readouterr().out
