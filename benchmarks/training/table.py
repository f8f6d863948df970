"""A table of methods from base to new classes: by the sweep, with an empty and with a full store, beside the usual way.

The sweeps are run whole, one run at a time on one thread. In the usual way every run is alone in a new process; of those a
sample is run, every method on some sets at one seed, and multiplied by the number of runs, which is said. A round is the
sample, then the sweep twice; ratios are taken within it.
"""

import statistics
import time
from pathlib import Path

from benchmarks.start import cpu_seconds
from benchmarks.statistics import quartiles
from one_run.layout import is_untrained

from .runs import Asked, both_halves

METHODS = ("ZeroshotCLIP", "CoOp", "CoCoOp", "KgCoOp", "ProGrad")
GOALS = {"cold": 4.0, "warm": 10.0}  # times as fast as the usual way


def record(
    methods: list[str], sets: list[str], seeds: list[int], sample: list[str], root: str, rounds: int, folder: Path, options: tuple[str, ...] = ()
) -> dict:  # fmt: skip
    done = []
    for round_ in range(rounds):
        own = folder / f"table-{round_}"
        usual = {method: usual_way(method, sets, seeds, sample, root, own / "usual", options) for method in methods}
        sweeps = {way: swept(methods, sets, seeds, root, own, way, options) for way in GOALS}
        whole = {name: sum(each[name] for each in usual.values()) for name in ("cpu_seconds", "wall_seconds")}
        done.append({"usual": {"methods": usual, **whole}, **sweeps})
    return {
        "methods": methods,
        "sets": sets,
        "seeds": seeds,
        "sample": {"sets": sample, "seeds": seeds[:1]},
        "runs": sum(each["runs"] for each in done[0]["usual"]["methods"].values()),
        "rounds": done,
        "ratios": {way: ratio(done, way) for way in GOALS},
        "goals": GOALS,
    }


def ratio(rounds: list[dict], way: str) -> dict:
    ratios = [each["usual"]["cpu_seconds"] / each[way]["cpu_seconds"] for each in rounds]
    wall = [each["usual"]["wall_seconds"] / each[way]["wall_seconds"] for each in rounds]
    return {
        "times": statistics.median(ratios),
        "quartiles": list(quartiles(ratios)),
        "wall_times": statistics.median(wall),
    }


def usual_way(
    method: str, sets: list[str], seeds: list[int], sample: list[str], root: str, output: Path, options: tuple[str, ...]
) -> dict:  # fmt: skip
    """Seconds of the sample's runs, and of all runs at their mean."""
    pairs = len(sets) * (1 if is_untrained(method) else len(seeds))  # what trains nothing is the same for all seeds
    runs = []
    for name in sample:
        asked = Asked(method, f"embedded_{name}", root, str(output), seed=seeds[0], options=options, usual=True)
        runs.append({"dataset": name, **both_halves(asked)})
    return {
        "runs": 2 * pairs,
        "measured": runs,
        **{name: pairs * statistics.fmean(run[name] for run in runs) for name in ("cpu_seconds", "wall_seconds")},
    }


def swept(
    methods: list[str], sets: list[str], seeds: list[int], root: str, folder: Path, way: str, options: tuple[str, ...]
) -> dict:  # fmt: skip
    """Seconds of a sweep with all its processes; the second finds what the first has kept."""
    arguments = (
        "-m", "sweep", "--methods", *methods, "--datasets", *(f"embedded_{name}" for name in sets),
        "--seeds", *map(str, seeds), "--root", root, "--output", str(folder / way), "--devices", "cpu", "--threads", "1",
        "--set", "USE_CUDA", "False", "FEATURES.DIR", str(folder / "features"), *options,
    )  # fmt: skip
    started = time.perf_counter()
    total = cpu_seconds(arguments)
    return {"cpu_seconds": total, "wall_seconds": time.perf_counter() - started}
