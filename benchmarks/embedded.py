"""The embedded sets as the benchmarks use them: where they lie, a trainer on one of them, one cell a process.

A cell is one set at one seed.
"""

import argparse
import contextlib
import io
import json
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from dassl.engine import TrainerX, build_trainer
from dassl.utils import InputError, cores, set_random_seed
from one_run.arguments import add_data_root
from one_run.config import build_config
from one_run.interrupts import take
from one_run.layout import CONFIGS, EMBEDDED

SETS = tuple(name.removeprefix("embedded_") for name in EMBEDDED)
CROWDED = ("clutter", "small")  # where what surrounds the object matters
FIRST_FIVE = tuple(name for name in SETS if name not in CROWDED)


def add_arguments(parser: argparse.ArgumentParser, seeds: list[int]) -> None:
    """Which cells, and how many at a time."""
    add_data_root(parser)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS), metavar="SET", help=", ".join(SETS))
    parser.add_argument("--seeds", nargs="+", type=int, default=seeds)
    parser.add_argument("--workers", type=int, default=cores(), help="processes, of one thread each")


def cells_of(args: argparse.Namespace) -> list[tuple[str, int]]:
    """(set, seed) of all that is asked for; a set that is not there is refused."""
    for name in args.sets:
        if not folder_of(args.root, name).is_dir():
            raise InputError(
                f"{args.root} has no embedded_{name}: write it with python -m datasets.embedded --root {args.root}."
            )
    return [(name, seed) for seed in args.seeds for name in args.sets]


def cell_file(work: Path, set_name: str, seed: int) -> Path:
    return work / f"{set_name}_{seed}.json"


def do_missing(do: Callable, cells: list[tuple[str, int]], workers: int, work: Path) -> None:
    """The cells that have no file in `work` yet: `do(set, seed)` writes it, and returns what is printed."""
    work.mkdir(parents=True, exist_ok=True)
    todo = [cell for cell in cells if not cell_file(work, *cell).is_file()]
    print(f"{len(cells)} cells, {len(cells) - len(todo)} done already in {work}", flush=True)
    for number, _, said in in_processes(do, todo, workers):
        print(f"{number} {said}", flush=True)


def folder_of(root: str | os.PathLike, name: str) -> Path:
    return Path(root) / f"embedded_{name}"


def world_of(root: str | os.PathLike, name: str) -> int:
    """Which drawing of the world the set is of."""
    return json.loads((folder_of(root, name) / "world.json").read_text())["world"]


def trainer_on(
    root: str | os.PathLike, name: str, seed: int, method: str, options: list, config: str = "embedded"
) -> TrainerX:
    """The trainer of a method's run on a set, on a CPU unless the options say USE_CUDA; all random numbers come from the
    seed, as in a run.
    """
    files = (CONFIGS / "datasets" / f"embedded_{name}.yaml", CONFIGS / "trainers" / method / f"{config}.yaml")
    options = ["USE_CUDA", False, "VERBOSE", False, *options]
    cfg = build_config(method, files, options, root=str(root), seed=seed)
    set_random_seed(seed)
    return build_trainer(cfg)


def seconds_of_training(
    root: str | os.PathLike, name: str, method: str, options: list, config: str = "embedded"
) -> float:
    """The processor's seconds in `train()` alone, without a test, of a run with seed 1.

    No features are kept, so that each call computes what the first run on a machine does.
    """
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        given = ["FEATURES.DIR", "", "TEST.NO_TEST", True, "OUTPUT_DIR", folder]
        trainer = trainer_on(root, name, 1, method, [*given, *options], config)
        begun = time.process_time()
        trainer.train()
        return time.process_time() - begun


def in_processes(
    work: Callable, cells: list[tuple[str, int]], workers: int
) -> Iterator[tuple[str, tuple[str, int], object]]:
    """What `work(set, seed)` returns for each cell, as it is done: ("[1/35]", cell, result).

    An error of one ends them all; those that have not begun are left out.
    """
    with ProcessPoolExecutor(workers, initializer=take, initargs=(signal.SIG_DFL,)) as pool:
        jobs = {pool.submit(work, *cell): cell for cell in cells}
        try:
            for number, job in enumerate(as_completed(jobs), start=1):
                yield f"[{number}/{len(jobs)}]", jobs[job], job.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
