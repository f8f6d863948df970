"""A process that has imported what all runs need, and forks one process for each.

It serves the process that has started it (start.py), and ends with it. A run finds what a new `python train.py ...` would:
its arguments, environment, folder and console, signals as they were, random numbers of its own. What it reads it reads
itself; of what was imported here no file may have changed. multiprocessing's own fork server does not look for that, and
gives a process neither a console nor a session, nor an end with `atexit`.

Messages are packets. From here: "ready" once all is imported; for each run, on a socket of its own, "begun PROCESS", or
"stale" (a file has changed: another server is needed), or "failed WHY"; at last "ended CODE". From there: a run's open
files, or "retire"; on a run's socket the number of a signal, a negative one for all processes that the run has started.
"""

import atexit
import contextlib
import ctypes
import gc
import importlib
import io
import json
import os
import select
import signal
import socket
import sys
import time
import types
from pathlib import Path
from typing import Any, NamedTuple

from one_run.folder import to_give

from .start import begin

HELD = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)  # they are for the runs
POLL = 0.05  # seconds
GPUS = ("/dev/nvidia", "/dev/kfd")  # a process that has these open can fork none that computes on a GPU


class Job(NamedTuple):
    """The open files of a run."""

    talk: int  # about it, with the process that wants it done
    console: int
    lock: int
    request: int  # JSON: {"command": [script, arguments], "environment": ..., "folder": the current one}


class Server:
    def __init__(self, control: socket.socket, preload: Any):
        self.control, self.preload, self.own = control, preload, os.getpid()
        self.wishes, self.wish = os.pipe()  # runs write here which weights they have read, a path a line
        os.set_blocking(self.wishes, False)
        self.children: dict[int, socket.socket | None] = {}  # None: nobody wants to know of it any more
        self.retires = False

    def serve(self, began: int) -> Job:
        """Returns in forked processes alone; `began` is when the imports did, in ns."""
        self.versions, self.threads = versions_of(imported(self.preload)), threads_here()
        if any(began <= version[0] <= time.time_ns() for version in self.versions.values()):
            self.versions = {}  # whether this or the former text was imported, nobody knows
        self.control.send(b"ready")
        while not (self.retires and not self.children):
            heard: list[Any] = [self.control, self.wishes, *filter(None, self.children.values())]
            ready = select.select(heard, [], [], POLL if self.children else None)[0]
            self.reap()
            for pid, talk in list(self.children.items()):
                if talk and talk in ready:
                    self.send_signals(pid, talk)
            if self.wishes in ready:
                self.keep()
            if self.control in ready and (job := self.answer()):
                return job
        os._exit(0)

    def reap(self) -> None:
        for pid, talk in list(self.children.items()):
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                del self.children[pid]
                if talk:
                    say(talk, f"ended {os.waitstatus_to_exitcode(status)}")
                    talk.close()

    def send_signals(self, pid: int, talk: socket.socket) -> None:
        numbers = receive(talk).split()
        if not numbers:
            talk.close()
            self.children[pid] = None
        for number in map(int, numbers):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number) if number > 0 else os.killpg(pid, -number)

    def keep(self) -> None:
        """The weights that a run has read, for those to come."""
        for path in os.read(self.wishes, 1 << 16).split(b"\n"):
            if path:
                self.preload.keep(os.fsdecode(path))

    def answer(self) -> Job | None:
        """A run that is to begin; None here, its job in the process that is forked."""
        message, files, _, _ = socket.recv_fds(self.control, 64, len(Job._fields))
        if not message:  # nobody is there any more
            os._exit(0)  # which tells the runs (`begin`)
        if not files:
            self.retires = True
            return None
        job = Job(*files)
        talk = socket.socket(fileno=job.talk)
        if versions_of(self.versions) != self.versions or not self.versions or threads_here() > self.threads:
            self.retires = True
            say(talk, "stale")
        else:
            try:
                pid = os.fork()
            except OSError as error:
                say(talk, f"failed {error.strerror}")
            else:
                if not pid:
                    talk.close()
                    return job
                self.children[pid] = talk
                say(talk, f"begun {pid}")
        for file in (job.console, job.lock, job.request):
            os.close(file)
        if talk not in self.children.values():
            talk.close()
        return None

    def become(self, job: Job, mask: set, printed: bytes) -> None:
        """The forked process; afterwards it is as a new one that has not begun with its script."""
        os.setsid()  # Ctrl-C comes from the sweep alone, once
        begin(self.own)
        for other in (self.control, *filter(None, self.children.values())):
            other.close()
        with open(job.request, encoding="utf-8") as file:
            file.seek(0)
            request = json.load(file)
        for target in (1, 2):
            os.dup2(job.console, target)
        os.close(job.console)
        os.close(self.wishes)
        os.write(1, printed)  # as it would have imported all that itself
        os.set_inheritable(job.lock, True)
        os.environ.clear()
        os.environ.update(request["environment"] | to_give(job.lock))
        os.chdir(request["folder"])
        show_as(request["command"])
        sys.argv, sys.path[0] = request["command"], os.path.dirname(os.path.realpath(request["command"][0]))
        importlib.invalidate_caches()
        if "numpy" in sys.modules:
            # Python's own generator does so by itself; PyTorch's begins alike always.
            sys.modules["numpy"].random.seed()
        atexit.register(self.wish_for_weights)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def wish_for_weights(self) -> None:
        with contextlib.suppress(OSError):
            for path in self.preload.weights_read() if self.preload else ():
                os.write(self.wish, os.fsencode(os.path.abspath(path)) + b"\n")


def receive(talk: socket.socket) -> bytes:
    with contextlib.suppress(ConnectionError):
        return talk.recv(64)
    return b""


def say(talk: socket.socket, message: str) -> None:
    with contextlib.suppress(OSError):  # nobody wants to know any more
        talk.send(message.encode())


def imported(preload: Any) -> list[str]:
    """Files of all modules, and what was read beside them."""
    files = [vars(module).get("__file__") for module in list(sys.modules.values()) if hasattr(module, "__dict__")]
    return [*filter(None, files), *(map(str, preload.files()) if preload else ())]


def versions_of(files) -> dict[str, tuple[int, ...]]:
    """What differs once a file has been written to; of one that is not there nothing."""
    found: dict[str, tuple[int, ...]] = {}
    for file in files:
        with contextlib.suppress(OSError):
            stat = os.stat(file)
            found[file] = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
    return found


def threads_here() -> int:
    return len(os.listdir("/proc/self/task"))


def check_gpus() -> None:
    open_files = (f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd"))
    if any(os.readlink(path).startswith(GPUS) for path in open_files if os.path.islink(path)):
        raise SystemExit("A GPU was asked for as modules were imported.")


def show_as(command: list[str]) -> None:
    """In lists of processes: over the arguments that this process was started with, as far as they reach."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    start, end = int(fields[45]), int(fields[46])  # of the arguments, in this process's memory
    text = b"\0".join(map(os.fsencode, [sys.executable, *command]))
    if start:
        ctypes.memmove(start, text[: end - start - 1].ljust(end - start, b"\0"), end - start)


class Ending:
    """What Python does last, once nobody else has anything to do: it would take apart all modules and libraries, for longer
    than a run needs to begin. Instead what is still in buffers is written, and the process is gone.
    """

    def __init__(self) -> None:
        self.code: int | None = None  # None: let Python end it
        atexit.register(self.end)  # as the first, which is called as the last

    def end(self) -> None:
        if self.code is None:
            return
        files = [each for each in gc.get_objects() if isinstance(each, io.TextIOWrapper | io.BufferedWriter)]
        for file in (*files, sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):  # closed, or there is no room
                file.flush()
        ctypes.CDLL(None).fflush(None)  # what libraries have printed
        os._exit(self.code)

    @contextlib.contextmanager
    def noted(self):
        """The code that a script ends with."""
        try:
            yield
            self.code = 0
        except SystemExit as error:
            self.code = error.code & 0xFF if isinstance(error.code, int) else None if error.code else 0
            raise


def run_script(path: str) -> None:
    """As `python path` does, once `sys.argv` and `sys.path` are set."""
    code = compile(Path(path).read_bytes(), path, "exec")
    main = types.ModuleType("__main__")
    main.__file__, main.__builtins__ = path, __builtins__  # type: ignore[attr-defined]
    sys.modules["__main__"] = main
    exec(code, main.__dict__)


def main() -> None:
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, HELD)  # what comes for all of a group is not for this process
    ending = Ending()
    control, module = socket.socket(fileno=int(sys.argv[1])), sys.argv[2]
    began = time.time_ns()
    preload = importlib.import_module(module) if module else None
    if preload:
        preload.import_all()
    check_gpus()
    sys.stdout.flush()
    server = Server(control, preload)
    job = server.serve(began)
    server.become(job, mask, Path("/proc/self/fd/1").read_bytes())
    with ending.noted():
        run_script(sys.argv[0])
