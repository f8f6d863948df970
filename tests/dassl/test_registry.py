"""Two of one name (../dassl/utils/registry.py, ../trainers/shared/ours.py): a user's takes the place of ours."""

import itertools

import pytest

from dassl.utils import InputError, Registry
from dassl.utils.registry import LeftOut


def method(module: str, base: type = object) -> type:
    return type("Method", (base,), {"__module__": module})


def gives_way(one, other) -> bool:
    return one.__module__ == "trainers.ours" != other.__module__


OURS = method("trainers.ours")
DROPPED, DERIVED = method("trainers.dropped"), method("trainers.file_of_derived", base=OURS)


def filled(*methods) -> Registry:
    registry = Registry("TRAINER", gives_way)
    for each in methods:
        registry.register(each)
    return registry


@pytest.mark.parametrize("taken", [DROPPED, DERIVED])
def test_in_whatever_order_they_come(taken):
    for order in itertools.permutations([OURS, taken]):
        registry = filled(*order)
        assert registry.get("Method") is taken
        file = taken.__module__.replace(".file_of_", ".").replace(".", "/")
        assert registry.replaced("Method") == f"Method is {file}.py's, which takes the place of trainers/ours.py's."


def test_nothing_is_said_of_one_alone():
    assert filled(OURS).replaced("Method") == filled(DROPPED).replaced("Method") == filled().replaced("Method") == ""


def test_two_of_a_users_are_an_error():
    """Beside ours, or without it; the sentence names both of theirs."""
    other = method("trainers.second")
    for order in [(DERIVED, other), (OURS, DERIVED, other), (DERIVED, OURS, other)]:
        registry = filled(*order[:-1])
        with pytest.raises(InputError, match=r"trainers/second.py registers .* as trainers/derived.py does already"):
            registry.register(other)


def test_a_file_that_fails_gives_the_name_back():
    failed = LeftOut("trainers/dropped.py", "trainers.dropped", ImportError("no"), frozenset({"Method"}))
    for order in itertools.permutations([OURS, DROPPED]):
        registry = filled(*order)
        registry.leave_out(failed)
        assert registry.get("Method") is OURS and registry.replaced("Method") == ""


def test_a_file_that_wants_what_another_in_the_place_of_its_own_has_not():
    """One sentence, and no traceback: a user's file stands in the place of the one that it was written for."""
    lacks = ImportError("cannot import name 'Learner' from 'trainers.mine'", name="trainers.mine")
    for module, error in (("trainers.ours", lacks), ("elsewhere.ours", lacks), ("trainers.ours", ImportError("no"))):
        registry = Registry("TRAINER")
        registry.leave_out(LeftOut("trainers/ours.py", module, error, frozenset({"Method"})))
        with pytest.raises(ImportError if module != "trainers.ours" or error is not lacks else InputError) as caught:
            registry.get("Method")
        says = "trainers/mine.py is not the one that trainers/ours.py was written for: give it another name"
        assert (says in str(caught.value)) == isinstance(caught.value, InputError)


def test_a_module_that_is_imported_again():
    registry = filled(OURS, DROPPED, method("trainers.ours"), method("trainers.dropped"))
    assert registry.get("Method").__module__ == "trainers.dropped" and registry.replaced("Method").count("ours.py") == 1
