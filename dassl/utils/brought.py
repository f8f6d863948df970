"""What a file of a package brings with it: packages in the folder of its name, which its imports find first.

    trainers/theirs.py            `from clip import clip`, anywhere in it, is
    trainers/theirs/clip/         this one; its own `import clip.model` too
    trainers/theirs/losses.py     `import losses`, `from .losses import ...`

Nobody else's imports change. What is brought is imported as `trainers.packages_of_theirs.clip`, so that its classes can be
pickled. A package `trainers/theirs/` that holds a `clip/` finds that one so too. Only import statements are looked at:
`importlib.import_module("clip")` is everybody's.

Where a file is called as a package beside it, the package has the name, as ever in Python, and the file is imported as
`trainers.file_of_theirs`. `from .theirs import ...` in other files of the folder then finds the file: who wants the package
names a module of it. What is put into the folder of such a package is the file's alone.
"""

import builtins
import functools
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import NamedTuple

__all__ = ["find_what_is_brought"]

BROUGHT = "packages_of_"  # trainers.packages_of_theirs holds what trainers/theirs.py brings
FILE_OF = "file_of_"  # trainers.file_of_theirs is trainers/theirs.py, beside a package that is called so


class Route(NamedTuple):
    """A folder in which imports are looked for first, and the name under which what lies there is imported."""

    folder: Path
    name: str

    def has(self, top: str) -> bool:
        own = self.folder / top
        if self.is_of_a_file():  # whatever lies there was put there for that file, with an __init__.py or without
            return own.is_dir() or own.with_suffix(".py").is_file()
        return (own / "__init__.py").is_file()

    def is_of_a_file(self) -> bool:
        """A package's own modules are found by relative imports, as ever; only packages in it are looked for."""
        return self.name.rpartition(".")[2].startswith(BROUGHT)

    def brings_packages(self) -> bool:
        return self.is_of_a_file() or (
            any(self.folder.glob("*/__init__.py")) and not self.folder.with_suffix(".py").is_file()
        )


def is_package(folder: Path) -> bool:
    return (folder / "__init__.py").is_file()


def find_what_is_brought(package: str) -> None:
    """From now on, modules below `package` find what stands in the folder of their name."""
    if not any(isinstance(finder, Finder) and finder.package == package for finder in sys.meta_path):
        sys.meta_path.insert(0, Finder(package))


class Finder(MetaPathFinder):
    def __init__(self, package: str):
        self.package = package

    def find_spec(self, fullname: str, path=None, target=None) -> ModuleSpec | None:
        if not fullname.startswith(f"{self.package}.") or path is None:
            return None
        parent, _, stem = fullname.rpartition(".")
        for folder in map(Path, path):
            if stem.startswith(BROUGHT) and (own := folder / stem.removeprefix(BROUGHT)).is_dir():
                spec = ModuleSpec(fullname, None, is_package=True)
                spec.submodule_search_locations = [str(own)]
                return spec
            own = folder / stem.removeprefix(FILE_OF)
            file = own.with_name(f"{own.name}.py")
            if file.is_file() and own.is_dir() and is_package(own) == stem.startswith(FILE_OF):
                brings = Route(own, f"{parent}.{BROUGHT}{own.name}")
                loader = Loader(fullname, str(file), [brings, *self.routes(parent)], self.files, brings)
                return spec_from_file_location(fullname, file, loader=loader)
        spec, routes = PathFinder.find_spec(fullname, path), self.routes(parent)
        if spec is None or not isinstance(spec.loader, SourceFileLoader):
            return None
        if spec.submodule_search_locations:
            routes = [Route(Path(spec.submodule_search_locations[0]), fullname), *routes]
        routes = [route for route in routes if route.brings_packages()]
        if not routes and not self.files:
            return None
        spec.loader = Loader(fullname, spec.loader.path, routes, self.files)
        return spec

    @functools.cached_property
    def files(self) -> dict[str, str]:
        """What a file that is called as a package beside it is imported as, by the name that it would have."""
        folder = Path(next(iter(sys.modules[self.package].__path__)))
        stems = [file.stem for file in folder.glob("*.py") if is_package(file.with_suffix(""))]
        return {f"{self.package}.{stem}": f"{self.package}.{FILE_OF}{stem}" for stem in stems}

    def routes(self, name: str) -> list[Route]:
        """Of a package and those that it lies in, the nearest first, but for the one that all of this is about."""
        return list(self.above(name))

    def above(self, name: str) -> Iterator[Route]:
        while name != self.package:
            yield Route(Path(next(iter(sys.modules[name].__path__))), name)
            name = name.rpartition(".")[0]


class Loader(SourceFileLoader):
    """Loads a file whose import statements look into folders first."""

    def __init__(
        self, fullname: str, path: str, routes: list[Route], files: dict[str, str], beside: Route | None = None
    ):
        """routes: of absolute imports. files: what `from name import ...` means, by the name's own meaning.
        beside: of `from .name import ...`, which in a file looks into its folder too.
        """
        super().__init__(fullname, path)
        self.routes, self.files, self.beside = routes, files, beside

    def exec_module(self, module: ModuleType) -> None:
        # Import statements call what their module has for `__import__`, whenever they are carried out.
        module.__dict__["__builtins__"] = {**vars(builtins), "__import__": self.import_}
        super().exec_module(module)

    def import_(self, name, globals=None, locals=None, fromlist=(), level=0):
        called = f"{self.name.rpartition('.')[0]}.{name}" if level == 1 else name
        if fromlist and level < 2 and called in self.files and not self.is_package(self.name):
            return builtins.__import__(self.files[called], globals, locals, fromlist, 0)
        beside = self.beside if level == 1 else None
        if beside and not name and any(beside.has(each) for each in fromlist or ()):  # from . import losses
            return SimpleNamespace(**{each: self.sibling(each, beside, globals) for each in fromlist})
        routes = self.routes if level == 0 else [beside] if beside else []
        route = next((route for route in routes if name and route.has(name.partition(".")[0])), None)
        if route is None:
            return builtins.__import__(name, globals, locals, fromlist, level)
        brought = f"{route.name}.{name}"
        if fromlist:
            return builtins.__import__(brought, globals, locals, fromlist, 0)
        import_module(brought)
        return import_module(f"{route.name}.{name.partition('.')[0]}")

    def sibling(self, name: str, beside: Route, globals):
        if beside.has(name):
            return import_module(f"{beside.name}.{name}")
        return getattr(builtins.__import__("", globals, None, (name,), 1), name)
