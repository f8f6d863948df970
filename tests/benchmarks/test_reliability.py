"""The benchmark of kills: that it kills where it says, and tells what differs. No time is asserted."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from benchmarks.reliability import __main__ as reliability
from benchmarks.reliability import sweeps
from benchmarks.reliability.child import TRACEBACK, Child, counts, dies_before, last_line, processes_of, tracebacks_in
from benchmarks.reliability.compare import differences, leftovers
from benchmarks.reliability.pictures import COLOURS, IMAGES, draw
from benchmarks.reliability.tally import DIFFERED, SAME, STUCK, Tally
from one_run.folder import take_lock
from tests.helpers import REPOSITORY


def change_files(folder):
    """Four changes of files, and a read that is none."""
    (folder / "a").write_text("a")
    (folder / "a").rename(folder / "b")
    (folder / "b").read_text()
    (folder / "made").mkdir()
    (folder / "b").unlink()


@pytest.mark.parametrize("number, left", [(1, set()), (2, {"a"}), (3, {"b"}), (4, {"b", "made"}), (5, {"made"})])
def test_a_kill_before_a_change(tmp_path, number, left):
    folder = tmp_path / "run"
    folder.mkdir()
    child = Child(lambda: change_files(folder), tmp_path / "console.txt", dies_before(folder, number))
    assert child.end_within(None) == (0 if number == 5 else -signal.SIGKILL)
    assert {path.name for path in folder.iterdir()} == left


def test_changes_are_counted(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "other").mkdir()
    count, counting = counts(tmp_path / "run")

    def change_both():
        change_files(tmp_path / "other")
        change_files(tmp_path / "run")

    assert Child(change_both, tmp_path / "console.txt", counting).end_within(None) == 0
    assert count.value == 4


def test_a_kill_at_a_moment(tmp_path):
    assert Child(lambda: time.sleep(600), tmp_path / "console.txt").kill_after(0.0) == -signal.SIGKILL
    assert Child(lambda: 3, tmp_path / "console.txt").kill_after(600.0) == 3


def test_what_a_child_prints(tmp_path):
    console = tmp_path / "console.txt"
    for number, text in ((1, f"{TRACEBACK}:\n"), (2, "error: a sentence.\n\n")):
        assert (
            Child(lambda number=number, text=text: os.write(number, text.encode()) * 0, console).end_within(None) == 0
        )
    assert tracebacks_in(console) == 1 and last_line(console) == "error: a sentence."


def test_processes_of_a_folder(tmp_path):
    code = "import time; time.sleep(600)"
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "run" / "a")])
    try:
        sweeps.wait_until(lambda: processes_of(tmp_path / "run"))
        assert processes_of(tmp_path / "run") == [process.pid]
        assert not processes_of(tmp_path / "ru")
    finally:
        process.kill()
        sweeps.wait_until(lambda: not processes_of(tmp_path / "run"))  # a zombie is none at work
        process.wait()


# --- what differs -------------------------------------------------------------------------------------------------


def leave(folder, accuracy=50.0, value=1.0, **more):
    """What a run leaves, as far as it is compared."""
    (folder / "model").mkdir(parents=True)
    record = {"state": "finished", "accuracy": accuracy, "config": {"OUTPUT_DIR": str(folder), "SEED": 1}, **more}
    (folder / "results.json").write_text(json.dumps(record))
    os.close(take_lock(folder))
    torch.save({"state_dict": {"ctx": torch.tensor([value, -0.0])}, "epoch": 2}, folder / "model" / "model.pth.tar-2")
    return folder


def test_the_same(tmp_path):
    """Places, times and what each start writes of its own are not compared."""
    whole, killed = leave(tmp_path / "a", seconds=1.0), leave(tmp_path / "b", seconds=2.0, resumed={"epoch": 1})
    (killed / "log.txt-2026-01-01-00-00-00").touch()
    assert differences(killed, whole) == [] and leftovers(killed, whole) == []


def test_what_differs_is_named(tmp_path):
    whole, killed = leave(tmp_path / "a"), leave(tmp_path / "b", accuracy=51.0, value=1.0 + 2**-23)
    (whole / "log.txt").touch()
    expected = ["log.txt is missing", "results.json: accuracy", "model/model.pth.tar-2: state_dict.ctx"]
    assert differences(killed, whole) == expected


def test_what_is_left_over_is_named(tmp_path):
    whole, killed = leave(tmp_path / "a"), leave(tmp_path / "b")
    for name in ("model/.model.pth.tar-1.0badcafe.part", "model/model.pth.tar-1"):
        (killed / name).touch()
    lock = take_lock(killed)
    left = ["model/.model.pth.tar-1.*.part", "model/model.pth.tar-1", "a lock that is held"]
    assert leftovers(killed, whole) == left
    os.close(lock)


def test_a_tally(tmp_path):
    whole, other = leave(tmp_path / "a"), leave(tmp_path / "b", accuracy=51.0)
    tally = Tally()
    tally.kills["SIGTERM"] += 2
    tally.judge(whole, other)
    assert not tally.is_clean
    same = Tally()
    same.judge(other, other)
    same.kills["SIGTERM"] += 1
    assert same.is_clean
    same += tally
    same.is_stuck("error: it cannot be done.")
    assert same.as_json() == {
        "kills": {"SIGTERM": 3},
        "ended": {SAME: 1, DIFFERED: 1, STUCK: 1},
        "differed": {"results.json: accuracy": 1},
        "sentences": {"error: it cannot be done.": 1},
        "leftovers": {},
        "faults": {},
    }
    assert str(same).startswith("3 kills, 1 ended the same, 1 differed, 1 could not go on, 1 results.json: accuracy")


# --- the command --------------------------------------------------------------------------------------------------


def test_pictures(tmp_path):
    root = draw(tmp_path / "a")
    names = {path.relative_to(root): path.read_bytes() for path in root.rglob("*.png")}
    assert len(names) == len(COLOURS) * IMAGES
    draw(tmp_path / "b")
    assert all((tmp_path / "b" / name).read_bytes() == content for name, content in names.items())


def test_memory_and_files_of_a_process(tmp_path):
    before = sweeps.usage(os.getpid())
    with open(tmp_path / "file", "w"):
        assert sweeps.usage(os.getpid())["open_files"] == before["open_files"] + 1
    assert before["rss_mib"] > 50  # PyTorch alone takes more


@pytest.mark.parametrize("counts, first, last", [([1, 2, 11, 19, 20], 2, 20), ([5, 9], 5, 9), ([7], 7, 7)])
def test_the_first_and_the_last_tenth(counts, first, last):
    """Of 20 runs; what is held grows with the runs here."""
    seen = [{"runs": number, "rss_mib": 2.0 * number, "open_files": number} for number in counts]
    most = sweeps.most_held(seen, 20)
    assert most["first_tenth"] == {"rss_mib": 2.0 * first, "open_files": first}
    assert most["last_tenth"] == {"rss_mib": 2.0 * last, "open_files": last}


def test_parts_are_written_one_by_one(tmp_path, monkeypatch, capsys):
    """Those that are not asked for stay, and a cluster's are left out where there is no Ray."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(reliability, "measure", lambda part, number, *_: {"kills": number})
    monkeypatch.setattr(reliability, "ray_version", lambda: None)
    out = tmp_path / "out.json"
    assert reliability.main(["--quick", "--out", str(out), "--parts", "trainings", "cluster"]) == 0
    assert "cluster: left out. Ray is not installed: pip install -r" in capsys.readouterr().out
    assert reliability.main(["--seed", "3", "--out", str(out), "--parts", "sweeps"]) == 0
    found = json.loads(out.read_text())
    assert {part: (each["kills"], each["seed"]) for part, each in found.items()} == {
        "trainings": (reliability.QUICK["trainings"], 1),
        "sweeps": (reliability.NUMBERS["sweeps"], 3),
    }
    assert all({"versions", "processor", "processors", "command"} <= each.keys() for each in found.values())


def test_runs_of_another_time_are_not_touched(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    (tmp_path / "sweeps").mkdir()
    assert reliability.main(["--quick", "--parts", "sweeps", "--folder", str(tmp_path)]) == 2
    assert "is there already" in capsys.readouterr().err


@pytest.mark.slow
def test_kills(tmp_path):
    """In a process of its own, which has one thread: all runs end with the same bits, and leave nothing over."""
    out = tmp_path / "out.json"
    line = ["-m", "benchmarks.reliability", "--quick", "--parts", "trainings", "sweeps", "long", "--out", str(out)]
    assert subprocess.run([sys.executable, *line], cwd=REPOSITORY).returncode == 0
    found = json.loads(out.read_text())
    for part in ("trainings", "sweeps"):
        rows = found[part]["rows"].values()
        assert sum(sum(row["kills"].values()) for row in rows) == reliability.QUICK[part]
        for row in rows:
            assert row["ended"].keys() <= {SAME} and not any(row[key] for key in ("leftovers", "sentences", "faults"))
    assert found["long"]["finished"] == found["long"]["runs"] == reliability.QUICK["long"]
    more = found["long"]["last_tenth"]["open_files"] - found["long"]["first_tenth"]["open_files"]
    assert more < found["long"]["runs"] / 2  # one that each run leaves open would be more
