"""What many tests share: a small benchmark's facts, ways to call train.py, what a process loads."""

import json
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
CLASSES = ["red", "green", "blue", "dark_grey", "yellow"]  # base: the first three
COLOURS = [(200, 30, 30), (30, 160, 40), (40, 60, 200), (60, 60, 60), (230, 220, 40)]
COUNTS = {"train": 6, "val": 4, "test": 4}


def arguments(root, output, trainer="CoOp", seed=1, subsample="base", options=(), **flags) -> list[str]:
    """train.py's arguments for a short run on the small benchmark; `flags` are further --name value pairs."""
    parts = ["--root", root, "--seed", seed, "--trainer", trainer, "--output-dir", output]
    parts += ["--dataset-config-file", REPOSITORY / "configs/datasets/caltech101.yaml"]
    if "config_file" not in flags:
        parts += ["--config-file", REPOSITORY / f"configs/trainers/{trainer}/embedded.yaml"]
    for name, value in flags.items():
        parts += [f"--{name.replace('_', '-')}"] + ([] if value is True else [value])
    if trainer != "ZeroshotCLIP":
        parts += ["DATALOADER.TRAIN_X.BATCH_SIZE", 4, "OPTIM.MAX_EPOCH", 3]
    parts += ["DATASET.NUM_SHOTS", 4, "DATASET.SUBSAMPLE_CLASSES", subsample, *options]
    return [str(part) for part in parts]


def results(output) -> dict:
    return json.loads((Path(output) / "results.json").read_text())


def loaded_after(code: str, modules: tuple[str, ...]) -> set[str]:
    """Which of these modules a process of its own has loaded when some code has run."""
    code += f"\nimport sys; print(*(name for name in {modules!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def train_elsewhere(*lines: list[str], cwd=REPOSITORY) -> subprocess.CompletedProcess:
    """train.py's runs, one after the other, in another process; the first that fails is the last."""
    code = f"import sys, train\nfor line in {lines!r}:\n    if code := train.main(line):\n        sys.exit(code)"
    return subprocess.run([sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True)
