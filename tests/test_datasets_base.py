"""CoOp's splits, few-shot sampling and halves (../datasets/base.py)."""

import json
import random

import pytest
from conftest import CLASSES

from dassl.config import get_cfg_default
from dassl.data.datasets import Datum
from dassl.utils import InputError, set_random_seed
from datasets.base import read_split, subsample_classes
from datasets.caltech101 import Caltech101


def config(root, shots=2, subsample="all", seed=1):
    cfg = get_cfg_default()
    cfg.DATASET.ROOT, cfg.DATASET.NUM_SHOTS, cfg.DATASET.SUBSAMPLE_CLASSES = str(root), shots, subsample
    set_random_seed(seed)
    return cfg


def test_few_shots_are_those_of_the_protocol(data_root):
    """Python's random, seeded by the run: train first, then val with min(shots, 4), all classes, in order of labels."""
    split = json.loads((data_root / "caltech-101" / "split_zhou_Caltech101.json").read_text())
    random.seed(3)
    expected = {}
    for part, shots in (("train", 5), ("val", 4)):
        expected[part] = []
        for label in range(len(CLASSES)):
            expected[part] += random.sample([row for row in split[part] if row[1] == label], shots)
    dataset = Caltech101(config(data_root, shots=5, seed=3))
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


def test_unknown_half(data_root):
    with pytest.raises(InputError, match="'bases'.*all, base, new"):
        Caltech101(config(data_root, subsample="bases"))


def test_an_empty_half(data_root):
    item = Datum(impath=str(next((data_root / "caltech-101").rglob("*.png"))), label=0, classname="only")
    with pytest.raises(InputError, match="new half of 1 class"):
        subsample_classes([item], [item], subsample="new")


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
