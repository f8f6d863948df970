"""Names to classes: the whole mechanism by which methods and data sets are found."""

import difflib

from ..errors import InputError

__all__ = ["Registry", "check_availability", "get_most_similar_str_to_a_from_b"]


class Registry:
    """A table of named objects, filled by a decorator.

    TRAINERS = Registry("TRAINER")

    @TRAINERS.register()
    class CoOp: ...

    TRAINERS.get("CoOp")
    """

    def __init__(self, name: str):
        self._name = name
        self._obj_map: dict = {}

    def __contains__(self, name: str) -> bool:
        return name in self._obj_map

    def register(self, obj=None, force: bool = False):
        """As a decorator, or with the object as argument; `force` replaces what has the name already."""
        if obj is None:
            return lambda decorated: self.register(decorated, force)
        name = obj.__name__
        former = self._obj_map.get(name)
        if former is not None and not force and not _same_source(former, obj):
            raise InputError(
                f"{obj.__module__} registers a {self._name} named {name}, as {former.__module__} does already: rename or remove one of them."
            )
        self._obj_map[name] = obj
        return obj

    def get(self, name: str):
        check_availability(name, self.registered_names(), self._name)
        return self._obj_map[name]

    def registered_names(self) -> list[str]:
        return list(self._obj_map)


def _same_source(a, b) -> bool:
    """A module that is imported a second time registers the same things again."""
    return (a.__module__, a.__qualname__) == (b.__module__, b.__qualname__)


def check_availability(requested: str, available: list[str], kind: str = "value") -> None:
    """Refuse an unknown name, with the nearest known one."""
    if requested in available:
        return
    if not available:
        raise InputError(f"No {kind} is registered, so {requested!r} is unknown.")
    near = get_most_similar_str_to_a_from_b(requested, available)
    raise InputError(
        f"The {kind} {requested!r} is unknown; the nearest name is {near!r} (known: {', '.join(sorted(available))})."
    )


def get_most_similar_str_to_a_from_b(a: str, b) -> str:
    """The string among b that is nearest to a."""
    return difflib.get_close_matches(str(a), [str(item) for item in b], n=1, cutoff=0)[0]
