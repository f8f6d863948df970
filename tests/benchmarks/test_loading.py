"""The loading benchmark: that its rows do what their names say, and what it writes. No time is asserted."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import loading
from dassl.data import cache, data_manager
from dassl.utils import read_image


@pytest.fixture
def items(tmp_path):
    (tmp_path / "images").mkdir()
    return loading.make_images(str(tmp_path / "images"), 4)


def test_the_images(items):
    assert [Image.open(item.impath).size for item in items] == [(375, 500), (500, 375), (500, 375), (375, 500)]
    assert len({np.asarray(read_image(item.impath)).tobytes() for item in items}) == 4


@pytest.mark.parametrize("part", loading.BATCH)
def test_which_rows_decode(items, tmp_path, monkeypatch, part):
    """After the check the first two rows decode all images in every epoch, and the third none."""
    decoded, opened = [], Image.open

    def counted(path):
        decoded.append(path)
        return read_image(path)

    for module in (cache, data_manager):
        monkeypatch.setattr(module, "read_image", counted)
    monkeypatch.setattr(cache.inspect, "getsource", lambda _: "reader")
    rows = loading.pipelines_of(part, items, str(tmp_path), workers=0)
    loading.check_same(rows)
    counts = []
    for row in rows[1:]:
        decoded.clear()
        assert loading.seconds_of(row) > 0
        counts.append(len(decoded))
    assert counts == [4, 0]
    seen = []
    monkeypatch.setattr(Image, "open", lambda path: seen.append(path) or opened(path))
    loading.seconds_of(rows[0])
    loading.seconds_of(rows[0])
    assert len(seen) == 8


def test_other_tensors_are_refused():
    rows = [
        loading.Pipeline(name, lambda name=name: [{"img": torch.full((1,), len(name))}]) for name in ("plain", "other!")
    ]
    loading.check_same([rows[0], rows[0]])
    with pytest.raises(RuntimeError, match="'other!' gives other tensors"):
        loading.check_same(rows)


def test_rounds_rotate_and_ratios_are_paired(monkeypatch):
    """The machine is twice as slow in the second round; the second row always takes half of the first one's time."""
    called, times = [], iter([4.0, 2.0, 4.0, 8.0])
    rows = [loading.Pipeline(name, None) for name in "ab"]
    monkeypatch.setattr(loading, "seconds_of", lambda row: called.append(row.name) or next(times))
    plain, ours = loading.measure(rows, count=16, rounds=2)
    assert called == ["a", "b", "b", "a"]
    assert plain["images_per_second"] == 3 and plain["ratio_to_plain"] == 1
    assert ours == {"name": "b", "images_per_second": 6, "ratio_to_plain": 2, "ratio_iqr": (2, 2)}


def test_one_run_writes_its_record(tmp_path, capsys):
    out = tmp_path / "loading.json"
    assert loading.main(["--images", "3", "--rounds", "1", "--workers", "0", "1", "--out", str(out)]) == 0
    record = json.loads(out.read_text())
    assert {"versions", "processor", "processors", "device", "command", "same_bits"} <= set(record)
    assert [(run["part"], run["workers"]) for run in record["runs"]] == [
        ("training", 0), ("test", 0), ("training", 1), ("test", 1),
    ]  # fmt: skip
    assert all(len(run["rows"]) == 3 and run["rows"][0]["ratio_to_plain"] == 1 for run in record["runs"])
    assert all(row["images_per_second"] > 0 for run in record["runs"] for row in run["rows"])
    assert str(out) in capsys.readouterr().out


@pytest.mark.parametrize("options", [["--images", "0"], ["--rounds", "0"], ["--workers", "2", "-1"]])
def test_what_cannot_be_measured_is_refused(options, tmp_path, capsys):
    assert loading.main([*options, "--out", str(tmp_path / "out.json")]) == 2
    assert capsys.readouterr().err.startswith("error: --images and --rounds must be at least 1")
    assert not (tmp_path / "out.json").exists()
