"""A method's config keys are data: a table of defaults, installed when the method is chosen, and of what they may be."""

from yacs.config import CfgNode

from clip import InputError


class OwnKeyError(InputError):
    """Its message begins with one of the method's own keys, without the node that only the trainer knows."""


class ConfigKeys:
    """`config_keys` holds the keys under cfg.TRAINER.<config_node> with their defaults, a nested dict for a sub-node.

    `config_ranges` says what their values may be, and `run_ranges` what the method asks of other keys, such as
    OPTIM.LR; a rule is data (dassl/ranges.py), and whoever builds the config checks it.
    """

    config_node: str
    config_keys: dict = {}
    config_ranges: dict = {}
    run_ranges: dict = {}
    shared_keys: dict = {}  # a base class's, behind each method's own
    shared_ranges: dict = {}
    trainer_keys: dict = {}  # beside the node, in cfg.TRAINER itself: the same for a method and the host that it stands on
    trainer_ranges: dict = {}

    @classmethod
    def extend_cfg(cls, cfg) -> None:
        """Install the method's node in a config that is not frozen."""
        cfg.TRAINER.update(cls.trainer_keys)
        cfg.TRAINER[cls.config_node] = CfgNode({**cls.config_keys, **cls.shared_keys})

    @classmethod
    def ranges(cls) -> dict:
        """What the values may be, by the keys' full names."""
        own = {**cls.config_ranges, **cls.shared_ranges}
        rules = {f"TRAINER.{cls.config_node}.{key}": rule for key, rule in own.items()}
        return rules | {f"TRAINER.{key}": rule for key, rule in cls.trainer_ranges.items()} | cls.run_ranges
