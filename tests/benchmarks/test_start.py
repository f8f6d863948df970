"""The benchmark of a start: its turns, ratios and failures. No time is asserted."""

import pytest

from benchmarks import start
from tests.sweep.stand_ins import fake


def test_turns_and_ratios(monkeypatch):
    seen, seconds = [], iter([9.0, 9.0, 2.0, 3.0, 5.0, 4.0])  # the first start of each is not counted
    monkeypatch.setattr(start, "cpu_seconds", lambda arguments: seen.append(arguments) or next(seconds))
    measured = start.measure({"base": ("a",), "other": ("b",)}, rounds=2)
    assert seen == [("a",), ("b",), ("a",), ("b",), ("b",), ("a",)]
    assert measured == {"base": [2.0, 4.0], "other": [3.0, 5.0]}
    assert start.lines_of(measured)[1:] == [
        "base                         3.00  1.00 (1.00-1.00)",
        "other                        4.00  1.38 (1.31-1.44)",
    ]


def test_a_process(capfd):
    assert start.cpu_seconds(("-c", "print(sum(range(100)))")) > 0 and not capfd.readouterr().out
    with pytest.raises(RuntimeError, match="python -c raise SystemExit\\(3\\) ended with exit code 3"):
        start.cpu_seconds(("-c", "raise SystemExit(3)"))


def test_the_runs_of_a_sweep(tmp_path, monkeypatch):
    """New processes and forked ones do the same runs; only those that train are finished by them."""
    trained = start.sweep_of(2, "data", str(tmp_path), trains=True)
    built = start.sweep_of(2, "data", str(tmp_path), trains=False)
    assert [run.folder for run in built] == [run.folder for run in trained] and len({*built}) == 2
    assert [(one.command[0], *one.command[2:]) for one in built] == [one.command for one in trained]
    assert built[0].command[1] == "--no-train"
    rows = start.rows_of_sweeps(2, "data")
    assert [code.rpartition("*(")[2] for _, code in rows.values()] == [
        f"{n}, 'data', {forks}, {trains}))"
        for n, forks, trains in [
            (2, False, False),
            (2, True, False),
            (2, False, True),
            (2, True, True),
            (0, True, False),
        ]
    ]


def test_a_run_that_does_not_end_well(tmp_path, monkeypatch):
    """It is never counted."""
    monkeypatch.setattr("sweep.start.FORKS", True)  # `do_sweep` sets it
    for trains, what in ((True, "forget"), (False, "fail")):
        monkeypatch.setattr(start, "sweep_of", lambda *_, what=what, **__: [fake(tmp_path, what, what=what)])
        with pytest.raises(RuntimeError, match=f"{what} did not end well: "):
            start.do_sweep(1, "data", forks=False, trains=trains)


def test_arguments(monkeypatch, capsys):
    monkeypatch.setattr(start, "measure", lambda rows, rounds: {name: [1.0] * rounds for name in rows})
    assert start.main(["--rounds", "1"]) == 0 and "train.py --help" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        start.main(["--rounds", "0"])
    with pytest.raises(SystemExit):
        start.main(["--runs", "-1"])
    capsys.readouterr()
    assert start.main(["--rounds", "1", "--runs", "6"]) == 0
    said = capsys.readouterr().out
    assert "to 6 built, new processes" in said and "6 trained, forked" in said and "train.py" not in said
