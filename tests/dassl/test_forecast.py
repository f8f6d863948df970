"""What a training will take (dassl/engine/forecast.py), said once."""

import contextlib
import io
import re

import pytest
import torch

from dassl.engine import stopwatch
from dassl.engine.forecast import Forecast, in_words
from dassl.utils import Readings


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "about 1 s"),
        (40, "about 40 s"),
        (60, "about 1 min"),
        (3599, "about 1 h 0 min"),
        (11400, "about 3 h 10 min"),
        (5e6, "about 1,388 h 53 min"),
    ],
)
def test_words(seconds, words):
    assert in_words(seconds) == words


def test_the_first_steps(monkeypatch, capsys):
    """The first step is not measured, the next five are: what each takes, times what is left."""
    clock = iter([100.0, 110.0])
    monkeypatch.setattr(stopwatch.time, "perf_counter", lambda: next(clock))
    ours = Forecast(torch.device("cpu"), Readings())
    for step in range(5):
        ours.after_step(left=1005 - step)
    assert capsys.readouterr().out == ""
    for step in range(5, 20):
        ours.after_step(left=1005 - step)
    said = capsys.readouterr().out
    pattern = (
        r"At the rate of the first 6 steps \(2.000 s each\) the training takes about 33 min more; "
        r"at most [\d,]+ MiB (on the GPU and [\d,]+ MiB )?of the process so far\n"
    )
    assert re.fullmatch(pattern, said)


def on_a_gpu(gpu):
    """What the steps took is said when their numbers are read; until then nothing waits."""
    readings = Readings()
    ours, loss = Forecast(torch.device("gpu"), readings), torch.ones(1, device="gpu")
    with gpu.watched() as seen, contextlib.redirect_stdout(io.StringIO()) as said:
        for step in range(9):
            readings.add(loss.sum(), lambda number: None)
            ours.after_step(left=9 - step)
        assert not seen.waits and not said.getvalue()
        readings.fetch()
    assert "3 MiB on the GPU" in said.getvalue()


def test_on_a_gpu(pretended_gpu):
    pretended_gpu("tests.dassl.test_forecast:on_a_gpu")
