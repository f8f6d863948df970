"""Signals that end a command (one_run/interrupts.py): what each does, and what is put back."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from one_run import interrupts
from one_run.command import carry_out
from one_run.interrupts import SIGNALS, interruptible, on_signals, signal_of
from tests.helpers import REPOSITORY


def raises(number):
    """An action in which a signal comes."""
    return lambda: signal.raise_signal(number)


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_codes(number, code, capsys):
    former = [signal.getsignal(each) for each in SIGNALS]
    assert carry_out(raises(number), "what was done is whole") == code
    by = "" if number == signal.SIGINT else f" by {number.name}"
    assert capsys.readouterr().err == f"error: interrupted{by}; what was done is whole.\n"
    assert [signal.getsignal(each) for each in SIGNALS] == former


def test_an_interrupt_that_a_library_turns_into_its_own_error(capsys):
    def action():
        try:
            signal.raise_signal(signal.SIGTERM)
        except KeyboardInterrupt:
            raise ImportError("initialization failed") from None

    assert carry_out(action) == 143
    assert capsys.readouterr().err == "error: interrupted by SIGTERM.\n"


def test_what_is_raised_of_an_interrupt_has_its_signal():
    try:
        try:
            raise interrupts.Interrupt(signal.SIGHUP)
        except KeyboardInterrupt as interrupt:
            raise KeyboardInterrupt("one is left") from interrupt
    except KeyboardInterrupt as interrupt:
        assert signal_of(interrupt) == signal.SIGHUP
    assert signal_of(KeyboardInterrupt()) == signal.SIGINT


def test_an_ignored_signal_stays_ignored(monkeypatch):
    """As under nohup."""
    former = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert carry_out(raises(signal.SIGHUP)) == 0
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, former)


def test_two_at_once_are_one_and_two_in_turn_are_two(monkeypatch):
    came = []
    with on_signals(came.append):
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        assert came == [signal.SIGTERM]
        monkeypatch.setattr(interrupts, "ECHO", 0.0)
        signal.raise_signal(signal.SIGINT)
    assert came == [signal.SIGTERM, signal.SIGINT]


def test_one_that_falls_into_a_destructor_comes_again(monkeypatch):
    class Falls:
        def __del__(self):
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(interrupts, "ECHO", 0.05)
    with interruptible():
        Falls()
        with pytest.raises(KeyboardInterrupt) as caught:
            time.sleep(60)
    assert signal_of(caught.value) == signal.SIGTERM


def test_what_breaks_before_it_comes_again_is_interrupted_too(capsys):
    """Such as a loader whose workers have ended."""

    class Falls:
        def __del__(self):
            signal.raise_signal(signal.SIGTERM)

    def action():
        Falls()
        raise RuntimeError("a worker is gone")

    assert carry_out(action) == 143
    assert capsys.readouterr().err == "error: interrupted by SIGTERM.\n"
    assert not [
        each for each in threading.enumerate() if isinstance(each, threading.Timer) and not each.finished.is_set()
    ]


def test_what_is_half_made_fails_in_silence(capsys):
    class Half:
        def __del__(self):
            raise AttributeError("it has no workers yet")

    def action():
        half = Half()  # noqa: F841
        signal.raise_signal(signal.SIGTERM)

    assert carry_out(action) == 143
    assert capsys.readouterr().err == "error: interrupted by SIGTERM.\n"


def test_in_another_thread_there_are_no_handlers():
    codes = []
    thread = threading.Thread(target=lambda: codes.append(carry_out(lambda: 1)))
    thread.start()
    thread.join()
    assert codes == [1]


BUFFERED = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}


def python(code, *more, **how):
    line = [sys.executable, *more, "-c", "import os, signal, sys\nfrom one_run import interrupts\n" + code]
    return subprocess.run(line, cwd=REPOSITORY, env=BUFFERED, stderr=subprocess.PIPE, text=True, **how)


def test_a_second_one_ends_the_process_at_once():
    """Though it is closing what it has open."""
    done = python(
        "from one_run.command import carry_out\n"
        "interrupts.ECHO = 0\n"
        "def action():\n"
        "    try: signal.raise_signal(signal.SIGTERM)\n"
        "    finally: signal.raise_signal(signal.SIGTERM); print('closed', file=sys.stderr)\n"
        "carry_out(action)"
    )
    assert (done.returncode, done.stderr) == (-signal.SIGTERM, "")


def test_a_worker_that_has_just_begun_says_nothing():
    done = python(
        "with interrupts.interruptible():\n"
        "    if not (pid := os.fork()): signal.raise_signal(signal.SIGTERM)\n"
        "    sys.exit(os.waitpid(pid, 0)[1])"
    )
    assert (done.returncode, done.stderr) == (0, "")


# --- nobody reads what is printed ------------------------------------------------------------------------------

PRINTS = "from one_run.command import carry_out\nsys.exit(carry_out(lambda: print('much')))"


def nobody():
    reader, writer = os.pipe()
    os.close(reader)
    return writer


@pytest.mark.parametrize("unbuffered", [[], ["-u"]])
def test_without_a_reader(unbuffered):
    done = python(PRINTS, *unbuffered, stdout=nobody())
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize("unbuffered", [[], ["-u"]])
def test_a_full_disk(unbuffered):
    with open("/dev/full", "w") as full:
        done = python(PRINTS, *unbuffered, stdout=full)
    assert done.returncode == 2 and "prints or writes cannot be written (No space left" in done.stderr
    assert done.stderr.count("\n") == 1


def test_without_standard_output():
    done = python(PRINTS, preexec_fn=lambda: os.close(1))
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "command", [["parse_test_res.py"], ["train.py"], ["-m", "sweep"], ["-m", "sweep.one"], ["show_tokens.py"]]
)
def test_help_without_a_reader(command):
    line = [sys.executable, *command, "--help"]
    done = subprocess.run(line, cwd=REPOSITORY, env=BUFFERED, stdout=nobody(), stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (141, "")


def test_a_lost_connection_is_no_lost_reader():
    """It has a traceback, as any error of the code has."""
    with pytest.raises(BrokenPipeError):
        carry_out(lambda: (_ for _ in ()).throw(BrokenPipeError(32, "Broken pipe")))
