"""Two of one name (../dassl/utils/registry.py, ../dassl/engine/build.py): a file written for Dassl takes the place of ours."""

import itertools

import pytest

from dassl.engine.build import gives_way
from dassl.utils import InputError, Registry
from dassl.utils.registry import LeftOut


def method(module: str, declares: bool = False, base: type = object) -> type:
    body = {"extend_cfg": classmethod(lambda cls, cfg: None)} if declares else {}
    return type("Method", (base,), body | {"__module__": module})


OURS = method("trainers.ours", declares=True)
DROPPED, DERIVED = method("trainers.dropped"), method("trainers.derived", base=OURS)


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
        file = taken.__module__.replace(".", "/")
        assert registry.replaced("Method") == f"Method is {file}.py's, which takes the place of trainers/ours.py's."


def test_nothing_is_said_of_one_alone():
    assert filled(OURS).replaced("Method") == filled(DROPPED).replaced("Method") == filled().replaced("Method") == ""


@pytest.mark.parametrize("other", [method("trainers.second"), method("trainers.second", declares=True)])
def test_two_of_a_users_are_an_error(other):
    """Beside ours, or without it; the sentence names both of theirs."""
    theirs = DERIVED if hasattr(other, "extend_cfg") else DROPPED
    for order in [(theirs, other), (OURS, theirs, other), (theirs, OURS, other)]:
        registry = filled(*order[:-1])
        with pytest.raises(InputError, match=f"trainers.second registers .* as {theirs.__module__} does already"):
            registry.register(other)


def test_a_file_that_fails_gives_the_name_back():
    failed = LeftOut("trainers/dropped.py", "trainers.dropped", ImportError("no"), frozenset({"Method"}))
    for order in itertools.permutations([OURS, DROPPED]):
        registry = filled(*order)
        registry.leave_out(failed)
        assert registry.get("Method") is OURS and registry.replaced("Method") == ""


def test_a_module_that_is_imported_again():
    registry = filled(OURS, DROPPED, method("trainers.ours", declares=True), method("trainers.dropped"))
    assert registry.get("Method").__module__ == "trainers.dropped" and registry.replaced("Method").count("ours.py") == 1


def test_all_of_ours_declare_their_keys():
    import trainers  # noqa: F401  registers
    from dassl.engine import TRAINER_REGISTRY

    for name in TRAINER_REGISTRY.registered_names():
        ours = TRAINER_REGISTRY.get(name)
        assert hasattr(ours, "extend_cfg") or not ours.__module__.startswith("trainers."), name
