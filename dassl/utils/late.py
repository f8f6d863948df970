"""Imports that wait until a name is asked for (PEP 562): what needs no PyTorch starts without it."""

import ast
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

__all__ = ["late_imports"]


def late_imports(name: str) -> tuple[Callable[[str], object], Callable[[], list[str]], list[str]]:
    """`__getattr__`, `__dir__` and `__all__` of a module whose imports under `if TYPE_CHECKING:` are to wait.

    Type checkers and editors read that block as it stands. Here it is read as a table, so each name stands once. A
    package's own modules can be asked for as well, as if they had been imported.
    """
    module = sys.modules[name]
    code = ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))
    blocks = [block for block in code.body if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"]
    waiting = {part: home for block in blocks for part, home in imports_in(block)}

    def get(part: str) -> object:
        if part in waiting:
            value = getattr(import_module(waiting[part], module.__package__), part)
        elif not part.startswith("_") and hasattr(module, "__path__") and find_spec(f"{name}.{part}"):
            value = import_module(f"{name}.{part}")
        else:
            raise AttributeError(f"module {name!r} has no attribute {part!r}")
        setattr(module, part, value)  # from now on it is found without this function
        return value

    public = [part for part, _ in imports_in(code) if part in waiting or part in vars(module)]
    return get, lambda: sorted(vars(module).keys() | waiting), sorted(public)


def imports_in(code: ast.AST) -> list[tuple[str, str]]:
    """(name, module) of each `from .module import name` in a piece of code."""
    lines = [node for node in ast.walk(code) if isinstance(node, ast.ImportFrom) and node.level]
    return [(alias.name, "." * line.level + (line.module or "")) for line in lines for alias in line.names]
