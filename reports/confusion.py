"""What a run took for what: a record's `confused` -> a matrix of the classes that were mistaken most."""

import re
from collections.abc import Iterable

from .read import dig
from .runs import Run

SHOWN = 24  # classes of a matrix


def matrices(runs: Iterable[Run]) -> list[dict]:
    """Of the runs whose records say it: {"title", "classes", "left_out", "rows"}, short enough for hundreds of runs.

    A row is of one class: [images, answered right, answered with a class that is not shown, and column:images ...].
    """
    made = ((run, matrix_of(run.record)) for run in runs if run.state == "finished")
    return [{"title": run.title} | matrix for run, matrix in made if matrix]


def matrix_of(record: dict) -> dict | None:
    """None where the record does not say, or is damaged."""
    confused, classwise = record.get("confused"), record.get("classwise")
    names = dig(record, "identity", "classes")
    if not (isinstance(confused, dict) and isinstance(classwise, dict) and isinstance(names, list)):
        return None
    try:
        totals = {name: (int(entry["total"]), int(entry["correct"])) for name, entry in classwise.items()}
        most = sorted(totals, key=lambda name: totals[name][1] - totals[name][0])[:SHOWN]
        classes = [name for name in totals if name in most]  # in the order of the labels
        labels = labels_of(classes, names)
        rows = [row_of(totals[name], answers_of(confused.get(name, ""), len(names)), labels) for name in classes]
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError):
        return None
    return {"classes": classes, "left_out": len(totals) - len(classes), "rows": rows}


def row_of(total: tuple[int, int], answers: dict[int, int], labels: list[int]) -> list:
    """Of a class, with how many images it has and how many of them were answered right."""
    images, right = total
    if sum(answers.values()) != images - right:
        raise ValueError(answers)
    here = {column: answers[label] for column, label in enumerate(labels) if label in answers}
    cells = " ".join(f"{column}:{count}" for column, count in here.items())
    return [images, right, images - right - sum(here.values()), cells]


def labels_of(listed: Iterable[str], names: list) -> list[int]:
    """The labels of classes as a record lists them; those that share a name have it behind theirs."""
    known = {name: label for label, name in enumerate(names)}
    found = []
    for name in listed:
        behind = re.fullmatch(r".* \[(\d+)\]", name, flags=re.DOTALL)
        if name not in known and behind is None:
            raise ValueError(name)
        found.append(known[name] if behind is None or name in known else int(behind[1]))
    return found


def answers_of(text: str, classes: int) -> dict[int, int]:
    """ "3:2 17:1" -> {3: 2, 17: 1}"""
    pairs = [part.split(":") for part in text.split()]
    answers = {int(label): int(count) for label, count in pairs}
    if any(not (0 <= label < classes and count > 0) for label, count in answers.items()):
        raise ValueError(text)
    return answers
