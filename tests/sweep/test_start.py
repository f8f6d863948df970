"""How runs start (../sweep/start.py, server.py): what they find, how they end, and what becomes of the server meanwhile."""

import json
import os
import signal
import sys
import textwrap

import pytest

from one_run.folder import take_lock
from sweep import server, start
from sweep.protocols import Run
from sweep.start import Starter
from tests.sweep.stand_ins import Fake, at_work, is_gone, wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only on Linux runs are forked")

FOUND = """
import atexit, json, os, random, signal, sys
held = {name: os.readlink(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{name}")}
lock = os.environ.pop("SPOTLIGHTER_LOCK")
print(json.dumps({
    "argv": sys.argv, "path": sys.path, "folder": os.getcwd(), "environment": dict(os.environ),
    "main": [__name__, __file__, __spec__, sys.modules["__main__"].__dict__ is globals()],
    "signals": {number: str(signal.getsignal(number)) for number in sorted(signal.valid_signals())},
    "held": sorted(map(int, signal.pthread_sigmask(signal.SIG_BLOCK, []))),
    "streams": [[s.encoding, s.errors, s.line_buffering, s.isatty()] for s in (sys.stdin, sys.stdout, sys.stderr)],
    "session": os.getsid(0) == os.getpgid(0) == os.getpid(), "limit": sys.getrecursionlimit(),
    "files": sorted(held.values()), "locked": os.path.basename(held[lock]), "inheritable": os.get_inheritable(int(lock)),
    "shown": [part for part in open("/proc/self/cmdline", errors="surrogateescape").read().split(chr(0)) if part],
}))
atexit.register(print, "the end")
"""


def script(folder, text, name="run"):
    """A run of a script."""
    path = folder / f"{name}.py"
    path.write_text(textwrap.dedent(text))
    return Run(name, Fake(folder / name, (str(path), "--an", "argument\udc80")))


def ended(run, starter, environment=()):
    """Its outcome, what it printed, and the exit code."""
    work = at_work(run, starter, environment)
    code = work.process.wait()
    return work.outcome(), (run.folder / "console.txt").read_text(), code


def printed(run, starter, environment=()):
    return ended(run, starter, environment)[1].strip()


def test_a_run_finds_what_a_new_process_would(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    environment = {"CUDA_VISIBLE_DEVICES": "3", "OMP_NUM_THREADS": "2"}
    found = []
    for forks in (False, True):
        with Starter() as starter:
            starter.forks = forks
            said = printed(script(tmp_path, FOUND), starter, environment).splitlines()
        assert said[1:] == ["the end"]
        found.append(json.loads(said[0]))
    new, forked = found
    forked["files"] = [
        file for file in forked["files"] if not file.startswith("pipe:")
    ]  # to say what weights it has read
    assert forked == new
    assert new["environment"].items() >= environment.items() and new["locked"] == ".lock" and new["session"]


@pytest.mark.parametrize(
    "text, code, words",
    [
        ("raise SystemExit(3)", 3, ""),
        ("import sys; sys.exit('a reason')", 1, "a reason"),
        ("1 / 0", 1, "ZeroDivisionError: division by zero"),
        ("import os; os._exit(5)", 5, ""),
        ("import ctypes; ctypes.string_at(0)", -signal.SIGSEGV, "killed by SIGSEGV"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL, "killed by SIGKILL"),
        ("import os; os.abort()", -signal.SIGABRT, "killed by SIGABRT"),
        ("def", 1, "SyntaxError"),
    ],
)
def test_an_end_hurts_no_other_run(tmp_path, text, code, words):
    """Neither one that is at work nor one that comes."""
    name = "import os, sys; print(os.getppid())"
    with Starter() as starter:
        other = at_work(script(tmp_path, f"{name}; sys.stdout.flush(); import time; time.sleep(600)", "other"), starter)
        outcome, _, ended_with = ended(script(tmp_path, text), starter)
        assert (outcome.state, outcome.killed, ended_with) == ("failed", code < 0, code) and words in outcome.said
        assert other.process.poll() is None
        parent = printed(script(tmp_path, name, "next"), starter)
        other.interrupt()
        assert other.process.wait() == -signal.SIGTERM
        assert parent == (other.run.folder / "console.txt").read_text().strip()


@pytest.mark.parametrize("end", ["", "sys.exit()", "sys.exit(2)", "sys.exit(257)", "1 / 0", "os.kill(os.getpid(), 2)"])
def test_what_python_does_at_an_end(tmp_path, monkeypatch, end):
    """Functions that were registered, threads that are waited for, buffers that are written, the code."""
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    text = f"""
        import atexit, ctypes, os, signal, sys, threading, time
        signal.signal(signal.SIGINT, signal.default_int_handler)
        atexit.register(print, "registered")
        ctypes.CDLL(None).printf(b"by a library ")
        files = [open(os.path.join({str(tmp_path)!r}, "text"), "w"), open(os.path.join({str(tmp_path)!r}, "bytes"), "wb")]
        files[0].write("text"), files[1].write(b"bytes")
        threading.Thread(target=lambda: (time.sleep(0.2), print("a thread"))).start()
        sys.stdout.write("no line")
        {end}
    """
    found = []
    for forks in (False, True):
        with Starter() as starter:
            starter.forks = forks
            _, said, code = ended(script(tmp_path, text), starter)
        words = ("registered", "by a library", "no line", "a thread")
        found.append((code, [word for word in words if word in said], said.splitlines()[-1].split(":")[0]))
        found[-1] += tuple((tmp_path / name).read_text() for name in ("text", "bytes"))
        for name in ("text", "bytes"):
            (tmp_path / name).unlink()
    assert found[0] == found[1] and found[0][3:] == ("text", "bytes") and len(found[0][1]) == 4


def test_no_signal_is_lost_at_the_start(tmp_path):
    with Starter() as starter:
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGTERM, signal.SIGHUP):
            work = at_work(script(tmp_path, "import time; time.sleep(600)"), starter)
            work.process.send_signal(number)
            assert work.process.wait(60) == -number


def test_a_run_is_killed_with_what_it_has_started(tmp_path):
    text = """
        import os, signal, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if not os.fork(): time.sleep(600)
        print(os.getpid(), flush=True); time.sleep(600)
    """
    with Starter() as starter:
        work = at_work(script(tmp_path, text), starter)
        wait_until(lambda: (work.run.folder / "console.txt").read_text())
        children = f"/proc/{work.process.pid}/task/{work.process.pid}/children"
        (child,) = open(children).read().split()
        work.interrupt()
        work.end(0.2)
        assert work.process.returncode == -signal.SIGKILL
        wait_until(lambda: is_gone(child))
        lock = take_lock(work.run.folder)
        assert lock is not None
        os.close(lock)


def test_random_numbers_are_a_runs_own(tmp_path):
    (tmp_path / "drawing.py").write_text(STAND_IN + "import numpy, random\n")
    text = (
        "import sys; assert 'numpy' in sys.modules; import numpy, random; print(numpy.random.rand(), random.random())"
    )
    with Starter("drawing") as starter:
        drawn = [printed(script(tmp_path, text), starter, {"PYTHONPATH": str(tmp_path)}).split() for _ in range(3)]
    assert len({number for _, *numbers in drawn for number in numbers}) == 6


# --- what the server has imported ----------------------------------------------------------------------------------

STAND_IN = """
import os, pathlib
here = pathlib.Path(__file__).parent
def import_all(): print("imported")
def files(): return [here / "beside"]
def weights_read(): return ["weights"]
def keep(path): (here / "kept").write_text(os.path.basename(path))
"""  # for one_run.preload

SAYS = "import os; import preloaded; print(preloaded.VALUE, os.getppid())"


@pytest.fixture
def preloaded(tmp_path, monkeypatch):
    """A module that is imported for all runs; one that it imports; a file that it reads."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "preloaded.py").write_text(STAND_IN + "from other import VALUE\n")
    (tmp_path / "other.py").write_text("VALUE = 1\n")
    (tmp_path / "beside").write_text("")
    for name in ("preloaded.py", "other.py", "beside"):  # long before the server's start
        os.utime(tmp_path / name, (1e9, 1e9))
    with Starter("preloaded") as starter:
        yield starter


def test_one_import_serves_all(tmp_path, preloaded):
    first, second = (printed(script(tmp_path, SAYS, name), preloaded) for name in "ab")
    assert first == second and first.startswith("imported\n1 ")  # what imports print, a run prints too
    wait_until(lambda: (tmp_path / "kept").exists())
    assert (tmp_path / "kept").read_text() == "weights"


@pytest.mark.parametrize("name, text", [("other.py", "VALUE = 2\n"), ("beside", "other"), ("other.py", None)])
def test_what_has_changed_is_imported_anew(tmp_path, preloaded, name, text):
    """A run that is at work goes on as it began."""
    waits = f"{SAYS}\nimport sys, time; sys.stdout.flush()\nwhile not os.path.exists('go'): time.sleep(0.02)"
    first = at_work(script(tmp_path, waits.replace("'go'", repr(str(tmp_path / "go"))), "first"), preloaded)
    wait_until(lambda: (first.run.folder / "console.txt").read_text().endswith("\n"))
    if text is None:
        (tmp_path / name).rename(tmp_path / "away.py")
        (tmp_path / "other.py").write_text("VALUE = 1\n")
        os.utime(tmp_path / "other.py", (1e9, 1e9))  # only the file is another
    else:
        (tmp_path / name).write_text(text)
    said = printed(script(tmp_path, SAYS, "second"), preloaded).split()
    before = (first.run.folder / "console.txt").read_text().split()
    assert said[1] == ("2" if name == "other.py" and text else "1") and said[2] != before[2]
    assert first.process.poll() is None
    (tmp_path / "go").touch()
    assert first.process.wait() == 0
    wait_until(lambda: is_gone(before[2]))  # its server is needed no more
    assert printed(script(tmp_path, SAYS, "third"), preloaded).split() == said


def test_what_changes_while_it_is_imported_is_imported_anew(tmp_path, preloaded):
    (tmp_path / "preloaded.py").write_text(STAND_IN + "from other import VALUE\n" + textwrap.dedent("""
        if VALUE == 1:
            (here / "other.py").write_text("VALUE = 2\\n")
            os.utime(here / "other.py")
    """))  # fmt: skip
    os.utime(tmp_path / "preloaded.py", (1e9, 1e9))
    assert printed(script(tmp_path, SAYS), preloaded).split()[1] == "2"


def test_another_environment_is_another_server(tmp_path):
    """But for the GPUs, which libraries ask for when they are used; of all else they may keep what they found."""
    with Starter() as starter:
        environments = [{"CUDA_VISIBLE_DEVICES": "0"}, {"CUDA_VISIBLE_DEVICES": "1"}, {"OMP_NUM_THREADS": "7"}]
        text = "import os; print(os.getppid(), os.environ.get('CUDA_VISIBLE_DEVICES'), os.environ['OMP_NUM_THREADS'])"
        said = [printed(script(tmp_path, text), starter, each).split() for each in environments]
    assert [each[1] for each in said[:2]] == ["0", "1"] and said[2][2] == "7"
    assert said[0][0] == said[1][0] != said[2][0]


def test_a_server_that_is_killed(tmp_path):
    """Its runs are told to end, and count as killed once they have; the next has another server."""
    ends = """
        import os, signal, sys, time
        def end(*_):
            print("the last words", flush=True); time.sleep(0.3); sys.exit(143)
        signal.signal(signal.SIGTERM, end)
        print(os.getppid(), flush=True); time.sleep(600)
    """
    with Starter() as starter:
        work = at_work(script(tmp_path, ends), starter)
        wait_until(lambda: (work.run.folder / "console.txt").read_text().endswith("\n"))
        parent = (work.run.folder / "console.txt").read_text().split()[0]
        os.kill(int(parent), signal.SIGKILL)
        work.process.wait(60)
        assert is_gone(work.process.pid)
        outcome = work.outcome()
        assert outcome.state == "failed" and outcome.killed and "the last words" in outcome.said
        said = printed(script(tmp_path, "import os; print(os.getppid())", "next"), starter)
        assert said not in (parent, str(os.getpid()))


@pytest.mark.parametrize("text", ["import not_there", "import os; os._exit(1)", "raise SystemExit('one reason')"])
def test_a_server_that_cannot_begin(tmp_path, text, capsys):
    """It is said, and every run is a new process."""
    (tmp_path / "broken.py").write_text(text)
    with Starter("broken") as starter:
        for name in "ab":
            run = script(tmp_path, "import os; print(os.getppid())", name)
            assert printed(run, starter, {"PYTHONPATH": str(tmp_path)}) == str(os.getpid())
    (said,) = capsys.readouterr().out.splitlines()
    assert said.startswith("Every run imports all by itself, ") and said.rpartition(": ")[2] in (
        "No module named 'not_there'", "killed", "one reason"
    )  # fmt: skip


def test_a_gpu_that_was_asked_for(tmp_path, monkeypatch):
    server.check_gpus()
    monkeypatch.setattr(server, "GPUS", str(tmp_path / "nvidia"))
    with open(tmp_path / "nvidia0", "w"), pytest.raises(SystemExit, match="A GPU was asked for"):
        server.check_gpus()


def test_the_server_ends_with_its_starter(tmp_path):
    with Starter() as starter:
        parent = printed(script(tmp_path, "import os; print(os.getppid())"), starter)
        assert not is_gone(parent)
    assert is_gone(parent)


def test_elsewhere_every_run_is_a_new_process(tmp_path, monkeypatch):
    monkeypatch.setattr(start, "FORKS", False)
    with Starter() as starter:
        assert printed(script(tmp_path, "import os; print(os.getppid())"), starter) == str(os.getpid())
