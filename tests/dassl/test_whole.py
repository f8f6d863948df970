"""A broken picture is found before training (../dassl/data/whole.py)."""

import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import train
from dassl.config import get_cfg_default
from dassl.data import whole
from dassl.utils import InputError
from tests.helpers import arguments, results


@pytest.fixture
def pictures(tmp_path) -> list[str]:
    """Noise, so that half of a file is half of the picture."""
    noise, paths = np.random.default_rng(0), []
    for index, suffix in enumerate(["png", "jpg", "bmp", "png", "jpg", "tif"]):
        paths.append(str(tmp_path / f"{index}.{suffix}"))
        Image.fromarray(noise.integers(0, 255, (50, 40, 3), dtype=np.uint8)).save(paths[-1])
    return paths


def cut(path: str, share: float = 0.5) -> None:
    with open(path, "rb") as file:
        content = file.read()
    with open(path, "wb") as file:
        file.write(content[: int(len(content) * share)])


@pytest.mark.parametrize("decoded", [0, 1, whole.DECODED])
def test_broken_files_are_named(pictures, decoded):
    """Where none is decoded, by the head and, of PNG and JPEG, the end."""
    assert whole.broken_pictures(pictures, decoded) == {}
    cut(pictures[0])
    cut(pictures[4], 0.9)
    cut(pictures[5], 0)
    found = whole.broken_pictures(pictures, decoded)
    assert list(found) == [pictures[0], pictures[4], pictures[5]]
    assert all(path in str(error) for path, error in found.items())


def test_training_images_are_decoded_first(pictures):
    """A BMP has no end to look for: it is found as long as there are pixels left to decode."""
    cut(pictures[2])
    assert list(whole.broken_pictures(pictures, 3 * 2000)) == [pictures[2]]
    assert whole.broken_pictures(pictures, 2 * 2000) == {}


def test_a_whole_file_is_not_refused_for_its_end(pictures):
    """It may be long behind the end, or lack its last bytes; then it is decoded, and decides itself."""
    for path in pictures[:2]:
        with open(path, "ab") as file:
            file.write(bytes(2 * whole.TAIL))
    assert whole.broken_pictures(pictures, 0) == {}


def test_the_sentence(pictures):
    cut(pictures[0])
    with pytest.raises(InputError, match=f"^The image {pictures[0]} cannot be read"):
        whole.check_pictures(pictures)
    for path in pictures[1:]:
        cut(path, 0.5)
    with pytest.raises(InputError) as error:
        whole.check_pictures(pictures)
    said = str(error.value)
    assert said.startswith(f"6 of the 6 images that this run needs cannot be read. The image {pictures[0]} cannot")
    assert said.endswith(f"likewise {pictures[1]}, {pictures[2]}, {pictures[3]}, ....") and "\n" not in said


@pytest.mark.parametrize(
    ("options", "introduce", "needs"),
    [
        ([], False, "abt"),
        ([], True, "abvt"),
        (["TEST.FINAL_MODEL", "best_val"], False, "abvt"),
        (["TEST.SPLIT", "val"], False, "abv"),
        (["TEST.NO_TEST", True], False, "ab"),
    ],
)
def test_what_a_run_needs(options, introduce, needs):
    cfg = get_cfg_default()
    cfg.merge_from_list(options)
    train_x, val, test = ([SimpleNamespace(impath=name) for name in names] for names in ("aba", "v", "t"))
    dataset = SimpleNamespace(train_x=train_x, train_u=None, val=val, test=test, introduce=introduce)
    assert "".join(whole.pictures_needed(cfg, dataset)) == needs


@pytest.mark.parametrize("part", ["train", "test"])
def test_a_run_stops_before_it_trains(data_root, tmp_path, capsys, part):
    shutil.copytree(data_root / "caltech-101", tmp_path / "data" / "caltech-101")
    for path in (tmp_path / "data").rglob(f"red/{part}_*"):
        cut(str(path))
    assert train.main(arguments(tmp_path / "data", tmp_path / "out")) == 2
    out, err = capsys.readouterr()
    assert "cannot be read" in err and "epoch [1/" not in out
    assert results(tmp_path / "out")["state"] == "failed"
