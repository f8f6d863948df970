"""Run folders as short as the tables allow, and what is in a table of them."""

import json
from pathlib import Path

from reports.protocols import PROTOCOLS
from reports.read import read_results
from reports.result import Result
from reports.tables import Table, make_table

NAMES = ["cat", "dog", "cow"]
CONFIG = {"TEST": {"FINAL_MODEL": "last_step"}}
SETTINGS = {"protocol": "base2new", "mode": "strict", "rows": [], "unlike": [], "changed": []}


def write(folder: Path, accuracy=None, state="finished", **more) -> Path:
    """A run's record, as short as the tables allow."""
    folder.mkdir(parents=True, exist_ok=True)
    record = {
        "state": state,
        "accuracy": accuracy,
        "macro_f1": 50.0,
        "split": "test",
        "settings": SETTINGS,
        "config": CONFIG,
    }
    (folder / "results.json").write_text(json.dumps(record | more))
    return folder


def base2new(root: Path, method: str, dataset: str, seed: int, base=None, new=None, shots=16, **more) -> None:
    """A run on the base classes, and its test on the new ones; None leaves one out."""
    for part, folder, accuracy in (("base", "train_base", base), ("new", "test_new", new)):
        if accuracy is not None:
            tail = f"{dataset}/shots_{shots}/{method}/vit_b16/seed{seed}"
            write(root / "base2new" / folder / tail, accuracy, seed=seed, subsample=part, **more)


def fewshot(root: Path, method: str, dataset: str, shots: int, seed: int, accuracy: float, **more) -> Path:
    folder = root / "fewshot" / dataset / f"shots_{shots}" / method / "vit_b16" / f"seed{seed}"
    return write(folder, accuracy, seed=seed, subsample="all", **more)


def across(root: Path, kind: str, method: str, source: str, target: str, seed: int, accuracy: float, **more) -> None:
    tail = f"shots_16/{method}/vit_b16/seed{seed}"
    known = {"seed": seed, "subsample": "all", "weights": {"model_dir": str(root / "fewshot" / source / tail)}}
    write(root / kind / target / tail, accuracy, **(known | more))


def results_of(root: Path, protocol: str, keyword: str = "accuracy") -> list[Result]:
    return read_results(root, PROTOCOLS[protocol], keyword)


def table_of(root: Path, protocol: str, **options) -> Table:
    return make_table(results_of(root, protocol), PROTOCOLS[protocol], **options)


def means(table: Table) -> dict:
    """{(block, method): means}, without the config's name."""
    return {
        (block.name, row.method.removesuffix("/vit_b16")): [
            None if cell.mean is None else round(cell.mean, 2) for cell in row.cells
        ]
        for block in table.blocks
        for row in block.rows
    }


def said(table: Table) -> str:
    return "\n".join(table.notes + table.problems)


def classes(*accuracies: float) -> dict:
    """The results of three classes with 100 images each, and what was answered in place of each."""
    return {
        "classwise": {
            name: {"total": 100, "correct": int(value), "accuracy": value}
            for name, value in zip(NAMES, accuracies, strict=True)
        },
        "confused": {name: f"{(label + 1) % 3}:{100 - int(accuracies[label])}" for label, name in enumerate(NAMES)},
        "identity": {"classes": NAMES},
    }
