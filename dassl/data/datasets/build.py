"""The registry of data sets."""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

from dassl.utils import InputError, Registry

DATASET_REGISTRY = Registry("DATASET")
_given: ContextVar = ContextVar("given", default=None)


@contextlib.contextmanager
def given(dataset) -> Iterator[None]:
    """While this lasts `build_dataset` gives this one, for who needs the classes of a data set and none of its images."""
    token = _given.set(dataset)
    try:
        yield
    finally:
        _given.reset(token)


def build_dataset(cfg):
    """The data set that DATASET.NAME names."""
    if (dataset := _given.get()) is not None:
        return dataset
    if not cfg.DATASET.NAME:
        raise InputError(
            "No data set is named: pass --dataset-config-file, such as configs/datasets/caltech101.yaml, or DATASET.NAME."
        )
    if cfg.VERBOSE:
        print(f"Loading dataset: {cfg.DATASET.NAME}")
    return DATASET_REGISTRY.get(cfg.DATASET.NAME)(cfg)
