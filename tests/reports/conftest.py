"""A small table's runs."""

from pathlib import Path

import pytest

from tests.reports.runs import base2new


@pytest.fixture
def two_sets(tmp_path) -> Path:
    for seed, base, new in ((1, 90.0, 40.0), (2, 70.0, 60.0)):
        base2new(tmp_path, "CoOp", "dtd", seed, base, new, backbone="ViT-B/16")
        base2new(tmp_path, "CoOp", "caltech101", seed, 60.0, 20.0, backbone="ViT-B/16")
    return tmp_path
