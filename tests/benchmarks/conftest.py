"""A small drawing of an embedded set, which the benchmarks' tests share."""

import dataclasses

import pytest

from datasets.embedded import sets


@pytest.fixture(scope="package")
def root(tmp_path_factory):
    """The species alone: 16 images a class to train on, 2 to test."""
    root = tmp_path_factory.mktemp("embedded")
    with pytest.MonkeyPatch.context() as patch:
        small = dataclasses.replace(sets.SETS["species"], images={"train": 16, "val": 4, "test": 2})
        patch.setitem(sets.SETS, "species", small)
        sets.write_set("species", str(root))
    return root
