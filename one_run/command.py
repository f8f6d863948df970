"""What a command ends with: the one place that knows exit codes, and which errors are the user's to mend.

0    it ended well (a command may return another code for what it found)
2    what the user can mend, in one sentence on stderr
130  interrupted by Ctrl-C; 143: by SIGTERM; 129: by SIGHUP (interrupts.py)
141  nobody reads what it prints any more, as behind `| head -1`

Any other error is a fault of the code, ours or a user's own trainer file's, and keeps its traceback.
"""

import contextlib
import errno
import io
import os
import select
import signal
import sys
from collections.abc import Callable

from dassl.errors import InputError, in_one_line

from .interrupts import Interrupt, interruptible, signal_of

OK, USERS_TO_MEND = 0, 2
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
BY_SIGNAL = 128  # and the signal's number, as shells have it


class Stopped(KeyboardInterrupt):
    """Interrupted, by a command that says itself what that leaves behind."""


def carry_out(action: Callable[[], int | None], interrupted: str = "") -> int:
    """Do it, and return the exit code; `interrupted` says what Ctrl-C leaves behind, unless the interrupt itself does."""
    write_any_letter()
    with interruptible() as came:
        try:
            code = action() or OK
        except BaseException as error:
            return code_after(error, came, interrupted)
        lost = lost_console()
        return code if lost is None else code_of_unwritten(lost)


def code_after(error: BaseException, came: list[int], interrupted: str) -> int:
    """Say what the user is to know of it; what is a fault of the code is raised again."""
    lost = lost_console() or (error if isinstance(error, BrokenPipeError) and nobody_reads(sys.stdout) else None)
    if came and isinstance(error, Exception):  # some libraries make another error of an interrupt
        error = Interrupt(came[0])
    if isinstance(error, KeyboardInterrupt):
        say_stopped(error, interrupted)
        return BY_SIGNAL + signal_of(error)
    if lost is not None and isinstance(error, OSError | SystemExit):
        return code_of_unwritten(lost)
    if isinstance(error, OSError) and error.errno in NO_ROOM:
        return code_of_unwritten(error)
    if not isinstance(error, users_errors()):
        raise error
    say(f"error: {sentence(error)}")
    return USERS_TO_MEND


def say(line: str, stream=None) -> None:
    with contextlib.suppress(OSError):  # there is nobody to hear it
        print(line, file=stream or sys.stderr, flush=True)


def say_stopped(interrupt: KeyboardInterrupt, left: str) -> None:
    if isinstance(interrupt, Stopped):
        say(str(interrupt), sys.stdout)
        return
    by = "" if signal_of(interrupt) == signal.SIGINT else f" by {signal_of(interrupt).name}"
    say("; ".join(filter(None, (f"error: interrupted{by}", str(interrupt) or left))) + ".")


def lost_console() -> OSError | None:
    """Why what was printed cannot be written; it is thrown away then."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        from dassl.utils.logger import silence  # only here: --help starts faster without

        silence(sys.stdout)
        return error
    return None


def nobody_reads(stream) -> bool:
    """Whether a pipe's other end is closed; of a stream without a buffer no flush says it."""
    poll = select.poll()
    try:
        poll.register(stream, 0)
    except (OSError, ValueError, TypeError):  # it is no file
        return False
    return any(event & select.POLLERR for _, event in poll.poll(0))


def code_of_unwritten(lost: OSError) -> int:
    """Of what nobody reads, or there is no room for."""
    if isinstance(lost, BrokenPipeError):
        return BY_SIGNAL + signal.SIGPIPE
    what = lost.filename or "What this prints or writes"
    say(f"error: {what} cannot be written ({lost.strerror}): make room, or choose another place.")
    return USERS_TO_MEND


def write_any_letter() -> None:
    """A console that lacks a letter of a class name shows its number in its place; a log file has them all.

    Where a stream is closed, what is printed goes nowhere: some libraries would fail, or take the other stream.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115  open as long as the process
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def users_errors() -> tuple[type[Exception], ...]:
    """One class a layer. `clip` stands below everything of ours and has its own; unless it was imported, nobody
    raised it. A FloatingPointError is a loss that is no number: its sentence says which setting to lower.
    """
    clip = sys.modules.get("clip.errors")
    return (InputError, FloatingPointError, *([] if clip is None else [clip.InputError]))


def sentence(error: BaseException) -> str:
    """The error's own sentence; a loader's worker puts a traceback before it."""
    text = str(error.args[0]) if error.args else str(error)
    return in_one_line(text.rpartition("errors.InputError: ")[2].strip())
