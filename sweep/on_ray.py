"""The runs of a sweep on a Ray cluster (https://docs.ray.io). All nodes need this folder, the data and the output folder
under the same paths, so a shared file system, and this Python environment.

Ray places runs by GPUs and cores, and hands a run out again when its node or its process was killed. What it does not
do, as tried with Ray 2.60: it waits in silence for a GPU count that no node has, so that is looked at first; only a
forced cancel ends a run.
"""

import functools
import os
from typing import Any

from dassl.errors import InputError

from . import work
from .progress import Progress
from .protocols import Run
from .start import Starter
from .work import Outcome

RETRIES = 3  # after a lost node or a kill; a run that fails by itself is not tried again


class Killed(Exception):
    """A signal ended the training: its machine ran out of memory, or is going down."""


def do(run: Run, environment: dict[str, str], former: Outcome | None) -> Outcome:
    """On a node. Ray calls it once the outcome of the run that it needs is there."""
    if former is not None and former.state != "finished":
        return work.left_out(run)
    outcome = work.complete(run, environment, starter_here())
    if outcome.killed:
        raise Killed(outcome.said)
    return outcome


@functools.cache
def starter_here() -> Starter:
    """Ray does many runs in one process, one after another; what it has started ends with it."""
    return Starter()


def run_on_ray(progress: Progress, address: str, gpus: float, threads: int) -> None:
    try:
        import ray
    except ImportError as error:
        raise InputError("--on ray needs Ray: pip install -r requirements-sweep.txt.") from error
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_task_oom_retries", str(RETRIES))  # a budget of its own
    try:
        ray.init(address=address, log_to_driver=False)
    except ConnectionError as error:
        raise InputError(
            f"There is no Ray cluster at the address {address}: ray start --head starts one, --address names another."
        ) from error
    try:
        check_resources([node["Resources"] for node in ray.nodes() if node["Alive"]], gpus, threads)
        follow(ray, progress, gpus, threads)
    finally:
        ray.shutdown()


def check_resources(nodes: list[dict], gpus: float, threads: int) -> None:
    if not any(node.get("GPU", 0) >= gpus and node.get("CPU", 0) >= threads for node in nodes):
        most = ", ".join(f"{node.get('GPU', 0):g} GPUs and {node.get('CPU', 0):g} cores" for node in nodes)
        raise InputError(
            f"A run is to have {gpus:g} GPUs and {threads} cores, and no node has both (there are: {most}): "
            "lower --gpus or --threads."
        )


def follow(ray, progress: Progress, gpus: float, threads: int) -> None:
    """Hand all runs out, those that wait for others too, and report each as it ends."""
    environment = {"OMP_NUM_THREADS": str(threads)} | ({} if gpus else {"CUDA_VISIBLE_DEVICES": ""})
    remote = ray.remote(
        num_gpus=gpus, num_cpus=threads, max_retries=RETRIES, retry_exceptions=[Killed], scheduling_strategy="SPREAD"
    )(do)
    handed_out: dict[Run | None, Any] = {}  # Ray's references
    pending: dict[Any, Run] = {}
    try:
        for run in progress.waiting():
            reference = remote.remote(run, environment, handed_out.get(run.after))
            handed_out[run] = reference
            pending[reference] = run
        while pending:
            (reference,), _ = ray.wait(list(pending), num_returns=1)
            run = pending.pop(reference)
            progress.ended(run, outcome_of(ray, reference, run, progress))
    except BaseException:
        for reference in pending:
            ray.cancel(reference, force=True)
        raise


def outcome_of(ray, reference, run: Run, progress: Progress) -> Outcome:
    """What Ray could not do is an error, of all runs too that need its result."""
    try:
        return ray.get(reference)
    except ray.exceptions.RayError as error:
        if progress.state(run.after) not in (None, "finished"):
            return work.left_out(run)
        return Outcome("failed", said=str(error).strip().splitlines()[-1])
