"""A method's config keys are data: a table of defaults, installed when the method is chosen."""

from yacs.config import CfgNode


class ConfigKeys:
    """`config_keys` holds the keys under cfg.TRAINER.<config_node> with their defaults, a nested dict for a sub-node."""

    config_node: str
    config_keys: dict = {}
    shared_keys: dict = {}  # a base class's, behind each method's own

    @classmethod
    def extend_cfg(cls, cfg) -> None:
        """Install the method's node in a config that is not frozen."""
        cfg.TRAINER[cls.config_node] = CfgNode({**cls.config_keys, **cls.shared_keys})
