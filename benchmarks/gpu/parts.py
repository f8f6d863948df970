"""The parts, each in a process of its own: what one leaves behind on a GPU, or dies of, is not the next one's."""

import contextlib
import os
import socket
import time
import traceback
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing import get_context
from unittest import mock

from benchmarks.steps import random_weights
from dassl.utils import InputError
from datasets.embedded import sets

from . import agreement, equality, memory, speed
from .cells import Settings

PARTS = {
    "agreement": agreement.cells,
    "speed": speed.cells,
    "memory": memory.cells,
    "equality": equality.cells,
    "compiled": speed.compiled_cells,
}
GRACE = 75.0  # seconds that the last cell of a part may take when the time is spent
LEAVING = 20.0  # seconds that a process may take to end
DRAWN = {"train": 4, "val": 1, "test": 2}  # pictures of each class
CLASSES = 8


def prepare(settings: Settings) -> None:
    """Write what the parts need: pictures, and weights."""
    small = replace(sets.SETS[agreement.SET], names=sets.SETS[agreement.SET].names[:CLASSES], images=DRAWN)
    with mock.patch.dict(sets.SETS, {agreement.SET: small}):
        os.makedirs(settings.pictures, exist_ok=True)
        sets.write_set(agreement.SET, settings.pictures)
    if not settings.quick:
        random_weights(settings.folder)


def records(part: str, settings: Settings) -> Iterator[dict]:
    """Those of a part's cells as they are done; the last one says how its process ended, unless that was well."""
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__])  # imports are done once; no process has asked for a GPU yet
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=work, args=(part, settings, sender))
    process.start()
    sender.close()
    try:
        while receiver.poll(max(0.0, settings.until + GRACE - time.time())):
            yield receiver.recv()
        process.kill()
        yield {"cell": part, "error": f"was still at work {GRACE:g} s after the time was spent, and was ended"}
    except EOFError:  # it is done
        process.join(LEAVING)
        if process.exitcode:
            yield {"cell": part, "error": f"its process ended with exit code {process.exitcode}"}
    finally:
        process.kill()
        process.join()


def work(part: str, settings: Settings, sender) -> None:
    """In that process."""
    with network_forbidden() if settings.no_network else contextlib.nullcontext():
        try:
            for record in PARTS[part](settings):
                sender.send(record)
        except Exception as error:  # what comes before its cells
            sender.send(
                {"cell": part, "error": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()}
            )


@contextlib.contextmanager
def network_forbidden() -> Iterator[None]:
    """While this lasts, who asks for a network in this process gets an error."""

    def refuse(*_, **__):
        raise InputError("--no-network forbids what was asked for: all that this needs is made on this machine.")

    connect = socket.socket.connect

    def connect_here(self, address):
        return connect(self, address) if self.family == socket.AF_UNIX else refuse()

    with (
        mock.patch.object(socket.socket, "connect", connect_here),
        mock.patch.object(socket, "getaddrinfo", refuse),
        mock.patch.object(socket, "create_connection", refuse),
    ):
        yield
