"""What the config's values may be (dassl/ranges.py): the rules, their sentence, and that every key with a number has one."""

import math

import pytest

from dassl.config import get_cfg_default, merge_options
from dassl.data.transforms import INTERPOLATION_MODES
from dassl.ranges import RANGES, check_ranges, fits, in_words, leaves
from dassl.utils import InputError


@pytest.mark.parametrize(
    ("rule", "inside", "outside", "words"),
    [
        ("above 0", [1e-30, 1, 3e38], [0, -1, True, "1", None, (1,), math.nan, math.inf, 1e300], "above 0"),
        ("at least 0 and at most 1", [0, 0.5, 1], [-1e-9, 1.1], "at least 0 and at most 1"),
        ("at least 0 and below 1", [0], [1], "at least 0 and below 1"),
        ("a number", [-7, 2**32 - 1, -3e38], [2**32, -(2**63), -math.inf], "a number"),
        ("whole", [2, 0], [2.0, True], "whole"),
        (("test", "val"), ["val"], ["", "tset", None, 0], "one of test, val"),
        ((False,), [False], [True], "False"),
        (["above 0"] * 2, [(1, 2), [0.5, 3]], [(1,), (1, 2, 3), (1, 0), (1, "a"), (1, math.nan)], "2 values, each above 0"),
        ([("a", "b"), ...], [(), ("a",), ("b", "a", "b")], [("c",)], "any number of values, each one of a, b"),
    ],
)  # fmt: skip
def test_rules(rule, inside, outside, words):
    assert all(fits(value, rule) for value in inside)
    assert not any(fits(value, rule) for value in outside)
    assert in_words(rule) == words


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("OPTIM.LR", -1, r"The config key OPTIM\.LR is -1\.0: it must be at least 0\."),
        ("SEED", 2**32, r"SEED is 4294967296: it must be at least -4294967295 and at most 4294967295\."),
        ("OPTIM.LR", 1e300, r"OPTIM\.LR is 1e\+300: it must be a finite number of 32 bits\."),
        ("INPUT.SIZE", (224, 224, 3), r"INPUT\.SIZE is \(224, 224, 3\): it must be 2 values, each whole and at least 1\."),
        ("INPUT.RRCROP_SCALE", (1.0, 0.1), r"two shares of the area, above 0 and at most 1, the smaller one first\."),
        ("INPUT.GB_K", 4, r"an odd number, at least 1\."),
        ("OPTIM.STEPSIZE", (), r"whole numbers of epochs, at least one of them\."),
        ("TEST.SPLIT", "tset", r"TEST\.SPLIT is 'tset': it must be one of test, val\."),
        ("DATALOADER.TEST.SAMPLER", "RandomClassSampler", "one of SequentialSampler, RandomSampler"),
    ],
)  # fmt: skip
def test_one_sentence(key, value, says):
    cfg = get_cfg_default()
    merge_options(cfg, [key, value])
    with pytest.raises(InputError, match=says):
        check_ranges(cfg, RANGES)


def test_every_number_has_a_rule_and_every_default_keeps_to_it():
    values = dict(leaves(get_cfg_default()))
    numbers = {key for key, value in values.items() if type(value) in (int, float) or isinstance(value, list)}
    assert numbers <= RANGES.keys() <= values.keys()
    check_ranges(get_cfg_default(), RANGES)


def test_names_are_those_of_their_owners():
    assert set(RANGES["INPUT.INTERPOLATION"]) == set(INTERPOLATION_MODES)


def test_a_key_that_is_not_there_is_passed_over():
    check_ranges(get_cfg_default(), {"TRAINER.OTHER.N": "above 0"})


def test_a_number_beyond_all_floats():
    cfg = get_cfg_default()
    merge_options(cfg, ["OPTIM.LR", 10**400])
    with pytest.raises(InputError, match="32 bits"):
        check_ranges(cfg, RANGES)
