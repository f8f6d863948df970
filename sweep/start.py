"""How the process of a run starts. On Linux it is forked from one that has imported what all runs need (server.py), which
saves most of the seconds before a run's first batch; elsewhere it is a new one.
"""

import contextlib
import ctypes
import functools
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from one_run.command import BY_SIGNAL
from one_run.folder import state_of, take_lock, to_give
from one_run.layout import ROOT

PRCTL, SET_DEATH_SIGNAL = ctypes.CDLL(None).prctl if sys.platform == "linux" else None, 1
FORKS = sys.platform == "linux"
PRELOADED = "one_run.preload"
SERVER = f"import sys; sys.path[0] = {str(ROOT)!r}; from sweep.server import main; main()"
ROOM = 4096  # bytes for the command of a run, where processes are listed
MAY_DIFFER = ("CUDA_VISIBLE_DEVICES",)  # of the environments of one server's runs: it is looked at by a run alone


class NotYet(Exception):
    """A server is importing: ask again in a moment."""


def begin(parent: int) -> None:
    """What a new process does first: ask Linux for SIGTERM when the process that started it dies, and leave the
    signals by which SLURM announces the end of a job to that process, which has handlers for them.
    """
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a handler would only note it, and the note is lost with this code
    if PRCTL is not None:
        PRCTL(SET_DEATH_SIGNAL, signal.SIGTERM)
        if os.getppid() != parent:  # it has died before that
            os._exit(BY_SIGNAL + signal.SIGTERM)
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)


class New(subprocess.Popen):
    """A run in a new process."""

    def __init__(self, command: Sequence[str], environment: dict[str, str], lock: int, console: BinaryIO):
        super().__init__(
            [sys.executable, *command],
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=subprocess.STDOUT,
            env=environment | to_give(lock),
            pass_fds=(lock,),
            start_new_session=True,  # Ctrl-C comes from the sweep alone, once
            preexec_fn=functools.partial(begin, os.getpid()),
        )

    def kill_all(self) -> None:
        """It, and what it has started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)


class Forked:
    """A run in a process that the server has forked; to be used as a Popen."""

    def __init__(self, talk: socket.socket, pid: int, folder: Path):
        self.talk, self.pid, self.folder = talk, pid, folder
        self.returncode: int | None = None
        self.is_alone = False  # the server has died, and it has got SIGTERM

    def poll(self) -> int | None:
        if self.returncode is None and not self.is_alone and select.select([self.talk], [], [], 0)[0]:
            with contextlib.suppress(ConnectionError):
                self.returncode = next(map(int, self.talk.recv(64).split()[1:]), None)
            self.is_alone = self.returncode is None
        if self.is_alone and self.returncode is None and (lock := take_lock(self.folder)) is not None:  # it has ended
            os.close(lock)
            self.returncode = 0 if state_of(self.folder) == "finished" else BY_SIGNAL + signal.SIGTERM
        if self.returncode is not None:
            self.talk.close()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        deadline = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if deadline is not None and time.monotonic() >= deadline:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0.0)
            time.sleep(0.02)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is not None:
            return
        if self.is_alone:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number) if number > 0 else os.killpg(self.pid, -number)
        else:  # nobody but the server knows whether a process of this number is still the run
            with contextlib.suppress(ConnectionError):
                self.talk.send(f"{number} ".encode())

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def kill_all(self) -> None:
        self.send_signal(-signal.SIGKILL)


class Server:
    """The process of server.py, from outside."""

    def __init__(self, module: str, environment: dict[str, str]):
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.printed = tempfile.TemporaryFile()  # noqa: SIM115  as long as the process
        self.is_up, self.has_begun = False, False
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-c", SERVER, str(theirs.fileno()), module, " " * ROOM],
                stdin=subprocess.DEVNULL,
                stdout=self.printed,
                stderr=subprocess.STDOUT,
                env=environment,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )

    def look(self) -> bool:
        """Whether it has imported everything. Raises EOFError if it has ended."""
        if not self.is_up and select.select([self.control], [], [], 0)[0]:
            self.is_up = self.control.recv(64) == b"ready"
            if not self.is_up:
                raise EOFError
        return self.is_up

    def fork(self, command: Sequence[str], environment: dict[str, str], lock: int, console: BinaryIO, folder: Path):
        """The process of a run; None if a file has changed that was imported. Raises EOFError if this has ended."""
        talk, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, tempfile.TemporaryFile("w+") as request:
            json.dump({"command": command, "environment": environment, "folder": os.getcwd()}, request)
            request.flush()
            try:
                files = [theirs.fileno(), console.fileno(), lock, request.fileno()]
                socket.send_fds(self.control, [b"run"], files)
            except ConnectionError:
                raise EOFError from None
        with contextlib.suppress(ConnectionError):
            what, _, more = talk.recv(4096).decode().partition(" ")
            if what == "begun":
                self.has_begun = True
                return Forked(talk, int(more), folder)
            talk.close()
            if what == "stale":
                return None
            if what == "failed":
                raise OSError(f"no process could be forked ({more})")
        raise EOFError

    def last_line(self) -> str:
        self.printed.seek(0)
        return (self.printed.read().decode(errors="replace").split("\n\n")[-1].strip().splitlines() or ["killed"])[-1]

    def retire(self) -> None:
        """It ends once its runs have."""
        with contextlib.suppress(ConnectionError):
            self.control.send(b"retire")

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self.control.close()
        self.printed.close()


class Starter:
    """Starts processes of runs, and ends with them: `with Starter() as starter`."""

    def __init__(self, module: str | None = None):
        """module: what the server imports, and lets keep weights (one_run/preload.py, unless told otherwise); "": none."""
        self.module = PRELOADED if module is None else module
        self.forks = FORKS
        self.server: Server | None = None
        self.former: list[Server] = []
        self.shared: dict[str, str] = {}  # the environment of all runs of the server

    def __enter__(self) -> "Starter":
        return self

    def __exit__(self, *_) -> None:
        for server in (*self.former, self.server):
            if server is not None:
                server.end()
        self.former, self.server = [], None

    def check(self, environment: dict[str, str]) -> None:
        """Raises NotYet where no process can start yet."""
        shared = {name: value for name, value in environment.items() if name not in MAY_DIFFER}
        if not self.forks:
            return
        if self.server is not None and shared != self.shared:
            self.server.retire()
            self.replace()
        if self.server is None:
            self.server, self.shared = Server(self.module, environment), shared
        try:
            if self.server.look():
                return
        except EOFError:
            self.give_up()
            return
        raise NotYet

    def start(
        self, command: Sequence[str], environment: dict[str, str], lock: int, console: BinaryIO, folder: Path
    ) -> New | Forked:
        """The process of the run in `folder`, which inherits its lock. Raises NotYet, and OSError."""
        self.check(environment)
        if self.server is not None:
            try:
                process = self.server.fork(command, environment, lock, console, folder)
                if process is not None:
                    return process
            except EOFError:
                if not self.server.has_begun:
                    self.give_up()
                    return self.start(command, environment, lock, console, folder)
            self.replace()
            raise NotYet
        return New(command, environment, lock, console)

    def replace(self) -> None:
        """A server that has begun runs stays until they have ended."""
        for server in self.former:
            if server.process.poll() is not None:
                server.end()
        self.former = [server for server in (*self.former, self.server) if server and server.process.poll() is None]
        self.server = None

    def give_up(self) -> None:
        if self.server is not None:
            self.server.process.wait()
            print(f"Every run imports all by itself, as what was to do so for all has ended: {self.server.last_line()}")
            self.server.end()
        self.server, self.forks = None, False
