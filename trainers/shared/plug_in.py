"""What methods share that stand on another one, their host, whose name is one of their config keys."""

import functools
from collections import defaultdict, deque
from collections.abc import Sequence

from clip import InputError
from dassl.engine import TRAINER_REGISTRY


def host_of(cfg, name: str) -> type:
    """The class of the registered method that `TRAINER.<NAME>.HOST` names; one that stands on a host itself is none."""
    key = TRAINER_REGISTRY.get(name).host_key
    wanted = cfg.TRAINER[name.upper()].HOST
    TRAINER_REGISTRY.check(wanted, key)
    host = TRAINER_REGISTRY.get(wanted)
    if hasattr(host, "host_key"):
        what = "itself" if wanted == name else "which stands on a host of its own"
        comma = "" if wanted == name else ","
        raise InputError(f"{key} cannot be {wanted}{comma} {what}: name a method such as CoOp.")
    return host


@functools.cache
def over(layer: type, host: type, name: str) -> type:
    """The trainer class of a layer over a host's trainer class, made once."""
    return type(f"{name}{host.__name__}", (layer, host), {})


def rows_of(asked: Sequence[str], known: Sequence[str]) -> list[int]:
    """Where each class name asked for stands among the known ones, -1 if nowhere.

    Of classes with one name, the first asked for is the first known, the second the second.
    """
    left = defaultdict(deque)
    for row, name in enumerate(known):
        left[name].append(row)
    return [left[name].popleft() if left[name] else -1 for name in asked]
