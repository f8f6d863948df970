"""The runs of a sweep on a SLURM cluster, as one array, through submitit (https://github.com/facebookincubator/submitit).

An element of the array is a chain: runs that need one another, in turn (a teacher, its students, their tests). Elements
know nothing of each other, so SLURM may do them in any order, and requeue one: what is finished in it is skipped.
"""

import os
import shutil
import signal
import time
from pathlib import Path

from dassl.errors import InputError
from one_run.folder import state_of
from one_run.interrupts import signal_of
from one_run.layout import ROOT

from . import work
from .progress import Progress
from .protocols import Run, needed_by
from .start import Starter
from .work import Outcome


class Chain:
    """What one element of the array does."""

    def __init__(self, runs: list[Run], environment: dict[str, str]):
        self.runs, self.environment = runs, environment

    def __call__(self) -> list[Outcome]:
        outcomes: dict[Run | None, Outcome] = {}
        with Starter() as starter:
            for run in self.runs:
                former = outcomes.get(run.after)
                is_ready = former is None or former.state == "finished"
                outcomes[run] = work.complete(run, self.environment, starter) if is_ready else work.left_out(run)
        return list(outcomes.values())

    def checkpoint(self):
        """submitit calls it when the job is preempted or its time is up: begin again, and skip what is finished."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def chains_of(runs: list[Run]) -> list[list[Run]]:
    """Runs that need one another together, in the order they came in."""
    chains: dict[Run, list[Run]] = {}
    for run in runs:
        first = [run, *(former for former in needed_by(run) if former in runs)][-1]
        chains.setdefault(first, []).append(run)
    return list(chains.values())


def run_on_slurm(
    progress: Progress,
    folder: Path,
    gpus: int,
    threads: int,
    minutes: int,
    more: dict[str, str],
    cluster: str = "slurm",
) -> None:
    """`folder` takes submitit's own files; `more` are further options of sbatch."""
    try:
        import submitit
    except ImportError as error:
        raise InputError("--on slurm needs submitit: pip install -r requirements-sweep.txt.") from error
    if cluster == "slurm" and shutil.which("sbatch") is None:
        raise InputError("There is no sbatch here: start --on slurm on a machine from which jobs are submitted.")
    environment = {"OMP_NUM_THREADS": str(threads)} | ({} if gpus else {"CUDA_VISIBLE_DEVICES": ""})
    # A job inherits it, and finds this package from whatever folder it begins in.
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    executor = submitit.AutoExecutor(folder=folder, cluster=cluster)
    executor.update_parameters(
        name="sweep", timeout_min=minutes, gpus_per_node=gpus, cpus_per_task=threads, tasks_per_node=1, nodes=1
    )
    if more:
        executor.update_parameters(slurm_additional_parameters=more)
    chains = chains_of(progress.waiting())
    try:
        with executor.batch():  # one array
            jobs = [executor.submit(Chain(chain, environment)) for chain in chains]
    except submitit.core.utils.FailedJobError as error:  # sbatch's own words: no node has so many GPUs, say
        raise InputError(f"SLURM does not take the sweep: {' '.join(str(error).split())}") from error
    follow(progress, dict(zip(jobs, chains, strict=True)))


def follow(progress: Progress, pending: dict) -> None:
    """Report each chain as it ends. If this process ends, SLURM goes on; only Ctrl-C cancels."""
    try:
        while pending:
            for job in [job for job in pending if job.done()]:
                chain = pending.pop(job)
                try:
                    outcomes = job.result()
                except Exception as error:  # whatever ended the job: out of memory, time, a broken node
                    why = (str(error).splitlines() or [type(error).__name__])[0]
                    outcomes = [ended_without_word(run, f"{why} (job {job.job_id})") for run in chain]
                for run, outcome in zip(chain, outcomes, strict=True):
                    progress.ended(run, outcome)
            time.sleep(1)
    except KeyboardInterrupt as interrupt:
        if signal_of(interrupt) == signal.SIGINT:
            for job in pending:
                job.cancel(check=False)
        raise


def ended_without_word(run: Run, why: str) -> Outcome:
    return Outcome("finished") if state_of(run.folder) == "finished" else Outcome("failed", said=why)


def sbatch_options(pairs: list[str]) -> dict[str, str]:
    """["partition=gpu"] -> {"partition": "gpu"}"""
    for pair in pairs:
        if "=" not in pair or not pair.split("=")[0]:
            raise InputError(f"--slurm takes options of sbatch as NAME=VALUE, such as partition=gpu, and got {pair!r}.")
    return dict(pair.removeprefix("--").split("=", 1) for pair in pairs)
