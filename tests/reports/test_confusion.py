"""What was taken for what: a record -> a matrix (reports/confusion.py)."""

import pytest

from reports.confusion import matrix_of
from reports.page import collect
from tests.reports.runs import NAMES, classes


def test_a_matrix(output):
    report = collect(output)
    matrix = next(each for each in report.matrices if each["title"].startswith("CoOp/vit_b16, dtd, base to new: base"))
    assert matrix["classes"] == NAMES and matrix["left_out"] == 0
    assert matrix["rows"] == [[100, 50, 0, "1:50"], [100, 60, 0, "2:40"], [100, 70, 0, "0:30"]]


def test_a_matrix_of_many_classes_is_of_those_that_are_mistaken_most():
    names = [f"c{n}" for n in range(100)]
    record = {
        "identity": {"classes": names},
        "classwise": {name: {"total": 100, "correct": 100 - n} for n, name in enumerate(names)},
        "confused": {f"c{n}": f"0:{n - 1} 99:1" if n > 1 else f"{99}:{n}" for n in range(1, 99)} | {"c99": "98:99"},
    }
    matrix = matrix_of(record)
    assert matrix["classes"] == names[-24:] and matrix["left_out"] == 76
    assert matrix["rows"][-1] == [100, 1, 0, "22:99"] and matrix["rows"][0] == [100, 24, 75, "23:1"]


@pytest.mark.parametrize("confused", [None, 3, {"cat": "1:x"}, {"cat": "7:50"}, {"cat": "1:2"}, {"fox": "1:2"}])
def test_a_damaged_matrix_is_none(confused):
    assert matrix_of(classes(50, 60, 70) | {"confused": confused}) is None
