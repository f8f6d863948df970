"""What is printed goes to the terminal and into `log.txt`."""

import os
import sys
import time

from ..errors import InputError
from .files import mkdir_if_missing

__all__ = ["Logger", "setup_logger"]


class Logger:
    """Standard output, copied into a file; in all else it is the stream it stands for."""

    def __init__(self, fpath: str):
        self.console = sys.stdout
        mkdir_if_missing(os.path.dirname(os.path.abspath(fpath)))
        self.file = open(fpath, "w", encoding="utf-8", errors="backslashreplace")  # noqa: SIM115  open as long as the run
        self.path = fpath

    def write(self, message: str) -> int:
        self.file.write(message)
        return self.console.write(message)

    def flush(self) -> None:
        self.console.flush()
        self.file.flush()

    def close(self) -> None:
        self.file.close()

    def __getattr__(self, name: str):  # isatty, fileno, encoding, ...
        return getattr(self.console, name)


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
        fpath += time.strftime("-%Y-%m-%d-%H-%M-%S")
    if isinstance(sys.stdout, Logger):  # a run before this one in the same process
        sys.stdout.close()
        sys.stdout = sys.stdout.console
    sys.stdout = Logger(fpath)
