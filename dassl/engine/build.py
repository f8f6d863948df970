"""The registry of methods."""

from dassl.utils import Registry

TRAINER_REGISTRY = Registry("TRAINER")


def build_trainer(cfg):
    """The trainer that TRAINER.NAME names."""
    if cfg.VERBOSE:
        print(f"Loading trainer: {cfg.TRAINER.NAME}")
    if said := TRAINER_REGISTRY.replaced(cfg.TRAINER.NAME):
        print(said)
    return TRAINER_REGISTRY.get(cfg.TRAINER.NAME)(cfg)
