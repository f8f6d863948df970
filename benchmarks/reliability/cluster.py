"""Sweeps on a Ray cluster of three nodes, all on this machine, one of which is killed at a random moment; a new one comes
for the next sweep. Needs Ray: pip install -r requirements-sweep.txt.
"""

import contextlib
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from one_run.layout import ROOT

from .child import last_line, processes_of, tracebacks_in
from .sweeps import arguments, folders_in, wait_until
from .tally import Tally

NODES, CORES = 3, 2
SETTINGS = {  # which Ray reads as it is imported
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # or Ray takes another address of this machine, and hangs
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_health_check_period_ms": "500",  # a lost node is noticed soon
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "3",
    "RAY_health_check_initial_delay_ms": "1000",
}
LIMIT = 600.0  # seconds for a sweep


def ray_version() -> str | None:
    """None where it is not installed."""
    with contextlib.suppress(metadata.PackageNotFoundError):
        return metadata.version("ray")
    return None


@contextlib.contextmanager
def cluster() -> Iterator:
    """One with a head without cores, and a function that adds a node."""
    temporary = tempfile.mkdtemp(dir="/tmp", prefix="r")  # short: a socket's path has 107 bytes
    os.environ.update(SETTINGS, RAY_TMPDIR=temporary)
    from ray.cluster_utils import Cluster

    common = dict(node_ip_address="127.0.0.1", object_store_memory=78_643_200, include_dashboard=False)
    made = Cluster(initialize_head=True, head_node_args=dict(num_cpus=0, **common))
    try:
        yield made, lambda: made.add_node(num_cpus=CORES, **common)
    finally:
        made.shutdown()
        shutil.rmtree(temporary, ignore_errors=True)


def start(line: list[str], console: Path) -> subprocess.Popen:
    with open(console, "ab") as file:
        return subprocess.Popen([sys.executable, "-m", "sweep", *line], cwd=ROOT, stdout=file, stderr=subprocess.STDOUT)


def ended(process: subprocess.Popen) -> int | None:
    try:
        return process.wait(LIMIT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return None


def lose_nodes(kills: int, seed: int, root: Path, folder: Path) -> dict[str, Tally]:
    """A sweep for each node that is lost. Folders with a fault in them are kept."""
    chance, tally, whole = random.Random(seed), Tally(), folder / "whole_ray"
    with cluster() as (made, add_node):
        nodes = [add_node() for _ in range(NODES)]
        made.wait_for_nodes()
        there = ("--on", "ray", "--address", made.address, "--gpus", 0)
        begun = time.monotonic()
        if ended(start(arguments(root, whole, there), folder / "whole_ray.txt")):
            raise RuntimeError(f"A sweep on three nodes did not end well: {last_line(folder / 'whole_ray.txt')}")
        seconds = time.monotonic() - begun
        for number in range(kills):
            output, console = folder / f"ray{number}", folder / f"ray{number}.txt"
            process, one = start(arguments(root, output, there), console), Tally()
            time.sleep(chance.uniform(0, seconds))
            made.remove_node(nodes.pop(chance.randrange(NODES)), allow_graceful=False)
            one.kills["a node, with the sweep at work" if process.poll() is None else "a node, after the sweep"] += 1
            code = ended(process)
            if code is None:
                one.faults[f"sweeps of more than {LIMIT:.0f} s"] += 1
            if code:
                one.is_stuck(last_line(console))
            for name in folders_in(whole) if code == 0 else []:
                one.judge(output / name, whole / name)
            if not wait_until(lambda output=output: not processes_of(output)):
                one.faults["runs that outlived the sweep"] += 1
            tracebacks = tracebacks_in(console) + sum(tracebacks_in(path) for path in output.rglob("console.txt"))
            one.faults.update({"tracebacks": tracebacks} if tracebacks else {})
            tally += one
            print(f"[{number + 1}/{kills}] node: {one}", flush=True)
            if one.is_clean:
                shutil.rmtree(output)
            nodes.append(add_node())
            made.wait_for_nodes()
    return {f"CoOp, base to new, {NODES} nodes": tally}
