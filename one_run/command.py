"""What a command ends with: the one place that knows exit codes, and which errors are the user's to mend.

0    it ended well (a command may return another code for what it found)
2    what the user can mend, in one sentence on stderr
130  interrupted by Ctrl-C

Any other error is a fault of the code, ours or a user's own trainer file's, and keeps its traceback.
"""

import io
import sys
from collections.abc import Callable

from dassl.errors import InputError, in_one_line

OK, USERS_TO_MEND, INTERRUPTED = 0, 2, 130


class Stopped(KeyboardInterrupt):
    """Interrupted, by a command that says itself what that leaves behind."""


def carry_out(action: Callable[[], int | None], interrupted: str = "") -> int:
    """Do it, and return the exit code; `interrupted` says what Ctrl-C leaves behind, unless the interrupt itself does."""
    write_any_letter()
    try:
        return action() or OK
    except Stopped as stop:
        print(stop)
        return INTERRUPTED
    except KeyboardInterrupt as interrupt:
        print("; ".join(filter(None, ("error: interrupted", str(interrupt) or interrupted))) + ".", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        if not isinstance(error, users_errors()):
            raise
        print(f"error: {sentence(error)}", file=sys.stderr)
        return USERS_TO_MEND


def write_any_letter() -> None:
    """A console that lacks a letter of a class name shows its number in its place; a log file has them all."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def users_errors() -> tuple[type[Exception], ...]:
    """One class a layer. `clip` stands below everything of ours and has its own; unless it was imported, nobody
    raised it. A FloatingPointError is a loss that is no number: its sentence says which setting to lower.
    """
    clip = sys.modules.get("clip.errors")
    return (InputError, FloatingPointError, *([] if clip is None else [clip.InputError]))


def sentence(error: Exception) -> str:
    """The error's own sentence; a loader's worker puts a traceback before it."""
    text = str(error.args[0]) if error.args else str(error)
    return in_one_line(text.rpartition("errors.InputError: ")[2].strip())
