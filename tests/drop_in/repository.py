"""The trainer files of a repository, and what each of them imports from beside it and from above."""

import ast
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.helpers import REPOSITORY


@dataclass
class Attempt:
    """What is put into `trainers/`, and how it went there."""

    file: Path
    beside: list[Path] = field(default_factory=list)  # modules of its own folder
    below: list[Path] = field(default_factory=list)  # packages and modules for the folder of its name
    root: Path | None = None  # the folder that its code is run in, whose other files are there then
    error: str = "it has not been run"

    def result(self) -> str:
        brought = [path.name for path in self.beside] + [f"its own {path.stem}" for path in self.below]
        brought += ["its other files"] if self.root else []
        return ("fails" if self.error else "runs") + (f", with {', '.join(brought)}" if brought else "")


def trainer_files(repository: Path) -> list[Path]:
    """Files that register a trainer, but for copies of Dassl and what a notebook has left; one of several equal ones."""
    found, texts = [], set()
    for path in sorted(repository.rglob("*.py")):
        parts = path.relative_to(repository).parts
        if "dassl" in parts or any(part.startswith(".") for part in parts):
            continue
        text = path.read_bytes()
        if b"TRAINER_REGISTRY.register(" in text and text not in texts:
            found.append(path)
            texts.add(text)
    return found


def code_of(path: Path) -> ast.Module:
    with contextlib.suppress(SyntaxError, ValueError):
        return ast.parse(path.read_text(encoding="utf-8", errors="replace"))
    return ast.Module(body=[], type_ignores=[])


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """(level, module) of all imports of a file; `from . import name` is (1, "name")."""
    for node in ast.walk(code_of(path)):
        if isinstance(node, ast.Import):
            yield from ((0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.level, node.module or alias.name) for alias in node.names)


def module_in(folder: Path, name: str) -> Path | None:
    """The file or package of that name in a folder."""
    return next((path for path in (folder / f"{name}.py", folder / name) if path.exists()), None)


def siblings(path: Path, below: list[Path]) -> list[Path]:
    """The modules of its folder that a file imports, or what is put into the folder of its name, and those that these import."""
    found: list[Path] = []
    waiting = [
        path,
        *(file for package in below for file in ([package] if package.is_file() else package.rglob("*.py"))),
    ]
    while waiting:
        importer = waiting.pop()
        for level, name in imported(importer):
            parts = name.removeprefix("trainers.").split(".")
            if name.startswith("trainers.") or (
                level == 1 and not any(importer.is_relative_to(each) for each in below)
            ):
                other = module_in(path.parent, parts[0])
                if other is not None and other not in [path, *found]:
                    found.append(other)
                    waiting += [other] if other.is_file() else []
    return sorted(found)


def packages(paths: list[Path], repository: Path) -> list[Path]:
    """What files import by absolute names and have in their repository, in the folders above them."""
    found = {}
    for path in paths:
        for level, name in imported(path):
            top, *rest = name.split(".")
            is_ours = top == "datasets" and module_in(REPOSITORY / "datasets", "".join(rest[:1])) is not None
            if level or is_ours or top in ("dassl", "trainers", path.stem):
                continue
            for folder in path.parents:
                other = module_in(folder, top)
                if other is not None and folder != path.parent:
                    found.setdefault(top, other)
                if folder == repository:
                    break
    return list(found.values())


def attempts(path: Path, repository: Path) -> list[Attempt]:
    beside = siblings(path, [])
    below = packages([path, *(other for other in beside if other.is_file())], repository)
    beside = siblings(path, below)
    tries = [Attempt(path), Attempt(path, beside), Attempt(path, below=below), Attempt(path, beside, below)]
    if script := script_of(path, repository):
        tries.append(Attempt(path, beside, below, script.parent))
    return [each for i, each in enumerate(tries) if each not in tries[:i]]


def declared_keys(path: Path, repository: Path) -> list[str]:
    """`extend_cfg` of the train.py that is nearest above a file, as text; none: it has no such function."""
    script = script_of(path, repository)
    functions = [node for node in code_of(script).body if isinstance(node, ast.FunctionDef)] if script else []
    return [ast.unparse(node) for node in functions if node.name == "extend_cfg"][:1]


def flags(path: Path, repository: Path) -> dict:
    """What the flags of that train.py are where none is given, as far as its text says it."""
    script, found = script_of(path, repository), {}
    for node in ast.walk(code_of(script)) if script else ():
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("add_argument") and node.args:
            keys = {key.arg: key.value for key in node.keywords}
            with contextlib.suppress(ValueError):  # an expression
                name = ast.literal_eval(keys.get("dest", node.args[-1])).lstrip("-").replace("-", "_")
                is_switch = ast.unparse(keys.get("action", ast.Constant(""))) == "'store_true'"
                found[name] = ast.literal_eval(keys.get("default", ast.Constant(False if is_switch else None)))
    return found


def script_of(path: Path, repository: Path) -> Path | None:
    """The train.py that is nearest above a file."""
    above = [folder for folder in path.parents if folder.is_relative_to(repository)]
    return next((script for folder in above if (script := folder / "train.py").is_file()), None)
