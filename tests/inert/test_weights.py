"""Names of weights (../../inert/weights.py)."""

import pytest
import torch

from inert import Inert, in_own_names, not_loaded, weights_of

ONE, TWO = torch.ones(1), torch.ones(2)


@pytest.mark.parametrize("prefix", ["", "module.", "model.", "clip.", "_orig_mod.", "module._orig_mod.", "model.clip."])
@pytest.mark.parametrize("wrap", [lambda state: state, lambda state: {"state_dict": state, "epoch": 3}, lambda state: {"model": state}])  # fmt: skip
def test_prefixes_and_wrappers(prefix, wrap):
    loaded = wrap({f"{prefix}visual.proj": ONE, f"{prefix}modules.x": TWO})
    assert weights_of(loaded) == {"visual.proj": ONE, "modules.x": TWO}


def test_names_of_the_model_itself_stay():
    state = {"module.clip.proj": ONE, "module.model.ctx": TWO}
    assert in_own_names(state, own={"clip.proj": 0, "ctx": 0}) == {"clip.proj": ONE, "ctx": TWO}


def test_a_modules_extra_state_is_kept():
    state = {"module._extra_state": {"HEAD": 1}, "args": 3, "ctx": ONE}
    own = {"_extra_state", "ctx"}
    assert weights_of(state, own) == {"_extra_state": {"HEAD": 1}, "ctx": ONE}
    assert weights_of({**state, "module._extra_state": {"HEAD": Inert("a", "B")}}, own) == {"ctx": ONE}


def test_a_plain_name_wins():
    assert in_own_names({"module.ctx": ONE, "ctx": TWO}) == {"ctx": TWO}


@pytest.mark.parametrize("loaded", [None, [ONE], ONE, Inert("a", "B"), {}, {"epoch": 1}, {"state_dict": Inert("a", "B")}])  # fmt: skip
def test_no_weights(loaded):
    assert weights_of(loaded) == {}


def test_what_was_not_loaded():
    tree = {"a": [1, (Inert("m", "One"),)], Inert("m", "Two"): {3}, "b": "text"}
    assert sorted(not_loaded(tree)) == ["m.One", "m.Two"]


def test_containers_in_each_other_are_looked_through_once():
    """A file may hold a list that is in the next one twice, and so on, or one that is in itself."""
    tree = [Inert("m", "One")]
    for _ in range(60):
        tree = [tree, tree]
    tree.append({"itself": tree})
    assert not_loaded(tree) == ["m.One"]
