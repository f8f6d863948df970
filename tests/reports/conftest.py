"""A small table's runs."""

from pathlib import Path

import pytest

from tests.reports.runs import CONFIG, across, base2new, classes, fewshot


@pytest.fixture
def two_sets(tmp_path) -> Path:
    for seed, base, new in ((1, 90.0, 40.0), (2, 70.0, 60.0)):
        base2new(tmp_path, "CoOp", "dtd", seed, base, new, backbone="ViT-B/16")
        base2new(tmp_path, "CoOp", "caltech101", seed, 60.0, 20.0, backbone="ViT-B/16")
    return tmp_path


@pytest.fixture
def output(tmp_path):
    """Two protocols, two worlds, two seeds; a run that is missing, and one that failed."""
    for seed in (1, 2):
        for dataset in ("dtd", "embedded_small"):
            base2new(tmp_path, "ZeroshotCLIP", dataset, seed, 50.0, 55.0, **classes(40, 50, 60))
            base2new(
                tmp_path,
                "CoOp",
                dataset,
                seed,
                60.0 + seed,
                40.0,
                seconds=90.0,
                peak_memory_mib=2048.0,
                **classes(50, 60, 70),
            )
            host = {"config": {**CONFIG, "TRAINER": {"SPOTLIGHTER": {"HOST": "CoOp"}}}}
            base2new(tmp_path, "Spotlighter", dataset, seed, 70.0, 64.0 - seed, **classes(49 + seed, 80, 60), **host)
        fewshot(tmp_path, "CoOp", "dtd", 4, seed, 44.0 + seed)
    fewshot(tmp_path, "CoOp", "dtd", 8, 1, None, state="failed", why="OutOfMemory: <b>20 GiB</b>")
    across(tmp_path, "xd", "CoOp", "imagenet", "dtd", 1, 42.0)
    return tmp_path
