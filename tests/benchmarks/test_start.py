"""The benchmark of a start: its turns, ratios and failures. No time is asserted."""

import pytest

from benchmarks import start


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


def test_arguments(monkeypatch, capsys):
    monkeypatch.setattr(start, "measure", lambda rows, rounds: {name: [1.0] * rounds for name in rows})
    assert start.main(["--rounds", "1"]) == 0 and "train.py --help" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        start.main(["--rounds", "0"])
