"""What runs are forked with (../one_run/preload.py): nothing that a forked process cannot use, no file of a user's."""

import json
import os
import subprocess
import sys

from tests.helpers import REPOSITORY

CODE = """
import json, os, sys, torch
asked = []
for name in ("_cuda_getDeviceCount", "_cuda_init"):
    if hasattr(torch._C, name):
        setattr(torch._C, name, lambda *_, name=name: asked.append(name) or 0)
state = torch.get_rng_state()
import numpy
threads = lambda: len(os.listdir("/proc/self/task"))
before = threads()
from one_run import preload
preload.import_all()
weights = preload.clip.find_weights("ViT-Embedded/8")
preload.keep(weights)
after = threads()
pid = os.fork()
if not pid:
    large = torch.ones(512, 512)
    large @ large + torch.rand(512, 512).sort().values  # by several threads
    preload.kept.read.clear()
    preload.clip.load_state_dict(weights)
    os._exit(0 if torch.get_num_threads() == 2 and not preload.weights_read() else 1)
print(json.dumps({
    "asked": asked, "threads": after - before, "code": os.waitpid(pid, 0)[1],
    "users": [name for name in sys.modules if name.split(".")[0] in ("trainers", "datasets", "train")],
    "drawn": not torch.equal(torch.get_rng_state(), state), "files": [path.is_file() for path in preload.files()],
    "missing": [name for name in preload.MODULES if name not in sys.modules],
}))
"""


def test_what_a_server_does():
    environment = os.environ | {"OMP_NUM_THREADS": "2"}
    done = subprocess.run(
        [sys.executable, "-c", CODE], cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {
        "asked": [], "threads": 0, "code": 0, "users": [], "drawn": False, "files": [True], "missing": [],
    }  # fmt: skip


def test_a_version_is_tried_once(tmp_path, monkeypatch):
    from one_run import preload

    tried = []
    monkeypatch.setattr(preload.checkpoint, "keep", tried.append)
    path = tmp_path / "weights.pt"
    preload.keep(str(path))
    for text in ("one", "one", "another"):
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
        preload.keep(str(path))
    assert tried == [str(path)] * 2
