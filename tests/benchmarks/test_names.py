"""The benchmark of long lists: that it runs, what it writes and what it refuses. No time is asserted."""

import json
import os

import pytest

from benchmarks import names
from dassl.utils import InputError


def test_a_small_tree(tmp_path, capsys):
    out = tmp_path / "names.json"
    assert names.main(["--quick", "--parts", "shots", "csv", "--folder", str(tmp_path), "--out", str(out)]) == 0
    record = json.loads(out.read_text())
    assert [run["part"] for run in record["runs"]] == ["shots", "csv"] and record["images"]["train"] == 4_000
    assert all(run["cpu_seconds"] > 0 and run["peak_mib"] >= 0 for run in record["runs"])
    assert str(out) in capsys.readouterr().out
    assert os.listdir(tmp_path) == ["names.json"]


@pytest.mark.parametrize("part", names.PARTS)
def test_each_part_reads_all_of_the_tree(tmp_path, monkeypatch, part):
    monkeypatch.setattr(names, "QUICK", None)
    monkeypatch.setattr(names.ImageNet, "rows", (4_000, 1_000, 1_000))
    names.make_tree(tmp_path, 4_000, 1_000)
    assert names.measure(part, tmp_path, 4_000, 1_000)["part"] == part
    for path in (tmp_path / "imagenet/images/train" / names.SYNSETS[7]).iterdir():
        path.unlink()
    with pytest.raises(InputError, match="not whole" if part == "verify" else names.SYNSETS[7]):
        names.measure(part, tmp_path, 4_000, 1_000)


def test_a_folder_that_is_not_there(tmp_path, capsys):
    assert names.main(["--quick", "--folder", str(tmp_path / "nowhere"), "--out", str(tmp_path / "out.json")]) == 2
    assert "nowhere" in capsys.readouterr().err and not (tmp_path / "out.json").exists()
