"""Stand-ins for train.py need nothing that a server would import for them."""

import pytest

from sweep import start


@pytest.fixture(autouse=True)
def nothing_imported_for_all(request, monkeypatch):
    if request.module.__name__ != "tests.sweep.test_runs":  # whose runs are real
        monkeypatch.setattr(start, "PRELOADED", "")
