"""Runs' folders -> results. A run is read from its `results.json`, or, if other code made it, from its `log.txt`."""

import re
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

from one_run.folder import FILE, LOCK, BrokenRecord, read_record, whole_record
from one_run.layout import PHASES, Place, place_of

from .protocols import PROTOCOLS, Protocol
from .result import NoRuns, Result, ResultError

TRAIN_SIGNALS = ("Finish training", "Finished training")
TEST_SIGNALS = ("=> result",)


# --- one run ---------------------------------------------------------------------------------------------------


def read_run(run: Path, keyword: str = "accuracy", test_log: bool = False) -> float:
    """One run's result in percent."""
    record = record_of(run)
    return value_logged(run, keyword, test_log) if record is None else value_recorded(run, record, keyword)


def record_of(run: Path) -> dict | None:
    """What `results.json` says; None where there is none."""
    try:
        return read_record(run)
    except BrokenRecord as error:
        raise ResultError(str(error)) from error


def value_recorded(run: Path, record: dict, keyword: str) -> float:
    if record.get("state") != "finished":
        why = f", {record['why']}" if record.get("why") else ""
        state = record.get("state")
        remedy = "wait for it, or run it again" if state == "running" else "run it again"
        raise ResultError(f"{run} did not finish (state: {state}{why}): {remedy}.")
    value = record.get("accuracy" if keyword == "error" else keyword)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ResultError(f"{run / FILE} has no number {keyword!r}: those there are accuracy, error and macro_f1.")
    value = in_percent(value, keyword, run / FILE)
    return 100 - value if keyword == "error" else value


def in_percent(value: float, keyword: str, path: Path) -> float:
    if not 0 <= value <= 100:  # NaN is neither
        raise ResultError(f"{path} says {value} of {keyword}, which is no percentage: run it again.")
    return float(value)


def value_logged(run: Path, keyword: str, test_log: bool) -> float:
    log = run / "log.txt"
    if not log.is_file():
        raise ResultError(f"{run} holds neither {FILE} nor log.txt: it is not a run, or has not begun.")
    signals = TEST_SIGNALS if test_log else TRAIN_SIGNALS
    try:
        content = log.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise ResultError(f"{log} cannot be read ({error.strerror}): make it readable, or run it again.") from error
    text = parse_log(content, keyword, signals)
    if text is None:
        raise ResultError(
            f"{log} has no {keyword!r} after a line {signals[0]!r}: "
            "the run broke off, or is of the other kind (--test-log)."
        )
    if not re.fullmatch(NUMBER + "%", text):
        raise ResultError(f"{log} says {text!r} of {keyword} last, which is no percentage: run it again.")
    return in_percent(float(text[:-1]), keyword, log)


NUMBER = r"[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?"


def parse_log(text: str, keyword: str, signals: tuple[str, ...]) -> str | None:
    """What stands behind the last `* keyword:` after one of the signal lines, `x%` as Dassl writes it."""
    found, ready, mark = None, False, f"* {keyword}:"
    for line in map(str.strip, text.splitlines()):
        ready = ready or line in signals
        if ready and mark in line:
            found = line.partition(mark)[2].strip()
    return found


def runs_in(directory: Path) -> list[Path]:
    """The runs (one for each seed) directly under a folder, seed2 before seed10."""
    if not directory.is_dir():
        raise ResultError(f"{directory} is not a folder: pass the one that holds the seeds.")
    runs = [path for path in directory.iterdir() if path.is_dir() and not path.name.startswith(".")]
    if not runs:
        raise ResultError(f"{directory} holds no runs.")
    return sorted(runs, key=natural)


def natural(path: Path) -> list:
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", path.as_posix())]


# --- all runs of a protocol ------------------------------------------------------------------------------------


def read_results(directory: Path, protocol: Protocol, keyword: str = "accuracy") -> list[Result]:
    """All runs of a protocol; those without a result too, with the reason."""
    folder = folder_of(directory, protocol)
    results = [
        read_result(path, place, part, keyword, test_log=bool(PHASES[protocol.phases[part]].trained))
        for part, inside in protocol.folders.items()
        for path, place in seeds_under(folder / inside)
    ]
    if not results:
        raise NoRuns(f"{folder} holds no runs, which are folders DATASET/shots_K/METHOD/CFG/seedS.")
    if protocol.sources:
        results = with_sources(results, [folder.parent / name for name in protocol.sources], keyword)
    return without_duplicates(with_zero_shot(results, protocol))


def folder_of(directory: Path, protocol: Protocol) -> Path:
    """The protocol's own folder, given it or the one above."""
    if directory.is_file():
        raise ResultError(f"{directory} is a file: pass the folder that holds the runs.")
    if not directory.is_dir():
        raise ResultError(f"{directory} is not a folder that exists: pass the one that holds the runs.")
    if directory.name in ("", ".."):
        directory = directory.resolve()
    found = folders_by_table(directory)
    if protocol.name not in found:
        others = f"those of --table {' and '.join(found)}" if found else "no runs of any table"
        raise ResultError(f"{directory} does not hold the runs of --table {protocol.name}, it holds {others}.")
    return found[protocol.name]


def folders_by_table(directory: Path) -> dict[str, Path]:
    """The folders of protocols' runs, given one of them or the one above."""
    return {
        name: folder
        for name, other in PROTOCOLS.items()
        for folder in (directory, directory / name)
        if folder.name == name or any(inside.parts and (folder / inside).is_dir() for inside in other.folders.values())
        if folder.is_dir()
    }


def seeds_under(folder: Path, pattern: str = "*/shots_*/*/*/seed*") -> list[tuple[Path, Place]]:
    paths = sorted((path for path in folder.glob(pattern) if path.is_dir()), key=natural)
    return [(path, place) for path in paths if (place := place_of(path)) and is_run(path)]


def is_run(folder: Path) -> bool:
    """Whether something began there: where there is a lock alone nothing did, nor where the run was refused before."""
    try:
        names = [entry.name for entry in folder.iterdir()]
    except FileNotFoundError:  # it has been taken away meanwhile
        return False
    except OSError as error:
        raise ResultError(
            f"{folder} cannot be read ({error.strerror}): make it readable, or take it out of there."
        ) from error
    only_locked = names == [LOCK]
    return not (only_locked or (whole_record(folder) or {}).get("refused"))


def read_result(path: Path, place: Place, part: str, keyword: str, test_log: bool = False, source: str = "") -> Result:
    """A run's result, or why it has none."""
    result = Result(
        f"{place.method}/{place.config}", place.dataset, place.shots, place.seed, part, None,
        path=str(path), source=source,
    )  # fmt: skip
    try:
        record = record_of(path)
        if record is None:
            return replace(result, value=value_logged(path, keyword, test_log))
        result = replace(result, **known_from(record, result))
        refuse_another(record, result)
        return replace(result, value=value_recorded(path, record, keyword))
    except ResultError as error:
        return replace(result, problem=str(error))


def known_from(record: dict, result: Result) -> dict:
    """What a record says beside its result; what is not text there is not known."""
    named = {
        "backbone": record.get("backbone"),
        "final_model": dig(record, "config", "TEST", "FINAL_MODEL"),
        "split": record.get("split"),
        "images": record.get("images_sha256"),
    }
    known: dict = {key: value for key, value in named.items() if isinstance(value, str)}
    trained_in = dig(record, "weights", "model_dir")
    if trained_in or result.zero_shot or result.part == "target":
        known.pop("images", None)  # what the test drew, and did not train on
    trained = place_of(Path(str(trained_in)))
    if result.part == "target" and trained:
        known["source"] = trained.dataset
    trainer = dig(record, "config", "TRAINER")
    for node in trainer.values() if isinstance(trainer, dict) else ():
        teacher = place_of(Path(str(dig(node, "TEACHER_DIR"))))
        known |= {"teacher": f"{teacher.method}/{teacher.config}"} if teacher else {}
    classwise = record.get("classwise")
    one_class = isinstance(classwise, dict) and len(classwise) == 1
    known |= {"transductive": record.get("transductive") is True, "one_class": one_class}
    chosen = record.get("chosen_on_test")
    known |= {"chosen_on_test": chosen} if isinstance(chosen, bool) else {}
    changed = dig(record, "resumed", "changed")
    known["resumed_with"] = tuple(map(str, changed)) if isinstance(changed, list) else ()
    return known | settings_from(record.get("settings"))


def settings_from(settings) -> dict:
    """The same of the record's settings."""
    protocol = dig(settings, "protocol")
    lists = {name: dig(settings, name) for name in ("unlike", "changed")}
    return {
        "settings": protocol if isinstance(protocol, str) else None,
        **{name: tuple(map(str, value)) if isinstance(value, list) else () for name, value in lists.items()},
    }


def dig(record, *keys: str):
    """What stands under the keys, or None."""
    for key in keys:
        record = record.get(key) if isinstance(record, dict) else None
    return record


def refuse_another(record: dict, result: Result) -> None:
    """A record that was copied, or moved, from another place would count as what it is not."""
    here: dict = {"seed": result.seed}
    if result.part in ("base", "new", "all"):
        here["subsample"] = result.part
    for field, value in here.items():
        if record.get(field, value) != value:
            raise ResultError(
                f"{result.path} holds a run of {field} {record[field]}, where {value} belongs: run it again."
            )


def with_sources(results: list[Result], folders: list[Path], keyword: str) -> list[Result]:
    """Tests on other sets, and what their models reach on the set that they were trained on.

    That is in the first of these folders that has them.
    """
    known = {result.source for result in results} - {""}
    if len(known) == 1:  # other code's logs, and zero-shot tests, do not say theirs
        results = [replace(result, source=min(known)) for result in results]
    results = [result for result in results if result.dataset != result.source]  # that is the training run's own
    trained = sorted({(result.source, f"shots_{result.shots}", result.method) for result in results if result.source})
    return results + [
        read_result(path, place, "source", keyword, source=place.dataset)
        for inside in trained
        for path, place in next(filter(None, (seeds_under(each / Path(*inside), "seed*") for each in folders)), [])
    ]


def with_zero_shot(results: list[Result], protocol: Protocol) -> list[Result]:
    """Zero-shot results at 0 shots, or at all those that others of their block have: one run, of any shots, is enough."""
    if protocol.over_shots:
        return [replace(result, shots=0) if result.zero_shot else result for result in results]
    there = {place_in_table(result) for result in results if result.value is not None}
    copies = [
        replace(result, shots=shots)
        for result in results
        if result.zero_shot
        for shots in sorted({o.shots for o in results if protocol.block_of(o) == protocol.block_of(result)})
    ]
    return results + [copy for copy in copies if place_in_table(copy) not in there]


def place_in_table(result: Result) -> tuple:
    return (result.method, result.dataset, result.shots, result.seed, result.part, result.source)


def without_duplicates(results: list[Result]) -> list[Result]:
    """Which of two runs of one seed counts is not for the table to choose, so neither does."""
    same: dict[tuple, list[Result]] = defaultdict(list)
    for result in results:
        same[place_in_table(result)].append(result)
    kept: list[Result] = []
    for group in same.values():
        if group[0].zero_shot:  # at several shots, perhaps
            group = the_finished(group)
        if len(group) > 1:
            problem = f"{' and '.join(result.path for result in group)} are the same run twice: remove one."
            group = [replace(group[0], value=None, problem=problem)]
        kept += group
    return kept


def the_finished(group: list[Result]) -> list[Result]:
    """Of zero-shot runs that are to be the same: one, if their figures are; those that have none are not needed."""
    finished = {result.value: result for result in reversed(group) if result.value is not None}
    return list(finished.values()) or group[:1]
