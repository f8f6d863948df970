"""The runs of a sweep on this machine: a queue over its devices, each run a process of its own."""

import os
import time

from dassl.errors import InputError
from dassl.utils import cores
from dassl.utils.machine import visible_as
from one_run.interrupts import Interrupt, on_signals

from .progress import Progress
from .start import NotYet, Starter
from .work import GRACE, Busy, Outcome, Work, left_out


def run_locally(progress: Progress, slots: list[dict[str, str]], poll: float = 0.1) -> None:
    """One run at a time in each slot; a slot is what its runs find in their environment.

    A signal sets a mark that the loop sees, so no process is lost between its start and its entry in `working`. A second
    one kills what is at work still.
    """
    free = list(slots)
    stop: list[int] = []  # the signals that have come
    working: dict[Work, dict[str, str]] = {}
    with Starter() as starter, on_signals(stop.append):
        try:
            while not stop and (working or progress.waiting()):
                fill(progress, free, working, starter)
                time.sleep(poll)
                for work, slot in list(working.items()):
                    if (outcome := work.outcome()) is not None:
                        del working[work]
                        free.append(slot)
                        progress.ended(work.run, outcome)
            if stop:
                raise Interrupt(stop[0])
        finally:
            for work in working:
                work.interrupt()
            deadline = time.monotonic() + GRACE
            for work in working:
                while work.outcome() is None and len(stop) < 2 and time.monotonic() < deadline:
                    time.sleep(poll)
                work.end(0)


def fill(progress: Progress, free: list, working: dict, starter: Starter) -> None:
    """Start what can start."""
    for run in progress.waiting():
        needed = "finished" if run.after is None else progress.state(run.after)
        if needed not in (None, "finished"):
            progress.ended(run, left_out(run))
        elif free and needed == "finished":
            try:
                work = Work(run, free[0], starter)
            except NotYet:
                return
            except Busy:
                progress.is_elsewhere(run)  # until its lock is free; then train.py finds what there is left to do
            except (OSError, InputError) as error:
                progress.ended(run, Outcome("failed", said=str(error)))
            else:
                working[work] = free.pop(0)
                progress.started(run)


def slots_of(devices: list[str], per_device: int, threads: int | None, gpus: int) -> list[dict[str, str]]:
    """The environment of each run that goes on at a time. The devices take turns, so that the first runs spread."""
    devices = devices or [str(number) for number in range(gpus)] or ["cpu"]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if gpus else []
    for device in devices:
        if device != "cpu" and not (device.isdecimal() and int(device) < gpus):
            there = f"0 to {gpus - 1}" if gpus > 1 else "0" if gpus else "none"
            raise InputError(f"The device {device!r} is not here: give cpu or the number of a GPU (here: {there}).")
    count = len(devices) * per_device
    # What was asked for, or what the user set for each process, or a fair share of the cores.
    share = threads or os.environ.get("OMP_NUM_THREADS") or max(1, cores() // count)
    return [
        {"OMP_NUM_THREADS": str(share), "CUDA_VISIBLE_DEVICES": visible_as(device, visible)}
        for _ in range(per_device)
        for device in devices
    ]
