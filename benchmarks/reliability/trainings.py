"""Trainings that are killed by SIGKILL and started again by the same command, until they finish.

Half of the kills come at a random moment of the time that an uninterrupted run takes, half before a random one of the
changes of files that it makes: what can go wrong goes wrong there, and takes too little time to be hit by chance.
"""

import itertools
import random
import shutil
import signal
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from dassl.engine import trainer
from one_run import work
from one_run.command import carry_out
from one_run.config import config_of
from one_run.layout import CONFIGS
from one_run.request import Request

from .child import Child, counts, dies_before, last_line, tracebacks_in
from .tally import Tally

EPOCHS, SHOTS = 6, 4
PER_TRAINING = 3  # kills, at most
ROWS = {  # method, options; every epoch has a checkpoint to go on from, which the next one's replaces
    "CoOp": ("CoOp", ()),
    "CoOp, checkpoints kept, best on validation": (
        "CoOp",
        ("TRAIN.CHECKPOINT_FREQ", "2", "TEST.FINAL_MODEL", "best_val"),
    ),
    "Spotlighter": ("Spotlighter", ()),
    "PromptSRC, which averages over epochs": ("PromptSRC", ()),
}


class Whole(NamedTuple):
    """An uninterrupted run."""

    folder: Path
    seconds: float
    changes: int  # of files


def request_for(row: str, root: Path, folder: Path) -> Request:
    method, options = ROWS[row]
    files = (CONFIGS / "datasets" / "folder.yaml", CONFIGS / "trainers" / method / "embedded.yaml")
    common = ("USE_CUDA", "False", "DATASET.NUM_SHOTS", str(SHOTS), "OPTIM.MAX_EPOCH", str(EPOCHS))
    common += ("DATALOADER.TRAIN_X.BATCH_SIZE", "8")
    return Request(method, files, root, folder, seed=1, options=(*common, *options))


def train(request: Request) -> int:
    """As train.py does it, with a checkpoint after every epoch."""
    trainer.SAVE_SECONDS = 0.0
    return carry_out(lambda: work.do(config_of(request)))


def start(request: Request, console: Path, changes=None) -> Child:
    return Child(lambda: train(request), console, changes)


def whole_run(row: str, root: Path, folder: Path) -> Whole:
    count, counting = counts(folder)
    console = folder.with_suffix(".txt")
    child = start(request_for(row, root, folder), console, counting)
    if child.end_within(None):
        raise RuntimeError(f"{row}: an uninterrupted run did not end well: {last_line(console)}")
    return Whole(folder, time.monotonic() - child.begun, count.value)


def start_and_kill(request: Request, console: Path, whole: Whole, chance: random.Random) -> tuple[str, int]:
    """How it was killed, and its exit code, which may say that it had ended before."""
    if chance.random() < 0.5:
        return "at a moment", start(request, console).kill_after(chance.uniform(0, whole.seconds))
    dies = dies_before(request.output_dir, chance.randint(1, whole.changes))
    return "before a change", start(request, console, dies).end_within(None)


def train_killed(request: Request, whole: Whole, kills: int, chance: random.Random) -> Tally:
    """One training, killed up to so many times."""
    tally, console = Tally(), request.output_dir.with_suffix(".txt")
    code = -signal.SIGKILL
    while code == -signal.SIGKILL and kills:
        kind, code = start_and_kill(request, console, whole, chance)
        if code == -signal.SIGKILL:
            tally.kills[kind] += 1
        kills -= 1
    if code == -signal.SIGKILL:
        code = start(request, console).end_within(None)
    if code:
        tally.is_stuck(last_line(console))
    else:
        tally.judge(request.output_dir, whole.folder)
    tally.faults["tracebacks"] += tracebacks_in(console)
    tally.faults += Counter()  # without zeros
    return tally


def kill_trainings(kills: int, seed: int, root: Path, folder: Path) -> dict[str, Tally]:
    """By row; the rows take turns until there have been so many kills. Folders with a fault in them are kept."""
    chance = random.Random(seed)
    whole = {row: whole_run(row, root, folder / f"whole{number}") for number, row in enumerate(ROWS)}
    tallies = {row: Tally() for row in ROWS}
    turns = enumerate(itertools.cycle(ROWS))
    while (killed := sum(tally.killed for tally in tallies.values())) < kills:
        number, row = next(turns)
        request = request_for(row, root, folder / f"training{number}")
        tally = train_killed(request, whole[row], min(chance.randint(1, PER_TRAINING), kills - killed), chance)
        tallies[row] += tally
        print(f"[{killed + tally.killed}/{kills}] training {number}, {row}: {tally}", flush=True)
        if tally.is_clean:
            shutil.rmtree(request.output_dir)
    return tallies
