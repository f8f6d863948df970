"""The registry of data sets."""

from dassl.utils import InputError, Registry

DATASET_REGISTRY = Registry("DATASET")


def build_dataset(cfg):
    """The data set that DATASET.NAME names."""
    if not cfg.DATASET.NAME:
        raise InputError(
            "No data set is named: pass --dataset-config-file, such as configs/datasets/caltech101.yaml, or DATASET.NAME."
        )
    if cfg.VERBOSE:
        print(f"Loading dataset: {cfg.DATASET.NAME}")
    return DATASET_REGISTRY.get(cfg.DATASET.NAME)(cfg)
