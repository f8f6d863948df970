"""The cells: some rows of one set at one seed, in a file of their own."""

import contextlib
import io
import time
from pathlib import Path

import torch

from benchmarks.embedded import cell_file
from dassl.utils import write_json

from .groups import fits, heads_that_are_trained
from .rows import CORE, ENCODERS, MAIN, SCORE_SEEDS, SCORE_SETS, dropping, whole_encoder

ALONE = {"fit": fits, "heads": heads_that_are_trained}  # a few rows, and no others


def run_cell(set_name: str, seed: int, root: str, rows: str, images: int, work: Path) -> str:
    torch.set_num_threads(1)
    start = time.monotonic()
    with contextlib.redirect_stdout(io.StringIO()):
        if rows in ALONE:
            cell = {"accuracies": {MAIN: ALONE[rows](root, set_name, seed, images)}, "choices": {}}
        else:
            cell = whole_encoder(root, set_name, seed, rows, images)
            scores = set_name in SCORE_SETS and seed in SCORE_SEEDS
            names = [name for name in ENCODERS if rows == "all" and (scores or "," not in name)]
            cell["accuracies"][MAIN] |= dropping(root, set_name, seed, names or CORE, images)
    facts = {"set": set_name, "seed": seed, "rows": rows, "images": images, "seconds": time.monotonic() - start}
    write_json({**facts, **cell}, str(cell_file(work, set_name, seed)))
    return f"{set_name}, seed {seed}: {time.monotonic() - start:.0f} s"
