"""results.json and log.txt, as `parse_test_res.py` reads them: the very number that stands there, or a sentence."""

import csv
import io
import json
import re
import sys
from random import Random

import parse_test_res
from reports.read import read_run

from .harness import REFUSED, RIGHT, Kind, Unclear, Wrong, is_sentence
from .mutate import perhaps_spoilt, spoilt_json

PLACES = {
    "fewshot": ("fewshot", "all"),
    "base2new": ("base2new/train_base", "base"),
    "xd": ("xd", "all"),
    "dg": ("dg", "all"),
}
INSIDE = "caltech101/shots_16/CoOp/vit_b16/seed1"
HEADS = ("dataset", "source", "shots", "method", "transductive", "seeds", "partial")
RECORD = {
    "state": "finished",
    "method": "CoOp",
    "dataset": "Caltech101",
    "backbone": "ViT-B/16",
    "seed": 1,
    "shots": 16,
    "subsample": "all",
    "split": "test",
    "epoch": 50,
    "accuracy": 87.0625,
    "macro_f1": 81.25,
    "classwise": {"cat": {"total": 4, "correct": 3, "accuracy": 75.0}, "dog": {"total": 4, "correct": 4, "accuracy": 1e2}},
    "confused": {"cat": "1:1"},
    "identity": {"classes": ["cat", "dog"]},
    "seconds": 61.5,
    "images_sha256": "0f" * 32,
    "transductive": False,
    "weights": None,
    "why": "",
    "refused": False,
    "settings": {"protocol": "fewshot", "mode": "strict", "rows": [], "unlike": [], "changed": []},
    "config": {"TEST": {"FINAL_MODEL": "last_step"}, "TRAINER": {"NAME": "CoOp", "COOP": {"N_CTX": 16}}},
}  # fmt: skip
DEAREST = ("accuracy", "macro_f1", "state", "why", "weights", "settings", "config", "classwise", "confused", "seed")
LOG = """Loading trainer: CoOp
epoch [50/50] batch [1/1] loss 0.0931 (0.0931) lr 1.0000e-05
Finish training
Deploy the last-epoch model
Evaluate on the *test* set
=> result
* total: 2,465
* correct: 2,146
* accuracy: 87.1%
* error: 12.9%
* macro_f1: 81.3%
Elapsed: 0:01:03
"""
FIGURES = (
    "nan", "inf", "-inf", "-1.0", "100.1", "1e3", "1e", "..", "1.2.3", "--5", "8७.1", "8x.1", "", " 87.1", "1" * 400, "1e999",
    "+5", "1_0.0", "0.0", "100.0", "5e1", "e", "٨٧.١", "87,1", "0x57", "87.1%% 99.9", "1e-400",
)  # fmt: skip


def no_duplicates(pairs: list) -> dict:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a name twice")
    return dict(pairs)


def written(data: bytes) -> dict | None:
    """What a record says, as strictly as can be; None where it is none."""
    try:
        record = json.loads(data.decode("utf-8"), object_pairs_hook=no_duplicates)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def is_share(value) -> bool:
    return type(value) in (int, float) and 0 <= value <= 100  # NaN is neither


def recorded(data: bytes, key: str) -> float | None:
    """The figure that may come out."""
    record = written(data) or {}
    value = record.get(key)
    return value if record.get("state") == "finished" and is_share(value) else None


def logged(data: bytes, keyword: str, test: bool) -> float | None:
    """The last figure behind the keyword after the training, or in the log of a test, if it is one."""
    lines = [line.strip() for line in data.decode("utf-8", "replace").splitlines()]
    signals = ("=> result",) if test else ("Finish training", "Finished training")
    ends = [number for number, line in enumerate(lines) if line in signals]
    behind = [
        line.split(f"* {keyword}:", 1)[1].strip()
        for line in lines[ends[0] if ends else len(lines) :]
        if f"* {keyword}:" in line
    ]
    if not behind or not re.fullmatch(r"[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?%", behind[-1]):
        return None
    value = float(behind[-1][:-1])
    return value if is_share(value) else None


class Results(Kind):
    name, inputs = "results", 1500

    def __init__(self, folder):
        super().__init__(folder)
        for table, (place, _) in PLACES.items():
            (folder / table / place / INSIDE).mkdir(parents=True)

    def one(self, chance: Random) -> str:
        table = chance.choice(list(PLACES))
        place, subsample = PLACES[table]
        test = table in ("xd", "dg")
        run = self.folder / table / place / INSIDE
        for name in ("log.txt", "results.json"):
            (run / name).unlink(missing_ok=True)
        keyword = chance.choice(("accuracy", "accuracy", "macro_f1", "error"))
        if chance.random() < 0.3:
            log = "".join(self.spoilt_line(chance, line) for line in LOG.splitlines(keepends=True))
            data = perhaps_spoilt(chance, log)
            (run / "log.txt").write_bytes(data)
            figure = logged(data, keyword, test)
        else:
            record = RECORD | {"subsample": subsample}
            if test:
                record["weights"] = {"model_dir": "/x/xd_train/imagenet/shots_16/CoOp/vit_b16/seed1", "epoch": 50}
            data = perhaps_spoilt(chance, spoilt_json(chance, record, DEAREST))
            (run / "results.json").write_bytes(data)
            figure = recorded(data, "accuracy" if keyword == "error" else keyword)
            figure = 100 - figure if keyword == "error" and figure is not None else figure
        if keyword == "error" or chance.random() < 0.4:
            return self.compare(figure, read_run(run, keyword, test))
        if chance.random() < 0.1:
            return self.mean(run, figure, keyword, *["--test-log"] * test)
        if chance.random() < 0.1:
            return self.page(table, figure, keyword)
        return self.table(chance, table, figure, keyword)

    def spoilt_line(self, chance: Random, line: str) -> str:
        what = chance.random()
        if what < 0.02:
            return ""
        if what < 0.06:
            return line * 2
        if ":" in line and what < 0.2:
            return f"{line.partition(':')[0]}: {chance.choice(FIGURES)}%\n"
        return line

    def compare(self, figure: float | None, out: float) -> str:
        if figure is None or out != figure:
            raise Wrong(f"{out!r} came out, and what stands there is {figure!r}")
        return RIGHT

    def command(self, *arguments: str) -> tuple[int, str]:
        """(exit code, what was said) of the command itself; where it refuses, that is one sentence."""
        code = parse_test_res.main(list(arguments))
        sys.stdout.flush()
        out = sys.stdout.buffer.getvalue().decode()
        if code == 2 and not is_sentence(out.split("\n")[-2]):
            raise Unclear(out)
        return code, out

    def mean(self, run, figure: float | None, keyword: str, *more: str) -> str:
        code, out = self.command(str(run.parent), "--keyword", keyword, *more)
        if code == 2:
            return REFUSED
        if figure is None or f"* {keyword}: {figure:.2f}% +- 0.00%" not in out:
            raise Wrong(f"{out[-300:]!r}, and what stands there is {figure!r}")
        return RIGHT

    def page(self, table: str, figure: float | None, keyword: str) -> str:
        """Of one run: every figure of its tables is that run's."""
        file = self.folder / "report.html"
        code, _ = self.command(str(self.folder / table), "--report", str(file), "--keyword", keyword)
        if code == 2:
            return REFUSED
        tables = file.read_text().partition('<h2 id="runs"')[0]
        rows = re.findall(r'<tr [^>]*data-method="CoOp/vit_b16">(.*?)</tr>', tables, flags=re.DOTALL)
        cells = re.findall(r'<td class="n" data-v="([^"]+)"', "".join(rows))
        if code and not cells:
            return REFUSED
        for value in cells:
            self.compare(figure, float(value))
        return RIGHT

    def table(self, chance: Random, table: str, figure: float | None, keyword: str) -> str:
        """Of one run, in which every figure is that run's."""
        form = chance.choice(("csv", "csv", "text", "markdown", "latex"))
        code, out = self.command(str(self.folder / table), "--table", table, "--format", form, "--keyword", keyword)
        if code == 2:
            return REFUSED
        if form != "csv":
            return RIGHT if code == 0 else REFUSED
        head = next(head for head in HEADS if f"{head}," in out)
        csv.field_size_limit(len(out) + 1)  # a field may be as long as the table
        rows = csv.DictReader(io.StringIO(out[out.index(f"{head},") :]))
        mine = [row for row in rows if row["method"] == "CoOp/vit_b16"]
        found = [value for row in mine for name, value in row.items() if name not in (*HEADS, None) and value]
        if code and not found:
            return REFUSED
        for value in found:
            self.compare(figure, float(value))
        return RIGHT
