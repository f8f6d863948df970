"""In train.py's place for tests of sweeps: python fake.py FOLDER SECONDS [WHAT]. It notes in FOLDER/../journal when
it begins and finishes, and leaves a record. WHAT is fail, forget (the record), kill (itself), with:NAME (go on when the
run of that name has begun), go (on when FOLDER/../go is there), deaf (to SIGTERM), ended (by SIGTERM, and says so) or
nothing.
"""

import fcntl
import json
import os
import signal
import sys
import time
from pathlib import Path

folder, seconds, what = Path(sys.argv[1]), float(sys.argv[2]), [*sys.argv, ""][3]


def note(word):
    with open(folder.parent / "journal", "a") as journal:
        fcntl.flock(journal, fcntl.LOCK_EX)
        journal.write(f"{word} {folder.name} {os.getpid()}\n")


record = folder / "results.json"
if record.is_file() and json.loads(record.read_text())["state"] == "finished":  # as train.py does
    note("skipped")
    sys.exit(0)
if what == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if what == "ended":
    sys.exit(143)
note("begun")
record.write_text('{"state": "running"}')
time.sleep(seconds)
if what.startswith("with:"):
    deadline = time.monotonic() + 60
    while f"begun {what[5:]} " not in (folder.parent / "journal").read_text():
        assert time.monotonic() < deadline, "the other did not begin"
        time.sleep(0.02)
while what == "go" and not (folder.parent / "go").exists():
    time.sleep(0.02)
if what == "fail":
    print("first line\nerror: it cannot be done.", file=sys.stderr)
    sys.exit(2)
if what == "kill":
    os.kill(os.getpid(), signal.SIGKILL)
if what != "forget":
    temporary = folder / f"results.{os.getpid()}"
    temporary.write_text('{"state": "finished"}')
    temporary.rename(record)
note("finished")
