"""Names to classes: the whole mechanism by which methods and data sets are found."""

import difflib
import sys
import traceback
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

from ..errors import InputError
from .brought import FILE_OF

__all__ = ["LeftOut", "Registry", "check_availability", "get_most_similar_str_to_a_from_b"]


@dataclass(frozen=True)
class LeftOut:
    """A file that cannot be imported: nothing in it is registered."""

    file: str
    module: str
    error: BaseException
    names: frozenset[str]  # that it would register, as far as its text tells

    @property
    def reason(self) -> str:
        """The end of its traceback, in one line; of a fault in the writing, where it is."""
        what = " ".join(traceback.format_exception_only(self.error)[-1].split()).removeprefix("dassl.errors.")
        return f"{what}, line {self.error.lineno}" if isinstance(self.error, SyntaxError) else what

    def lacking(self) -> str:
        """The file of its package that has not what this one wants of it; "" where it fails otherwise."""
        near = self.error.name if type(self.error) is ImportError else None
        is_near = near is not None and near.rpartition(".")[0] == self.module.rpartition(".")[0]
        return written_in(near) if near is not None and is_near else ""

    def explain(self, name: str, kind: str) -> Exception:
        """The error for whoever asks for one of its names; a bug in the file comes with its traceback, as the cause."""
        error = InputError if isinstance(self.error, InputError) else ImportError
        explained = error(f"{self.file} cannot be imported, so there is no {kind} {name}: {self.reason}")
        if near := self.lacking():
            explained = InputError(
                f"{explained}. {near} is not the one that {self.file} was written for: give it another name, and put "
                "that one back."
            )
        explained.__cause__ = self.error
        return explained


class Registry:
    """A table of named objects, filled by a decorator.

    TRAINERS = Registry("TRAINER")

    @TRAINERS.register()
    class CoOp: ...

    TRAINERS.get("CoOp")
    """

    def __init__(self, name: str, gives_way: Callable[[object, object], bool] = lambda obj, other: False):
        """gives_way: whether the first of two objects of one name leaves it to the second; else they are an error."""
        self._name = name
        self._obj_map: dict = {}
        self.gives_way = gives_way
        self._replaced: dict[str, list] = {}  # what has given way under a name, to be there again if need be
        self._left_out: list[LeftOut] = []

    def __contains__(self, name: str) -> bool:
        return name in self._obj_map

    def register(self, obj=None, force: bool = False):
        """As a decorator, or with the object as argument; `force` replaces what has the name already."""
        if obj is None:
            return lambda decorated: self.register(decorated, force)
        name = obj.__name__
        former = self._obj_map.get(name)
        if former is None or force or _same_source(former, obj):
            self._obj_map[name] = obj
        elif self.gives_way(former, obj):
            self._obj_map[name] = obj
            self._put_aside(name, former)
        elif self.gives_way(obj, former):
            self._put_aside(name, obj)
        else:
            raise InputError(
                f"{written_in(obj.__module__)} registers a {self._name} named {name}, as {written_in(former.__module__)} does "
                "already: rename or remove one of them."
            )
        return obj

    def _put_aside(self, name: str, obj) -> None:
        others = [other for other in self._replaced.get(name, []) if not _same_source(other, obj)]
        self._replaced[name] = [*others, obj]

    def leave_out(self, file: LeftOut) -> None:
        """Note a file that cannot be imported, and drop what it registered before it failed; what that had replaced is
        there again.
        """
        self._left_out.append(file)
        for name, aside in list(self._replaced.items()):
            self._replaced[name] = [obj for obj in aside if not _is_of(obj, file.module)]
        for name, obj in list(self._obj_map.items()):
            if _is_of(obj, file.module):
                del self._obj_map[name]
                if self._replaced.get(name):
                    self._obj_map[name] = self._replaced[name].pop()

    def replaced(self, name: str) -> str:
        """A sentence on what a registered name stands for here, where another has given way to it; "" elsewhere."""
        aside = ", ".join(written_in(obj.__module__) for obj in self._replaced.get(name, []))
        return (
            f"{name} is {written_in(self.get(name).__module__)}'s, which takes the place of {aside}'s." if aside else ""
        )

    def get(self, name: str):
        self.check(name)
        return self._obj_map[name]

    def check(self, name: str, kind: str = "") -> None:
        """Refuse a name that is not registered; where it stands in a file that cannot be imported, that is the error.

        A registered name that such a file has too is refused only where that is what the file fails by.
        """
        kind = kind or self._name
        for file in self._left_out:
            is_clash = isinstance(file.error, InputError)
            stem = file.module.rpartition(".")[2].removeprefix(FILE_OF)
            if (name in file.names and (is_clash or name not in self)) or (
                name not in self and str(name).lower() == stem.lower()
            ):
                raise file.explain(name, kind)
            if name in file.names:
                print(
                    f"warning: {file.file}, which has a {kind} {name} too, cannot be imported ({file.reason}): "
                    f"{written_in(self._obj_map[name].__module__)}'s is taken.",
                    file=sys.stderr,
                )
        check_availability(name, self.registered_names(), kind, self.left_out())

    def registered_names(self) -> list[str]:
        return list(self._obj_map)

    def left_out(self) -> str:
        """A sentence on the files that cannot be imported, with their errors; "" where there are none."""
        files = defaultdict(list)
        for file in self._left_out:
            files[file.reason].append(file.file)
        shown = "; ".join(f"{', '.join(names)} ({reason})" for reason, names in files.items())
        return f" Not there, as it cannot be imported: {shown}." if shown else ""


def _is_of(obj, module: str) -> bool:
    """Whether it was defined in that module, or in one of that package."""
    return f"{obj.__module__}.".startswith(f"{module}.")


def written_in(module: str) -> str:
    """trainers.coop -> trainers/coop.py; trainers.spotlighter, a package, -> trainers/spotlighter; the file beside that
    package, trainers.file_of_spotlighter, -> trainers/spotlighter.py
    """
    is_package = hasattr(sys.modules.get(module), "__path__")
    return module.replace(f".{FILE_OF}", ".").replace(".", "/") + ("" if is_package else ".py")


def _same_source(a, b) -> bool:
    """A module that is imported a second time registers the same things again."""
    return (a.__module__, a.__qualname__) == (b.__module__, b.__qualname__)


def check_availability(requested: str, available: list[str], kind: str = "value", note: str = "") -> None:
    """Refuse an unknown name, with the nearest known one; `note` is a further sentence for the error."""
    if requested in available:
        return
    if not available:
        raise InputError(f"No {kind} is registered, so {requested!r} is unknown.{note}")
    known = ", ".join(sorted(available))
    if requested == "":
        raise InputError(f"The {kind} is empty: choose one of {known}.{note}")
    near = get_most_similar_str_to_a_from_b(requested, available)
    raise InputError(f"The {kind} {requested!r} is unknown; the nearest name is {near!r} (known: {known}).{note}")


def get_most_similar_str_to_a_from_b(a: str, b) -> str:
    """The string among b that is nearest to a, whatever its capitals."""
    lower = {str(item).lower(): str(item) for item in b}
    return lower[difflib.get_close_matches(str(a).lower(), lower, n=1, cutoff=0)[0]]
