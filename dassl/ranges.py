"""What the config's values may be: one table of keys, checked before anything is built, one sentence for all of it.

A rule is data, and reads as the sentence says it:

    "above 0 and at most 1"    a number within bounds; parts are joined by "and": a number, whole, above, at least, ...
    ("test", "val")            one of these
    ["above 0", "above 0"]     so many values, each by its own rule; ["above 0", ...] is any number of them
    a function                 of the value, whose docstring says what it must be

Methods and data sets state the rules of their own keys in the same form. Every number is finite, and of 32 bits.
"""

import math
import operator
from collections.abc import Mapping

from yacs.config import CfgNode

from .data.samplers import SAMPLERS
from .data.transforms.transforms import AVAI_CHOICES
from .errors import InputError
from .optim.lr_scheduler import AVAI_SCHEDS, AVAI_WARMUPS
from .optim.optimizer import AVAI_OPTIMS

BOUNDS = {"above": operator.gt, "at least": operator.ge, "below": operator.lt, "at most": operator.le}
SHARE = "at least 0 and at most 1"


def shares_in_order(value) -> bool:
    """two shares of the area, above 0 and at most 1, the smaller one first"""
    return fits(value, ["above 0 and at most 1"] * 2) and value[0] <= value[1]


def odd(value) -> bool:
    """an odd number, at least 1"""
    return value > 0 and value % 2 == 1


def epochs(value) -> bool:
    """whole numbers of epochs, at least one of them"""
    return len(value) > 0 and fits(value, ["whole", ...])


RANGES = {
    "VERSION": "a number",
    "SEED": "a number",
    "INPUT.SIZE": ["whole and at least 1"] * 2,
    "INPUT.INTERPOLATION": ("nearest", "bilinear", "bicubic"),
    "INPUT.TRANSFORMS": [tuple(AVAI_CHOICES), ...],
    "INPUT.PIXEL_MEAN": ["a number"] * 3,
    "INPUT.PIXEL_STD": ["above 0"] * 3,
    "INPUT.CROP_PADDING": "at least 0",
    "INPUT.RRCROP_SCALE": shares_in_order,
    "INPUT.CUTOUT_N": "at least 0",
    "INPUT.CUTOUT_LEN": "at least 0",
    "INPUT.GN_MEAN": "a number",
    "INPUT.GN_STD": "at least 0",
    "INPUT.RANDAUGMENT_N": "at least 0",
    "INPUT.RANDAUGMENT_M": "at least 0 and at most 30",  # torchvision's 31 steps
    "INPUT.COLORJITTER_B": "at least 0",
    "INPUT.COLORJITTER_C": "at least 0",
    "INPUT.COLORJITTER_S": "at least 0",
    "INPUT.COLORJITTER_H": "at least 0 and at most 0.5",  # of the colour circle
    "INPUT.RGS_P": SHARE,
    "INPUT.GB_P": SHARE,
    "INPUT.GB_K": odd,
    "DATASET.NUM_LABELED": "a number",
    "DATASET.NUM_SHOTS": "a number",
    "DATASET.SUBSAMPLE_CLASSES": ("all", "base", "new"),
    "DATASET.VAL_PERCENT": SHARE,
    "DATASET.STL10_FOLD": "a number",
    "DATASET.CIFAR_C_LEVEL": "at least 1 and at most 5",
    "DATALOADER.NUM_WORKERS": "at least 0",
    "DATALOADER.K_TRANSFORMS": "at least 1",
    "DATALOADER.KEEP_MB": "at least 0",
    "DATALOADER.VIEWS": "whole and at least 0",
    "FEATURES.TOKENS_MB": "at least 0",
    "DATALOADER.TRAIN_X.SAMPLER": tuple(SAMPLERS),
    "DATALOADER.TRAIN_X.BATCH_SIZE": "at least 1",
    "DATALOADER.TRAIN_X.N_DOMAIN": "at least 0",
    "DATALOADER.TRAIN_X.N_INS": "at least 1",
    "DATALOADER.TRAIN_U.SAMPLER": tuple(SAMPLERS),
    "DATALOADER.TRAIN_U.BATCH_SIZE": "at least 1",
    "DATALOADER.TRAIN_U.N_DOMAIN": "at least 0",
    "DATALOADER.TRAIN_U.N_INS": "at least 1",
    "DATALOADER.TEST.SAMPLER": ("SequentialSampler", "RandomSampler"),  # the others leave images out
    "DATALOADER.TEST.BATCH_SIZE": "at least 1",
    "MODEL.BACKBONE.ACT": ("", "gelu", "quick_gelu"),
    "MODEL.HEAD.HIDDEN_LAYERS": ["whole and at least 1", ...],
    "MODEL.HEAD.DROPOUT": SHARE,
    "OPTIM.NAME": tuple(AVAI_OPTIMS),
    "OPTIM.LR": "at least 0",  # at 0 nothing is learned, which is a control
    "OPTIM.WEIGHT_DECAY": "at least 0",
    "OPTIM.MOMENTUM": SHARE,
    "OPTIM.SGD_DAMPNING": SHARE,
    "OPTIM.RMSPROP_ALPHA": SHARE,
    "OPTIM.ADAM_BETA1": "at least 0 and below 1",
    "OPTIM.ADAM_BETA2": "at least 0 and below 1",
    "OPTIM.ADAM_EPS": "above 0",
    "OPTIM.BASE_LR_MULT": "at least 0",
    "OPTIM.LR_SCHEDULER": tuple(AVAI_SCHEDS),
    "OPTIM.STEPSIZE": epochs,
    "OPTIM.GAMMA": "at least 0",
    "OPTIM.MAX_EPOCH": "at least 1",
    "OPTIM.WARMUP_EPOCH": "a number",
    "OPTIM.WARMUP_TYPE": tuple(AVAI_WARMUPS),
    "OPTIM.WARMUP_CONS_LR": "at least 0",
    "OPTIM.WARMUP_MIN_LR": "at least 0",
    "TRAIN.CHECKPOINT_FREQ": "a number",
    "TRAIN.PRINT_FREQ": "at least 1",
    "TRAIN.COUNT_ITER": ("train_x", "train_u", "smaller_one"),
    "TRAIN.ATTENTION": ("fused", "plain"),
    "TRAIN.COMPILE": ("", "compile", "graphs"),
    "TEST.SPLIT": ("test", "val"),
    "TEST.FINAL_MODEL": ("last_step", "best_val"),
}


def check_ranges(cfg: CfgNode, rules: Mapping) -> None:
    """Refuse the first value that does not keep to its rule; `rules` are by the full names of keys."""
    values = dict(leaves(cfg))
    for key, rule in rules.items():
        if key in values and not fits(values[key], rule):
            must = in_words(rule) if is_of_32_bits(values[key]) else of_32_bits(values[key])
            raise InputError(f"The config key {key} is {values[key]!r}: it must be {must}.")


def leaves(node: CfgNode, prefix: str = ""):
    """The full name and the value of every key."""
    for key, value in node.items():
        if isinstance(value, CfgNode):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def fits(value, rule) -> bool:
    if not is_of_32_bits(value):
        return False
    if callable(rule):
        return rule(value)
    if isinstance(rule, tuple):
        return value in rule
    if isinstance(rule, list):
        rules = rule[:1] * len(value) if rule[-1] is ... else rule
        return len(value) == len(rules) and all(map(fits, value, rules))
    return type(value) in (int, float) and all(holds(value, part) for part in rule.split(" and "))


def holds(value: float, part: str) -> bool:
    """One part of a rule on numbers."""
    if part in ("a number", "whole"):
        return part == "a number" or type(value) is int
    bound, number = part.rsplit(" ", 1)
    return BOUNDS[bound](value, float(number))


def is_of_32_bits(value) -> bool:
    """A number, and every one of several, that is finite in fp32, or whole and of 32 bits; all else is."""
    if isinstance(value, (list, tuple)):
        return all(map(is_of_32_bits, value))
    if isinstance(value, int):
        return abs(value) < 2**32
    return not isinstance(value, float) or (math.isfinite(value) and abs(value) < 2.0**128)


def of_32_bits(value) -> str:
    """What a value must be that is not."""
    return "at least -4294967295 and at most 4294967295" if isinstance(value, int) else "a finite number of 32 bits"


def in_words(rule) -> str:
    """What a value must be."""
    if callable(rule):
        return rule.__doc__
    if isinstance(rule, tuple):
        return f"{'one of ' if len(rule) > 1 else ''}{', '.join(str(value) or 'nothing' for value in rule)}"
    if isinstance(rule, list):
        return f"{'any number of' if rule[-1] is ... else len(rule)} values, each {in_words(rule[0])}"
    return rule
