"""Sweeps past one machine, with stand-ins for train.py: a Ray cluster that loses a node, submitit's local executor."""

import os
import signal
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dassl.errors import InputError
from sweep.on_ray import run_on_ray
from sweep.on_slurm import Chain, run_on_slurm
from sweep.progress import Progress
from tests.helpers import REPOSITORY
from tests.sweep.stand_ins import fake, is_gone, journal, wait_until


@pytest.fixture
def cluster(monkeypatch):
    """A head without cores and two nodes, all on this machine, that notice a lost node soon."""
    settings = {
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # or Ray takes another address of this machine, and hangs
        "RAY_TMPDIR": tempfile.mkdtemp(dir="/tmp", prefix="r"),  # short: a socket's path has 107 bytes
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_health_check_period_ms": "500",
        "RAY_health_check_timeout_ms": "1000",
        "RAY_health_check_failure_threshold": "3",
        "RAY_health_check_initial_delay_ms": "1000",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    ray = pytest.importorskip("ray")  # which reads some of these as it is imported
    cluster_utils = pytest.importorskip("ray.cluster_utils")
    common = dict(node_ip_address="127.0.0.1", object_store_memory=78_643_200, include_dashboard=False)
    made = cluster_utils.Cluster(initialize_head=True, head_node_args=dict(num_cpus=0, **common))
    made.ours = [made.add_node(num_cpus=4, **common) for _ in range(2)]
    made.wait_for_nodes()
    yield made
    ray.shutdown()
    made.shutdown()


@pytest.mark.slow
def test_a_node_is_lost(cluster, tmp_path):
    """Its runs are done elsewhere, none twice; a failure is not tried again, and what needs it is left out."""
    long = [fake(tmp_path, f"long{i}", what="go") for i in range(4)]
    broken = fake(tmp_path, "broken", what="fail")
    runs = [*long, *(fake(tmp_path, f"test{i}", after=run) for i, run in enumerate(long))]
    runs += [broken, fake(tmp_path, "needing", after=broken)]
    done = Progress(runs, set())
    with pytest.raises(InputError, match="no node has both"):
        run_on_ray(done, cluster.address, gpus=1, threads=1)
    assert not any(tmp_path.iterdir())

    def begun():
        return sum(event[0] == "begun" and event[1].startswith("long") for event in journal(tmp_path))

    def lose_a_node():
        """When all long runs are at work; they end once one of them has begun again."""
        wait_until(lambda: (tmp_path / "journal").exists() and begun() == 4)
        cluster.remove_node(cluster.ours[0], allow_graceful=False)
        wait_until(lambda: begun() > 4)
        (tmp_path / "go").touch()

    with ThreadPoolExecutor(1) as pool:
        loss = pool.submit(lose_a_node)
        loss.add_done_callback(lambda _: (tmp_path / "go").touch())  # an error there does not hang the sweep here
        run_on_ray(done, cluster.address, gpus=0, threads=1)
        loss.result()
    states = Counter(outcome.state for outcome in done.outcomes.values())
    assert states == {"finished": 8, "failed": 1, "skipped": 1}
    assert "error: it cannot be done." in done.outcomes[broken].said
    events = Counter(journal(tmp_path))
    assert all(events["finished", run.label] == 1 for run in runs[:8])
    assert events["begun", "broken"] == 1 and events["begun", "needing"] == 0


def test_no_cluster(tmp_path, monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(InputError, match="no Ray cluster at the address auto"):
        run_on_ray(Progress([fake(tmp_path, "run")], set()), "auto", gpus=0, threads=1)


@pytest.mark.slow
def test_an_array(tmp_path, monkeypatch):
    """submitit's own executor for one machine, in SLURM's place, from any folder: chains, a failure, what is left out."""
    pytest.importorskip("submitit")
    monkeypatch.setenv("PYTHONPATH", "")
    monkeypatch.chdir(tmp_path)
    broken, train = fake(tmp_path, "broken", what="fail"), fake(tmp_path, "train")
    runs = [broken, fake(tmp_path, "needing", after=broken), train, fake(tmp_path, "test", after=train)]
    done = Progress(runs, set())
    run_on_slurm(done, tmp_path / "slurm", gpus=0, threads=1, minutes=5, more={"partition": "any"}, cluster="local")
    assert [done.state(run) for run in runs] == ["failed", "skipped", "finished", "finished"]
    assert "error: it cannot be done." in done.outcomes[broken].said
    assert [event for event in journal(tmp_path) if event[1] in ("train", "test")] == [
        (word, name) for name in ("train", "test") for word in ("begun", "finished")
    ]


def parent_of(process: int) -> int:
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells which process the job is")
def test_a_job_that_is_preempted(tmp_path, monkeypatch):
    """It gets the signal of SLURM's that submitit asks for: its training ends, and it is handed in again."""
    submitit = pytest.importorskip("submitit")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")]))
    executor = submitit.AutoExecutor(folder=tmp_path / "slurm", cluster="local")
    job = executor.submit(Chain([fake(tmp_path, "first"), fake(tmp_path, "second", what="go")], {}))
    wait_until(lambda: (tmp_path / "journal").exists() and ("begun", "second") in journal(tmp_path))
    training = int((tmp_path / "journal").read_text().split()[-1])
    os.kill(parent_of(parent_of(training)), signal.SIGUSR2)  # the job; between them is what has forked the training
    wait_until(lambda: journal(tmp_path).count(("begun", "second")) == 2)
    assert is_gone(training)
    (tmp_path / "go").touch()
    assert [outcome.state for outcome in job.result()] == ["finished", "finished"]
    assert Counter(journal(tmp_path)) == {
        ("begun", "first"): 1, ("finished", "first"): 1, ("skipped", "first"): 1,
        ("begun", "second"): 2, ("finished", "second"): 1,
    }  # fmt: skip


def test_no_slurm(tmp_path, monkeypatch):
    pytest.importorskip("submitit")
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("PYTHONPATH", "")
    with pytest.raises(InputError, match="no sbatch here"):
        run_on_slurm(Progress([fake(tmp_path, "run")], set()), tmp_path, 0, 1, 5, {})
