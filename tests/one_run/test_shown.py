"""What a page shows of images (one_run/shown.py, trainers/spotlighter/gallery.py): of classes, and of what a model looks at."""

import io
import shutil

import numpy as np
import pytest
from PIL import Image

import parse_test_res
import train
from dassl.errors import InputError
from one_run.shown import SIDE, images_of_classes, token_pictures
from reports.page import collect
from tests.helpers import CLASSES, COLOURS, arguments
from trainers.spotlighter.gallery import spread_over_classes


@pytest.fixture(scope="module")
def output(data_root, tmp_path_factory):
    """A base-to-new sweep's trainings of CoOp and of Spotlighter over it."""
    root = tmp_path_factory.mktemp("output")
    for method in ("CoOp", "Spotlighter"):
        folder = root / f"base2new/train_base/caltech101/shots_4/{method}/embedded/seed1"
        assert train.main(arguments(data_root, folder, method, options=["OPTIM.MAX_EPOCH", 1])) == 0
    return root


def run_of(output, method):
    return output / f"base2new/train_base/caltech101/shots_4/{method}/embedded/seed1"


def opened(data: bytes) -> Image.Image:
    picture = Image.open(io.BytesIO(data))
    picture.load()
    return picture


def test_an_image_of_each_class(output):
    found = images_of_classes(run_of(output, "CoOp"), {"red", "blue", "no such class"})
    assert set(found) == {"red", "blue"}
    for name, data in found.items():
        picture = opened(data)
        assert (picture.format, picture.size) == ("WEBP", (SIDE, SIDE)) and len(data) < 6000
        middle = np.asarray(picture.convert("RGB"))[30:58, 30:58].reshape(-1, 3).mean(0)  # within the square, or nearly
        assert middle.argmax() == COLOURS[CLASSES.index(name)].index(max(COLOURS[CLASSES.index(name)]))


def test_what_spotlighter_looks_at(output):
    (first_text, first), (second_text, _) = token_pictures(run_of(output, "Spotlighter"), 2)
    assert opened(first).format == "WEBP" and opened(first).width > 3 * opened(first).height
    assert "red, taken for" in first_text and "green, taken for" in second_text
    with pytest.raises(InputError, match="it is not a run"):
        token_pictures(output, 2)


def test_images_are_spread_over_the_classes():
    class Item:
        def __init__(self, label, name):
            self.label, self.name = label, name

    items = [Item(label, f"{label}{letter}") for label in range(4) for letter in "ab"]
    names = [[item.name for item in spread_over_classes(items, number)] for number in (0, 1, 2, 5, 99)]
    assert [" ".join(each) for each in names] == ["", "0a", "0a 2a", "0a 1a 2a 3a 0b", "0a 1a 2a 3a 0b 1b 2b 3b"]


def test_on_the_page(output, tmp_path, capsys):
    page = tmp_path / "page.html"
    parse_test_res.main([str(output), "--report", str(page), "--pictures", "2"])
    text = page.read_text()
    assert text.count("<image id=") == 3 and text.count("<use href=") == 3  # the classes that Spotlighter may gain on
    assert text.count('<img src="data:image/webp;base64,') == 2
    assert "note:" not in capsys.readouterr().err


def test_images_that_are_gone(output, tmp_path, data_root, capsys):
    """The page is made without them, which is said; where the data root is gone, nothing is looked for."""
    moved = tmp_path / "output"
    shutil.copytree(output, moved)
    for record in moved.rglob("results.json"):
        record.write_text(record.read_text().replace(str(data_root), str(tmp_path)))
    parse_test_res.main([str(moved), "--report", str(tmp_path / "page.html")])
    err = capsys.readouterr().err
    assert "note: the page lacks the images of caltech101's classes: " in err
    assert "<image id=" not in (tmp_path / "page.html").read_text()
    for record in moved.rglob("results.json"):
        record.write_text(record.read_text().replace(str(tmp_path), str(tmp_path / "gone")))
    assert not collect(moved).classes_shown
