"""What is printed goes to the terminal and into `log.txt`."""

import contextlib
import itertools
import os
import sys
import time

from ..errors import InputError
from .files import mkdir_if_missing

__all__ = ["Logger", "setup_logger"]


class Logger:
    """Standard output, copied into a file; in all else it is the stream it stands for.

    A run goes on when nobody reads its output any more: the file has it all. Without the file it does not. Closed, by a trainer
    that is about to end the process, it is the stream alone.
    """

    def __init__(self, fpath: str):
        self.console = sys.stdout
        mkdir_if_missing(os.path.dirname(os.path.abspath(fpath)))
        self.file = open(fpath, "w", encoding="utf-8", errors="backslashreplace")  # noqa: SIM115  open as long as the run
        self.path = fpath

    def write(self, message: str) -> int:
        with self.refusing():
            if not self.file.closed:
                self.file.write(message)
        with silencing(self.console):
            self.console.write(message)
        return len(message)

    def flush(self) -> None:
        with silencing(self.console):
            self.console.flush()
        with self.refusing():
            if not self.file.closed:
                self.file.flush()

    def close(self) -> None:
        with self.refusing():
            self.file.close()

    @contextlib.contextmanager
    def refusing(self):
        """A full disk is one sentence; the rest of the log, which cannot be written, goes nowhere."""
        try:
            yield
        except OSError as error:
            with contextlib.suppress(OSError):
                self.file.close()
            self.file = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
            raise InputError(
                f"{self.path} cannot be written ({error.strerror}): make room, and start the same command again."
            ) from error

    def __getattr__(self, name: str):  # isatty, fileno, encoding, ...
        return getattr(self.console, name)


@contextlib.contextmanager
def silencing(stream):
    try:
        yield
    except OSError:
        silence(stream)


def silence(stream) -> None:
    """What is written to it from now on goes nowhere, so that nothing more fails, at Python's end either."""
    with contextlib.suppress(OSError, AttributeError):  # it has no file
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def setup_logger(output: str | None = None) -> None:
    """Send standard output to `output` too: a folder (then `log.txt` in it) or a .txt or .log file.

    A log that is there already is kept, and the new one gets the time in its name.
    """
    if not output:
        return
    fpath = output if output.endswith((".txt", ".log")) else os.path.join(output, "log.txt")
    if os.path.isfile(output) and fpath != output:
        raise InputError(f"The output folder {output} is a file: choose another --output-dir.")
    if os.path.exists(fpath):
        stamped = fpath + time.strftime("-%Y-%m-%d-%H-%M-%S")
        names = itertools.chain([stamped], (f"{stamped}-{number}" for number in itertools.count(2)))
        fpath = next(name for name in names if not os.path.exists(name))  # a clock may be set back
    if isinstance(sys.stdout, Logger):  # a run before this one in the same process
        sys.stdout.close()
        sys.stdout = sys.stdout.console
    sys.stdout = Logger(fpath)
