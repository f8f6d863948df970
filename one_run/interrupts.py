"""The signals that end a command: Ctrl-C's, SIGTERM (a scheduler's, `timeout`, `docker stop`), SIGHUP (its terminal went).

Each interrupts it as Ctrl-C does, so that it leaves whole files and says what they are. The next one ends it at once.
"""

import contextlib
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
ECHO = 1.0  # seconds within which another one is the same: `timeout` signals a process, and then its whole group


class Interrupt(KeyboardInterrupt):
    """By the signal `number`."""

    def __init__(self, number: int):
        super().__init__()
        self.number = number


def signal_of(interrupt: BaseException | None) -> signal.Signals:
    """Which one an interrupt, or what it was raised from, came of; what Python raises itself is Ctrl-C's."""
    while interrupt is not None:
        if isinstance(interrupt, Interrupt):
            return signal.Signals(interrupt.number)
        interrupt = interrupt.__cause__
    return signal.SIGINT


@contextlib.contextmanager
def on_signals(act: Callable[[int], None]) -> Iterator[None]:
    """`act(number)` in place of what a signal does; one that is ignored, as SIGHUP under nohup, stays so."""
    last, main_process = -math.inf, os.getpid()

    def handle(number, _):
        nonlocal last
        if os.getpid() != main_process:  # a worker that has just begun; the main process tells what there is to tell
            os._exit(0)
        if time.monotonic() - last > ECHO:
            last = time.monotonic()
            act(number)

    former = {}
    for number in SIGNALS if may_handle() else ():
        if signal.getsignal(number) not in (signal.SIG_IGN, None):
            former[number] = signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def interruptible() -> Iterator[list[int]]:
    """A signal raises an `Interrupt`, a second one ends the process; yields the list of those that came."""
    came: list[int] = []
    lost = False  # whether the last one was raised where nobody heard of it

    def interrupt(number: int) -> None:
        nonlocal lost
        if came and not lost:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        lost = False
        came.append(number)
        raise Interrupt(number)

    def send_again(passed_over) -> None:
        """Python passes over what is raised in a destructor, such as that of a loader's workers. What else fails there
        after a signal, of things that are half made, is not shown.
        """
        nonlocal lost
        if not isinstance(passed_over.exc_value, Interrupt):
            if not came:
                former(passed_over)
            return
        lost = True
        again.append(threading.Timer(1.1 * ECHO, os.kill, [os.getpid(), passed_over.exc_value.number]))
        again[-1].daemon = True
        again[-1].start()

    again: list[threading.Timer] = []
    former, sys.unraisablehook = sys.unraisablehook, send_again
    try:
        with on_signals(interrupt):
            yield came
    finally:
        sys.unraisablehook = former
        for timer in again:
            timer.cancel()


def take(effect: signal.Handlers) -> None:
    """First thing in a pool's worker, which has the main process's handlers: signals go to a group as a whole.

    SIG_IGN: it ends its work, and the main process waits for that. SIG_DFL: it dies.
    """
    for number in SIGNALS if may_handle() else ():
        signal.signal(number, effect)


def may_handle() -> bool:
    """Python has handlers in a process's main thread alone."""
    return threading.current_thread() is threading.main_thread()
