"""The fit's benchmark: that it runs, what it writes and what it refuses. No time is asserted."""

import argparse
import json

import pytest
import torch

from benchmarks import fit
from trainers.spotlighter import tokens


def test_the_shots(monkeypatch):
    """Unit rows off the origin, class by class; their tokens are kept as those of encoded images are."""
    monkeypatch.setattr(tokens, "HALF_ABOVE", 0)
    shots, t, z = fit.make_shots(argparse.Namespace(shots=4, width=64, tokens=9), classes=30)
    v = shots.v.read()
    assert shots.f.shape == (120, 64) and v.shape == (120, 9, 64) and t.shape == z.shape == (30, 64)
    assert shots.v.table.dtype == torch.float16 and torch.equal(shots.y.bincount(), torch.full((30,), 4))
    torch.testing.assert_close(v.norm(dim=-1), torch.ones(120, 9), atol=1e-3, rtol=0)
    own = (shots.f @ t.t())[torch.arange(120), shots.y]
    assert own.mean() > 0.3 and v.mean((0, 1)).norm() > 0.1


def test_one_run_writes_its_record(tmp_path, capsys):
    out = tmp_path / "fit.json"
    small = [
        "--classes",
        "3",
        "5",
        "--shots",
        "2",
        "--tokens",
        "6",
        "--width",
        "16",
        "--rounds",
        "1",
        "--out",
        str(out),
    ]
    assert fit.main([*small, "--parts", "bank", "step"]) == 0
    record = json.loads(out.read_text())
    assert {"versions", "processor", "processors", "threads", "command", "steps"} <= set(record)
    assert [run["classes"] for run in record["runs"]] == [3, 5]
    assert all(run["cpu_seconds_of_a_step"] > 0 and run["cpu_seconds_of_the_bank"] > 0 for run in record["runs"])
    assert all("cpu_seconds_of_the_fit" not in run for run in record["runs"])
    assert str(out) in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--classes", "1"], "--classes and --shots must be at least 2"),
        (["--tokens", "4"], "--tokens at least 5"),
        (["--width", "64"], "--width must be 512"),
    ],
)
def test_what_cannot_be_measured_is_refused(options, why, tmp_path, capsys):
    assert fit.main([*options, "--out", str(tmp_path / "out.json")]) == 2
    assert why in capsys.readouterr().err
    assert not (tmp_path / "out.json").exists()
