"""Runs' folders -> rows. A run is read from its `results.json`, or, if other code made it, from its `log.txt`."""

import csv
import json
import math
import re
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

TRAIN_SIGNALS = ("Finish training", "Finished training")
TEST_SIGNALS = ("=> result",)
# In a protocol's folder: part of the result -> folder of its runs, DATASET/shots_K/METHOD/CFG/seedS.
LAYOUTS = {
    "base2new": {"base": "train_base", "new": "test_new"},
    "fewshot": {"all": ""},
    "xd": {"target": ""},
    "dg": {"target": ""},
}
PUBLISHED = Path(__file__).with_name("published_base2new_vitb16_16shot.csv")
PUBLISHED_SHOTS, PUBLISHED_BACKBONE = 16, "ViT-B/16"


class ResultError(ValueError):
    """A result that is missing, broken or contradictory; the message names it and the remedy."""


@dataclass(frozen=True)
class Run:
    """One result: the row that tables are made from."""

    method: str  # trainer/config
    dataset: str  # as its config file is called; of a test on another set, the tested one
    shots: int
    seed: int  # -1 of a published figure
    part: str  # base, new or all classes; source or target; H where it is printed
    value: float | None  # in percent; None if there is none, and `problem` says why
    problem: str = ""
    path: str = ""
    source: str = ""  # of a test on another set: what the model was trained on
    backbone: str | None = None
    final_model: str | None = None  # last_step or best_val; None: unknown
    split: str | None = None
    images: str | None = None  # hash of the training images; None for a test, and where nothing was trained
    transductive: bool = False
    teacher: str = ""  # the method that it distils
    published: bool = False

    @property
    def zero_shot(self) -> bool:
        """Nothing is trained, so neither shots nor seed matter."""
        return self.method.startswith("Zeroshot")


# --- one run ---------------------------------------------------------------------------------------------------


def read_record(run: Path) -> dict | None:
    """What `results.json` says; None where there is none."""
    file = run / "results.json"
    if not file.is_file():
        return None
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ResultError(f"{file} is not JSON ({error}): run it again.") from error
    if not isinstance(record, dict):
        raise ResultError(f"{file} is no record of a run, which is a JSON object: run it again.")
    return record


def read_run(run: Path, keyword: str = "accuracy", test_log: bool = False) -> float:
    """One run's result in percent."""
    record = read_record(run)
    if record is not None:
        if record.get("state") != "finished":
            why = f", {record['why']}" if record.get("why") else ""
            state = record.get("state")
            remedy = "wait for it, or run it again" if state == "running" else "run it again"
            raise ResultError(f"{run} did not finish (state: {state}{why}): {remedy}.")
        value = record.get("accuracy" if keyword == "error" else keyword)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ResultError(
                f"{run / 'results.json'} has no number {keyword!r}: those there are accuracy, error and macro_f1."
            )
        return 100 - value if keyword == "error" else float(value)
    log = run / "log.txt"
    if not log.is_file():
        raise ResultError(f"{run} holds neither results.json nor log.txt: it is not a run, or has not begun.")
    signals = TEST_SIGNALS if test_log else TRAIN_SIGNALS
    value = parse_log(log.read_text(encoding="utf-8", errors="replace"), keyword, signals)
    if value is None:
        raise ResultError(
            f"{log} has no {keyword!r} after a line {signals[0]!r}: "
            "the run broke off, or is of the other kind (--test-log)."
        )
    return value


def parse_log(text: str, keyword: str, signals: tuple[str, ...]) -> float | None:
    """The last `* keyword: x%` after one of the signal lines, as Dassl writes it."""
    number = re.compile(rf"\* {re.escape(keyword)}: ([.\deE+-]+)%")
    value, ready = None, False
    for line in map(str.strip, text.splitlines()):
        ready = ready or line in signals
        match = number.search(line)
        if match and ready:
            value = float(match.group(1))
    return value


def runs_in(directory: Path) -> list[Path]:
    """The runs (one for each seed) directly under a folder, seed2 before seed10."""
    if not directory.is_dir():
        raise ResultError(f"{directory} is not a folder: pass the one that holds the seeds.")
    runs = [path for path in directory.iterdir() if path.is_dir() and not path.name.startswith(".")]
    if not runs:
        raise ResultError(f"{directory} holds no runs.")
    return sorted(runs, key=natural)


def natural(path: Path) -> list:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path.as_posix())]


# --- all runs of a protocol ------------------------------------------------------------------------------------


def read_runs(directory: Path, kind: str, keyword: str = "accuracy") -> list[Run]:
    """All runs of a protocol; those without a result too, with the reason."""
    folder = folder_of(directory, kind)
    runs = [
        read_row(path, part, keyword) for part, name in LAYOUTS[kind].items() for path in seeds_under(folder / name)
    ]
    if not runs:
        raise ResultError(f"{folder} holds no runs, which are folders DATASET/shots_K/METHOD/CFG/seedS.")
    if kind in ("xd", "dg"):
        runs = with_sources(runs, folder.parent / "fewshot", keyword)
    elif kind == "fewshot":
        runs = [replace(run, shots=0) if run.zero_shot else run for run in runs]
    return without_duplicates(runs)


def folder_of(directory: Path, kind: str) -> Path:
    """The protocol's own folder, given it or the one above."""
    if directory.is_file():
        raise ResultError(f"{directory} is a file: pass the folder that holds the runs.")
    if not directory.is_dir():
        raise ResultError(f"{directory} is not a folder that exists: pass the one that holds the runs.")
    if directory.name in ("", ".."):
        directory = directory.resolve()
    found = {
        other: folder
        for other, parts in LAYOUTS.items()
        for folder in (directory, directory / other)
        if folder.name == other or any(part and (folder / part).is_dir() for part in parts.values())
        if folder.is_dir()
    }
    if kind not in found:
        other = f"those of --table {' and '.join(found)}" if found else "no runs of any table"
        raise ResultError(f"{directory} does not hold the runs of --table {kind}, it holds {other}.")
    return found[kind]


def seeds_under(folder: Path, pattern: str = "*/shots_*/*/*/seed*") -> list[Path]:
    return sorted((path for path in folder.glob(pattern) if path.is_dir() and place_of(path)), key=natural)


def place_of(path: Path) -> tuple[str, int, str, int] | None:
    """.../dtd/shots_16/CoOp/vit_b16/seed1 -> dtd, 16, CoOp/vit_b16, 1; None for another path."""
    if len(path.parts) < 5:
        return None
    dataset, shots, method, config, seed = path.parts[-5:]
    shots, seed = re.fullmatch(r"shots_(-?\d+)", shots), re.match(r"seed(\d+)", seed)
    return (dataset, int(shots[1]), f"{method}/{config}", int(seed[1])) if shots and seed else None


def read_row(path: Path, part: str, keyword: str, **known) -> Run:
    dataset, shots, method, seed = place_of(path)
    row = Run(method, dataset, shots, seed, part, value=None, path=str(path), **known)
    try:
        record = read_record(path)
        if record is not None:
            row = replace(row, **facts(record, row))
            refuse_another(record, row)
        return replace(row, value=read_run(path, keyword, test_log=part in ("new", "target")))
    except ResultError as error:
        return replace(row, problem=str(error))


def facts(record: dict, row: Run) -> dict:
    """What a record says beside its result; what is not text there is not known."""
    named = {
        "backbone": record.get("backbone"),
        "final_model": dig(record, "config", "TEST", "FINAL_MODEL"),
        "split": record.get("split"),
        "images": record.get("images_sha256"),
    }
    known = {key: value for key, value in named.items() if isinstance(value, str)}
    trained_in = dig(record, "weights", "model_dir")
    if trained_in or row.zero_shot or row.part == "target":
        known.pop("images", None)  # what the test drew, and did not train on
    trained = place_of(Path(str(trained_in)))
    if row.part == "target" and trained:
        known["source"] = trained[0]
    trainer = dig(record, "config", "TRAINER")
    for node in trainer.values() if isinstance(trainer, dict) else ():
        teacher = place_of(Path(str(dig(node, "TEACHER_DIR"))))
        known |= {"teacher": teacher[2]} if teacher else {}
    return known | {"transductive": record.get("transductive") is True}


def dig(record, *keys: str):
    """What stands under the keys, or None."""
    for key in keys:
        record = record.get(key) if isinstance(record, dict) else None
    return record


def refuse_another(record: dict, row: Run) -> None:
    """A record that was copied, or moved, from another place would count as what it is not."""
    here = {"seed": row.seed}
    if row.part in ("base", "new", "all"):
        here["subsample"] = row.part
    for field, value in here.items():
        if record.get(field, value) != value:
            raise ResultError(
                f"{row.path} holds a run of {field} {record[field]}, where {value} belongs: run it again."
            )


def with_sources(runs: list[Run], fewshot: Path, keyword: str) -> list[Run]:
    """Tests on other sets, and what their models reach on the set they were trained on."""
    known = {run.source for run in runs} - {""}
    if len(known) == 1:  # other code's logs, and zero-shot tests, do not say theirs
        runs = [replace(run, source=min(known)) for run in runs]
    runs = [run for run in runs if run.dataset != run.source]  # that one's result is the training run's own
    rows = sorted({(run.source, f"shots_{run.shots}", run.method) for run in runs if run.source})
    return runs + [
        read_row(path, "source", keyword, source=row[0])
        for row in rows
        for path in seeds_under(fewshot / Path(*row), "seed*")
    ]


def without_duplicates(runs: list[Run]) -> list[Run]:
    """Which of two runs of one seed counts is not for the table to choose, so neither does."""
    same = defaultdict(list)
    for run in runs:
        same[run.method, run.dataset, run.shots, run.seed, run.part, run.source].append(run)
    kept = []
    for group in same.values():
        if len(group) > 1 and group[0].zero_shot and len({(run.value, run.problem) for run in group}) == 1:
            group = group[:1]  # at several shots
        elif len(group) > 1:
            problem = f"{' and '.join(run.path for run in group)} are the same run twice: remove one."
            group = [replace(group[0], value=None, problem=problem)]
        kept += group
    return kept


# --- published figures -----------------------------------------------------------------------------------------


def published() -> list[Run]:
    """The published figures, as printed: base, new and H, and the rows `average`."""
    lines = [line for line in PUBLISHED.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    return [
        Run(
            f"{line['method']} (published)", line["dataset"], PUBLISHED_SHOTS, -1, part, float(line[column]),
            backbone=PUBLISHED_BACKBONE, published=True, transductive="PromptKD" in line["method"],
        )
        for line in csv.DictReader(lines)
        for part, column in (("base", "base"), ("new", "new"), ("H", "hm"))
    ]  # fmt: skip


def beside(runs: list[Run]) -> list[Run]:
    """The published figures that may stand beside these runs; the average if they are on just its sets."""
    figures = published()
    all_sets = {row.dataset for row in figures} - {"average"}
    ours = {run.dataset for run in runs if run.shots == PUBLISHED_SHOTS and not is_embedded(run.dataset)}
    if not ours & all_sets:
        why = (
            "the embedded sets are a test bed, whose figures are never set beside published ones"
            if all(is_embedded(run.dataset) for run in runs)
            else f"they are of {PUBLISHED_SHOTS} shots on {', '.join(sorted(all_sets))}, and none of these runs is"
        )
        raise ResultError(f"No published figures stand beside these runs: {why}.")
    wanted = ours & all_sets | ({"average"} if ours == all_sets else set())
    return [row for row in figures if row.dataset in wanted]


def is_embedded(dataset: str) -> bool:
    return dataset.startswith("embedded_")
