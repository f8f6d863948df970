"""What tests of readers share."""

from dassl.config import get_cfg_default
from dassl.utils import set_random_seed


def config(root, shots=2, subsample="all", seed=1):
    """What a reader asks of a run's config."""
    cfg = get_cfg_default()
    cfg.DATASET.ROOT, cfg.DATASET.NUM_SHOTS, cfg.DATASET.SUBSAMPLE_CLASSES = str(root), shots, subsample
    cfg.SEED = seed
    if seed >= 0:
        set_random_seed(seed)
    return cfg
