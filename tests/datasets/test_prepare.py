"""python -m datasets.prepare, against a server on this machine that misbehaves as asked and archives made here."""

import hashlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import namedtuple
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import gdown
import pytest
from filelock import FileLock

import datasets.prepare as prepare
from dassl.utils import InputError
from datasets.prepare import READERS
from datasets.prepare.install import count_images
from datasets.sources import Archive, File, Way
from tests.datasets.archives import IMAGES, tar_of, tree, under, zip_of
from tests.helpers import REPOSITORY
from tests.server import serving

ROWS = (2, 1, 1)
SPLIT = json.dumps(
    {part: [["a/1.jpg", 0, "a"]] * count for part, count in zip(("train", "val", "test"), ROWS, strict=True)}
)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setenv("CLIP_RETRY_SECONDS", "0")


# --- a server -----------------------------------------------------------------------------------------------------


@pytest.fixture
def server():
    with serving() as server:
        yield server


@pytest.fixture
def pets(server, monkeypatch):
    """`oxford_pets` on that server: a split, annotations to spare, and images on two mirrors; returned to be changed."""
    content = tar_of(under("images"))
    server.files |= {
        "split": SPLIT.encode(),
        "spare": tar_of({"annotations/list.txt": b"list"}),
        "one": content,
        "two": content,
    }
    digest = f"md5:{hashlib.md5(content).hexdigest()}"
    ways = tuple(Way(f"{server.url}/{name}", len(content), digest) for name in ("one", "two"))
    sources = (
        File("split_zhou_OxfordPets.json", (Way(f"{server.url}/split"),), entries=ROWS),
        Archive("annotations.tar.gz", (Way(f"{server.url}/spare"),), True, members={"annotations": "annotations"}),
        Archive("images.tar.gz", ways, members={"images": "images"}, images={"images": 4}),
    )
    state(monkeypatch, "oxford_pets", ROWS, sources)
    return sources


def state(monkeypatch, name: str, rows: tuple[int, int, int], sources: tuple, by_hand: str = "") -> None:
    """Other facts for a benchmark."""
    for fact, value in dict(rows=rows, sources=sources, by_hand=by_hand, mirror=None).items():
        monkeypatch.setattr(READERS[name], fact, value)


def replace_images(monkeypatch, **facts) -> None:
    """Other facts for the last source of `oxford_pets`."""
    *others, images = READERS["oxford_pets"].sources
    state(monkeypatch, "oxford_pets", ROWS, (*others, replace(images, **facts)), "Ask X.")


def run(root, *names: str) -> int:
    return prepare.main([*(names or ["oxford_pets"]), "--root", str(root)])


WHOLE = {"split_zhou_OxfordPets.json", *under("images")}


# --- fetching -----------------------------------------------------------------------------------------------------


def test_fetches_once_and_leaves_nothing_else(server, pets, tmp_path, capsys):
    assert run(tmp_path) == 0
    assert tree(tmp_path / "oxford_pets") == WHOLE
    assert (tmp_path / "oxford_pets/images/a/1.jpg").read_bytes() == IMAGES["a/1.jpg"]
    assert [path for path, _ in server.requests] == ["split", "one"]  # nothing to spare
    assert "ready: oxford_pets" in capsys.readouterr().out
    assert run(tmp_path) == 0
    assert len(server.requests) == 2 and capsys.readouterr().out.count("there already") == 2


def test_archives_can_be_kept(server, pets, tmp_path):
    prepare.main(["oxford_pets", "--root", str(tmp_path), "--keep-archives"])
    shutil.rmtree(tmp_path / "oxford_pets/images")
    prepare.main(["oxford_pets", "--root", str(tmp_path), "--keep-archives"])
    assert [path for path, _ in server.requests] == ["split", "one"] and tree(tmp_path / "oxford_pets") > WHOLE


@pytest.mark.parametrize("ranges", [True, False])
def test_goes_on_where_it_broke_off(server, pets, tmp_path, ranges):
    server.files["split"] = SPLIT.encode()
    (tmp_path / "oxford_pets").mkdir()
    (tmp_path / "oxford_pets/split_zhou_OxfordPets.json").write_text(SPLIT)
    server.breaks, server.ranges, server.slow = 1, ranges, 0.001
    assert run(tmp_path) == 0
    half = len(server.files["one"]) // 2
    assert server.requests == [("one", None), ("one", f"bytes={half}-")]
    assert tree(tmp_path / "oxford_pets") == WHOLE


def test_a_part_is_kept_for_another_call_and_another_mirror(server, pets, tmp_path, capsys):
    (tmp_path / "oxford_pets").mkdir()
    (tmp_path / "oxford_pets/split_zhou_OxfordPets.json").write_text(SPLIT)
    server.breaks = 100
    assert run(tmp_path) == 2
    (part,) = (tmp_path / "oxford_pets/.downloads").glob("*.part")
    have = part.stat().st_size
    assert "what has come is kept" in capsys.readouterr().out
    server.breaks, server.status, server.requests = 0, {"one": 404}, []
    assert run(tmp_path) == 0
    assert server.requests == [("one", f"bytes={have}-"), ("two", f"bytes={have}-")]


@pytest.mark.parametrize("status", [403, 404, 500])
def test_the_next_mirror_where_one_refuses(server, pets, tmp_path, capsys, status):
    server.status = {"one": status}
    assert run(tmp_path) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "The next place is tried." in line]
    assert str(status) in line and f"{server.url}/one" in line


@pytest.mark.parametrize(
    "wrong", [lambda content: content[:-1] + b"?", lambda content: content + b"?", lambda _: b"<html>"]
)
def test_wrong_bytes_are_thrown_away(server, pets, tmp_path, capsys, wrong):
    server.files["one"] = wrong(server.files["one"])
    assert run(tmp_path) == 0
    assert re.search(r"/one gave a wrong file \(.*\), which was thrown away\. The next", capsys.readouterr().out)
    assert tree(tmp_path / "oxford_pets") == WHOLE


def test_every_mirror_wrong(server, pets, tmp_path, capsys):
    server.files |= {"one": b"no", "two": b"no"}
    assert run(tmp_path) == 2
    out = capsys.readouterr().out
    assert "left to do for oxford_pets:" in out and "ready: none" in out and "Traceback" not in out
    assert tree(tmp_path / "oxford_pets") == {"split_zhou_OxfordPets.json"}


def test_an_archive_of_which_nothing_is_known_is_judged_by_its_contents(server, pets, tmp_path, monkeypatch, capsys):
    server.files |= {"one": b"<html>No such file</html>", "two": tar_of({"images/1.jpg": b"1"})}
    ways = tuple(Way(f"{server.url}/{name}") for name in ("one", "two", "three"))
    replace_images(monkeypatch, ways=ways)
    server.files["three"] = zip_of(under("images"))
    assert run(tmp_path) == 0
    out = capsys.readouterr().out
    assert "cannot be unpacked" in out and "holds 1 of 4 images" in out
    assert tree(tmp_path / "oxford_pets") == WHOLE


def test_what_is_to_spare_is_fetched_where_the_split_is_missing(server, pets, tmp_path):
    server.status = {"split": 404}
    assert run(tmp_path) == 2
    assert tree(tmp_path / "oxford_pets") == {"annotations/list.txt", *under("images")}


def test_what_the_user_is_asked_depends_on_what_is_missing(server, pets, tmp_path, monkeypatch, capsys):
    replace_images(monkeypatch)  # with a note on what to do by hand for the images
    server.status = {"split": 404, "spare": 404}
    assert run(tmp_path) == 2
    out = capsys.readouterr().out
    assert "annotations.tar.gz. Only needed without CoOp's split file." in out and "Ask X." not in out


@pytest.mark.parametrize("damaged", ["{", '{"train": [], "val": [], "test": []}', "<html>", "[1, 2]", '{"train": 1}'])
def test_a_damaged_file_is_replaced_and_kept(server, pets, tmp_path, damaged):
    folder = tmp_path / "oxford_pets"
    folder.mkdir()
    (folder / "split_zhou_OxfordPets.json").write_text(damaged)
    assert run(tmp_path) == 0
    assert (folder / "split_zhou_OxfordPets.json").read_text() == SPLIT
    assert (folder / "split_zhou_OxfordPets.json.before").read_text() == damaged


def test_a_split_of_wrong_sizes_is_refused(server, pets, tmp_path, capsys):
    server.files["split"] = b'{"train": [], "val": [], "test": []}'
    assert run(tmp_path) == 2
    assert "(0, 0, 0) entries in place of (2, 1, 1)" in capsys.readouterr().out
    assert "split_zhou_OxfordPets.json" not in tree(tmp_path / "oxford_pets")


def test_a_list_that_is_known_to_be_another(server, pets, tmp_path, monkeypatch, capsys):
    """One that comes is refused, one that is there stays; CoOp's is known whatever its spaces and line ends."""
    as_coop = json.dumps(json.loads(SPLIT), indent=4, separators=(",", ": "))
    split, *others = pets
    split = replace(split, sha256=hashlib.sha256(as_coop.encode()).hexdigest())
    state(monkeypatch, "oxford_pets", ROWS, (split, *others))
    other = SPLIT.replace('"a"', '"b"')
    server.files["split"] = other.encode()
    assert run(tmp_path) == 2
    file = tmp_path / "oxford_pets/split_zhou_OxfordPets.json"
    assert "is another list than CoOp's" in capsys.readouterr().out and not file.exists()
    file.write_text(other)
    assert run(tmp_path) == 2
    assert f"{file} is another list than CoOp's" in capsys.readouterr().out and file.read_text() == other
    file.unlink()
    server.files["split"] = f"{as_coop}\n".encode()
    assert run(tmp_path) == 0 and run(tmp_path) == 0


def test_what_nobody_states_a_hash_of_is_told_kept_and_compared(server, pets, tmp_path, monkeypatch, capsys):
    """Of the list that came and of an archive that did; what comes later must be the same, or is the user's to judge."""
    replace_images(monkeypatch, ways=(Way(f"{server.url}/one"),))
    folder = tmp_path / "oxford_pets"
    assert run(tmp_path) == 0
    out = capsys.readouterr().out
    for name, content in (("split_zhou_OxfordPets.json", SPLIT.encode()), ("images.tar.gz", server.files["one"])):
        digest = hashlib.sha256(content).hexdigest()
        assert f"{name}: nobody states its SHA-256; it is {digest}, kept in {name}.sha256" in out
        assert (folder / f"{name}.sha256").read_text() == f"{digest}  {name}\n"
    shutil.rmtree(folder / "images")
    server.files["one"] = tar_of(under("images", {**IMAGES, "a/3.jpg": b"new"}))
    assert run(tmp_path) == 2 and not (folder / "images").exists()
    assert f"came before with another SHA-256, which {folder}/images.tar.gz.sha256 holds" in capsys.readouterr().out
    (folder / "images.tar.gz").write_bytes(server.files["one"])
    assert run(tmp_path) == 2 and "images.tar.gz has changed since it came" in capsys.readouterr().out
    (folder / "images.tar.gz.sha256").unlink()
    assert run(tmp_path) == 0


def test_what_was_no_archive_leaves_no_hash(server, pets, tmp_path, monkeypatch):
    replace_images(monkeypatch, ways=(Way(f"{server.url}/one"),))
    right, server.files["one"] = server.files["one"], b"<html>Try again later</html>"
    assert run(tmp_path) == 2 and not (tmp_path / "oxford_pets/images.tar.gz.sha256").exists()
    server.files["one"] = right
    assert run(tmp_path) == 0


def test_no_more_bytes_than_a_file_can_have(server, pets, tmp_path, monkeypatch, capsys):
    replace_images(monkeypatch, ways=(Way(f"{server.url}/one"),), gigabytes=1e-5)
    assert run(tmp_path) == 2
    assert "/one gave a wrong file (more than 15,000 bytes), which was thrown away" in capsys.readouterr().out
    assert not list((tmp_path / "oxford_pets/.downloads").iterdir())

    def download(progress, **options):
        progress(10_000, None)
        progress(10_000, 20_000)

    monkeypatch.setattr(gdown, "download", download)
    replace_images(monkeypatch, ways=(Way("drive:large"),), gigabytes=1e-5)
    assert run(tmp_path) == 2
    assert "drive.google.com/file/d/large/view (it is more than 15,000 bytes)" in capsys.readouterr().out


def test_google_drive(server, pets, tmp_path, monkeypatch, capsys):
    replace_images(monkeypatch, ways=(Way("drive:broken"), Way("drive:good")))
    calls = []

    def download(id, output, **options):
        calls.append(id)
        assert options["resume"] and options["timeout"]
        if id == "broken":
            raise gdown.exceptions.FileURLRetrievalError("Cannot retrieve:\n\n\ttoo many users")
        Path(output).write_bytes(server.files["one"])

    monkeypatch.setattr(gdown, "download", download)
    assert run(tmp_path) == 0 and calls == ["broken", "good"]
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "too many users" in line]
    assert "https://drive.google.com/file/d/broken/view" in line and f"as {tmp_path}/oxford_pets/images.tar.gz" in line


def test_copies_what_another_benchmark_has(tmp_path, monkeypatch):
    text = "".join(f"n{number:08} class {number}\n" for number in range(1000))
    (tmp_path / "imagenet").mkdir()
    (tmp_path / "imagenet/classnames.txt").write_text(text)
    state(monkeypatch, "imagenet_a", (0, 0, 4), READERS["imagenet_a"].sources[:1])
    assert run(tmp_path, "imagenet_a") == 0
    assert (tmp_path / "imagenet-adversarial/classnames.txt").read_text() == text


# --- what the user has --------------------------------------------------------------------------------------------


def test_an_archive_put_there_by_hand(server, pets, tmp_path):
    (tmp_path / "oxford_pets").mkdir()
    (tmp_path / "oxford_pets/images.tar.gz").write_bytes(server.files["one"])
    assert run(tmp_path) == 0
    assert [path for path, _ in server.requests] == ["split"]
    assert tree(tmp_path / "oxford_pets") == WHOLE | {"images.tar.gz"}  # it is the user's


def test_a_damaged_archive_put_there_by_hand(server, pets, tmp_path, capsys):
    (tmp_path / "oxford_pets").mkdir()
    (tmp_path / "oxford_pets/images.tar.gz").write_bytes(b"half")
    assert run(tmp_path) == 2
    assert "images.tar.gz is damaged (4 bytes in place of" in capsys.readouterr().out
    assert (tmp_path / "oxford_pets/images.tar.gz").read_bytes() == b"half"


def test_half_a_folder_is_not_touched(server, pets, tmp_path, capsys):
    (tmp_path / "oxford_pets/images").mkdir(parents=True)
    (tmp_path / "oxford_pets/images/1.jpg").write_bytes(b"mine")
    assert run(tmp_path) == 2
    assert "holds 1 of 4 images: move it away" in capsys.readouterr().out
    assert (tmp_path / "oxford_pets/images/1.jpg").read_bytes() == b"mine"


def test_others_are_done_where_one_needs_a_hand(server, pets, tmp_path, monkeypatch, capsys):
    state(monkeypatch, "imagenet", (4, 2, 2), READERS["imagenet"].sources[1:], READERS["imagenet"].by_hand)
    assert run(tmp_path, "imagenet", "oxford_pets") == 2
    out = capsys.readouterr().out
    assert "ready: oxford_pets\nleft to do for imagenet:" in out
    for name in ("ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar", "ILSVRC2012_devkit_t12.tar.gz"):
        assert name in out.split("left to do")[1]
    assert f"put all three into {tmp_path}/imagenet" in out


def test_imagenet_from_its_three_archives(tmp_path, monkeypatch):
    """In the exact formats, small: an archive a class; validation images in the devkit's order."""
    import numpy as np
    from scipy.io import savemat
    from torchvision.datasets import imagenet

    folder = tmp_path / "imagenet"
    folder.mkdir()
    fields = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("gloss", "O"), ("num_children", "O")]
    rows = [
        (1, "n01", "tench, fish", "a fish", 0),
        (2, "n02", "cock, bird", "a bird", 0),
        (3, "n03", "all, any", "", 2),
    ]
    meta = io.BytesIO()
    savemat(meta, {"synsets": np.array(rows, dtype=fields)})
    archives = {
        "train": tar_of({f"{name}.tar": tar_of({f"{name}_1.JPEG": b"x", f"{name}_2.JPEG": b"y"}, "w") for name in ("n01", "n02")}, "w"),
        "val": tar_of({f"ILSVRC2012_val_0000000{number}.JPEG": b"z" for number in (1, 2, 3)}, "w"),
        "devkit": tar_of({
            "ILSVRC2012_devkit_t12/data/meta.mat": meta.getvalue(),
            "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt": b"2\n1\n2\n",
        }),
    }  # fmt: skip
    for kind, content in archives.items():
        name = imagenet.ARCHIVE_META[kind][0]
        (folder / name).write_bytes(content)
        monkeypatch.setitem(imagenet.ARCHIVE_META, kind, (name, hashlib.md5(content).hexdigest()))
    facts = READERS["imagenet"].sources[1]
    small = Archive(
        facts.name, with_names=facts.with_names, members=facts.members, images={"images/val": 3, "images/train": 4}
    )
    state(monkeypatch, "imagenet", (4, 3, 3), (small,))
    assert run(tmp_path, "imagenet") == 0
    assert tree(folder / "images") == {
        *(f"train/{name}/{name}_{number}.JPEG" for name in ("n01", "n02") for number in (1, 2)),
        *(f"val/n0{label}/ILSVRC2012_val_0000000{number}.JPEG" for number, label in ((1, 2), (2, 1), (3, 2))),
    }
    (folder / "ILSVRC2012_img_val.tar").write_bytes(b"half")
    shutil.rmtree(folder / "images")
    assert run(tmp_path, "imagenet") == 2 and not (folder / "images").exists()


# --- unpacking ----------------------------------------------------------------------------------------------------


def test_an_archive_within_an_archive(server, pets, tmp_path, monkeypatch):
    server.files["one"] = zip_of({"top/images.tar.gz": tar_of(under("images")), "top/README": b"x"})
    replace_images(monkeypatch, ways=(Way(f"{server.url}/one", inside="top/images.tar.gz"),))
    assert run(tmp_path) == 0
    assert tree(tmp_path / "oxford_pets") == WHOLE


def test_folders_are_renamed_by_facts(server, pets, tmp_path, monkeypatch):
    server.files["one"] = tar_of({**under("top/sketch"), "top/names.txt": b"names", "top/other": b"x"})
    members = {"names.txt": "top/names.txt", "images": "top/sketch"}
    replace_images(monkeypatch, ways=(Way(f"{server.url}/one"),), members=members)
    assert run(tmp_path) == 0
    assert tree(tmp_path / "oxford_pets") == WHOLE | {"names.txt"}


def test_the_wrong_archive(server, pets, tmp_path, monkeypatch, capsys):
    replace_images(monkeypatch, ways=(Way(f"{server.url}/spare"),))
    assert run(tmp_path) == 2
    out = capsys.readouterr().out
    assert "it holds no images." in out and out.rstrip().endswith("Ask X.")
    assert tree(tmp_path / "oxford_pets") == {"split_zhou_OxfordPets.json"}


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_in_the_middle_of_a_download(server, pets, tmp_path, monkeypatch, capsys, number, code):
    """It says what is kept, which the next run goes on from."""
    server.breaks = 1
    (tmp_path / "oxford_pets").mkdir()
    (tmp_path / "oxford_pets/split_zhou_OxfordPets.json").write_text(SPLIT)
    with monkeypatch.context() as patch:
        stopping = SimpleNamespace(sleep=lambda _: signal.raise_signal(number))
        patch.setattr("clip.download.time", stopping)  # before the next try
        assert run(tmp_path) == code
    assert capsys.readouterr().err.endswith("; what has come is kept, and the same command goes on from there.\n")
    assert run(tmp_path) == 0
    half = len(server.files["one"]) // 2
    assert server.requests == [("one", None), ("one", f"bytes={half}-")]


def test_links_that_lead_back_or_to_themselves_are_counted_once(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    for name in ("a/1.jpg", "a/b/2.jpg"):
        (tmp_path / name).touch()
    (tmp_path / "a" / "b" / "up").symlink_to(tmp_path / "a")
    (tmp_path / "a" / "self").symlink_to("self")
    assert count_images(str(tmp_path)) == 2


KILLED = """
import os, signal, sys
import datasets.prepare as prepare
from datasets.prepare.unpack import Target
write = Target.write
def write_one(*args):
    write(*args)
    os.kill(os.getpid(), signal.SIGKILL)
Target.write = write_one
archive = prepare.Archive("images.tar.gz", members={"images": "images"}, images={"images": 4})
prepare.READERS["oxford_pets"].rows, prepare.READERS["oxford_pets"].sources = (2, 1, 1), (archive,)
prepare.main(["oxford_pets", "--root", sys.argv[1]])
"""


def test_killed_in_the_middle_of_unpacking(server, pets, tmp_path):
    """Nothing that looks whole is left, and the next run clears up and goes on."""
    folder = tmp_path / "oxford_pets"
    folder.mkdir()
    (folder / "images.tar.gz").write_bytes(server.files["one"])
    done = subprocess.run([sys.executable, "-c", KILLED, tmp_path], cwd=REPOSITORY, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert tree(folder) == {"images.tar.gz", ".unpacking/outer/images/a/0.jpg"} and not (folder / "images").exists()
    assert run(tmp_path) == 0
    assert tree(folder) == WHOLE | {"images.tar.gz"}


def test_killed_between_two_members(server, pets, tmp_path, monkeypatch):
    server.files["one"] = tar_of({**under("images"), "meta/1.txt": b"1"})
    replace_images(monkeypatch, ways=(Way(f"{server.url}/one"),), members={"meta": "meta", "images": "images"})
    (tmp_path / "oxford_pets/meta").mkdir(parents=True)
    (tmp_path / "oxford_pets/meta/1.txt").write_bytes(b"1")
    assert run(tmp_path) == 0
    assert tree(tmp_path / "oxford_pets") == WHOLE | {"meta/1.txt"}


# --- the machine --------------------------------------------------------------------------------------------------


def test_a_full_disk_is_noticed_before_the_download(server, pets, tmp_path, monkeypatch, capsys):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(10, 10, 100))
    assert run(tmp_path) == 2
    assert re.search(r"images\.tar\.gz needs 0\.0 GB in .*, where 0\.0 GB are free: make room", capsys.readouterr().out)
    assert [path for path, _ in server.requests] == ["split"]


def test_a_disk_that_fills_up_keeps_the_download(server, pets, tmp_path, monkeypatch, capsys):
    size = len(server.files["one"])
    room = iter([3 * size, 0])  # before the download, before unpacking
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(0, 0, next(room)))
    state(monkeypatch, "oxford_pets", ROWS, pets[2:])
    assert run(tmp_path) == 2 and "make room" in capsys.readouterr().out
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(0, 0, size))  # the download is not counted again
    assert run(tmp_path) == 0
    assert len(server.requests) == 1


def test_an_error_while_writing_is_one_sentence(server, pets, tmp_path, monkeypatch, capsys):
    def full(*paths):
        raise OSError(28, "No space left on device", str(paths[1]))

    monkeypatch.setattr(os, "rename", full)
    assert run(tmp_path) == 2
    assert f"{tmp_path}/oxford_pets/images cannot be written (No space left on device)" in capsys.readouterr().out
    assert tree(tmp_path / "oxford_pets") & set(under("images")) == set()


def test_two_at_once_take_turns(server, pets, tmp_path, capsys):
    (tmp_path / "oxford_pets").mkdir()
    codes = []
    with FileLock(tmp_path / "oxford_pets/.prepare.lock"):
        runs = [threading.Thread(target=lambda: codes.append(run(tmp_path))) for _ in range(2)]
        for thread in runs:
            thread.start()
        waiting = ""
        for _ in range(3000):
            waiting += capsys.readouterr().out
            if waiting.count("waiting") == 2:
                break
            time.sleep(0.01)
        assert waiting.count("another process prepares it, waiting") == 2 and not server.requests
    for thread in runs:
        thread.join()
    assert codes == [0, 0] and [path for path, _ in server.requests] == ["split", "one"]


def test_a_root_that_is_a_file(pets, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert run(tmp_path / "file") == 2
    assert "because a file is in its way" in capsys.readouterr().out


def test_interrupted(pets, tmp_path, monkeypatch, capsys):
    def interrupt(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(prepare, "fetch", interrupt)
    assert run(tmp_path) == 130
    assert "the same command goes on from there" in capsys.readouterr().err


# --- names --------------------------------------------------------------------------------------------------------


def test_names():
    assert prepare.benchmark_names(["Caltech101", "CALTECH-101", "describabletextures"]) == ["caltech101", "dtd"]
    assert prepare.benchmark_names(["all"]) == list(READERS)
    with pytest.raises(InputError, match=r"no benchmark 'calteck101': the nearest names are caltech101"):
        prepare.benchmark_names(["calteck101"])


def test_an_unknown_name_is_one_sentence(capsys):
    with pytest.raises(SystemExit, match="2"):
        prepare.main(["oxfordpet"])
    assert "error: There is no benchmark 'oxfordpet': the nearest names are oxfordpets" in capsys.readouterr().err


def test_as_a_command(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "datasets.prepare", "birds"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and "Warning" not in done.stderr and "no benchmark 'birds'" in done.stderr
