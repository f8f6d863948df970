"""The text encoder's benchmark: that it runs, what it writes and what it refuses. No time is asserted."""

import argparse
import json

import pytest

from benchmarks import text


def test_one_run_writes_its_record(tmp_path, capsys):
    """In parts and at once it is the same step."""
    out = tmp_path / "text.json"
    assert text.main(["--quick", "--classes", "4", "6", "--out", str(out)]) == 0
    record = json.loads(out.read_text())
    assert {"versions", "processor", "processors", "threads", "command", "precision"} <= set(record)
    assert [(run["classes"], run["memory_mb"], run["parts"]) for run in record["runs"]] == [
        (4, 0.6, 1),
        (4, None, 1),
        (6, 0.6, 2),
        (6, None, 1),
    ]
    assert [run["memory_mb"] for run in record["runs"] if "padded_cpu_seconds" in run] == [None, None]
    parted, whole = record["runs"][2:]
    assert parted["gradient"] == pytest.approx(whole["gradient"], rel=1e-5)
    assert whole["counted_mib"] / 2 < parted["counted_mib"] < 0.6 < whole["counted_mib"]  # what all share is in both
    assert str(out) in capsys.readouterr().out


def test_the_image_side():
    """A learned image encoder keeps what all 12 blocks need, a frozen one what one does."""
    sides = text.image_side()
    assert sides["fp32 learned"] == 13 * sides["fp32 frozen"]
    assert 0.5 < sides["16 bits learned"] / sides["fp32 learned"] < 0.6


def test_a_context_for_each_class():
    model = text.build(argparse.Namespace(small=True, precision="fp32", context=2, csc=True), 3)
    text.step(model, 3)
    assert model.prompt_learner.ctx.shape == (3, 2, 64) and model.prompt_learner.ctx.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--classes", "1"], "--classes must be 2 to 1000"),
        (["--classes", "1001"], "--classes must be 2 to 1000"),
        (["--memory-mb", "-1"], "--memory-mb must be at least 0"),
    ],
)
def test_what_cannot_be_measured_is_refused(options, why, tmp_path, capsys):
    assert text.main([*options, "--out", str(tmp_path / "out.json")]) == 2
    assert why in capsys.readouterr().err
    assert not (tmp_path / "out.json").exists()
