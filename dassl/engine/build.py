"""The registry of methods."""

from dassl.utils import Registry


def gives_way(method, other) -> bool:
    """Whether a method leaves its name to another one: one that declares its config keys, as all that are written for this
    repository do, to a file written for Dassl, which declares none, and to one that is derived from it.
    """
    return hasattr(method, "extend_cfg") and (not hasattr(other, "extend_cfg") or is_derived(other, method))


def is_derived(method, other) -> bool:
    return isinstance(method, type) and isinstance(other, type) and issubclass(method, other)


TRAINER_REGISTRY = Registry("TRAINER", gives_way)


def build_trainer(cfg):
    """The trainer that TRAINER.NAME names."""
    if cfg.VERBOSE:
        print(f"Loading trainer: {cfg.TRAINER.NAME}")
    if said := TRAINER_REGISTRY.replaced(cfg.TRAINER.NAME):
        print(said)
    return TRAINER_REGISTRY.get(cfg.TRAINER.NAME)(cfg)
