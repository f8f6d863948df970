"""Every file of a package is imported, so that what it registers is found; one that fails stops none of the others."""

import ast
import pkgutil
import re
import sys
from importlib import import_module
from pathlib import Path

from .registry import LeftOut, Registry

__all__ = ["import_modules"]

REGISTERED = re.compile(r"register\([^)]*\)\s*\n(?:\s*@.*\n)*\s*(?:class|def)\s+(\w+)|register\((\w+)\)")


def import_modules(package: str, registry: Registry, passing_over: tuple[str, ...] = ()) -> None:
    """Import the modules of a package, which fill `registry`; what cannot be imported is left out of it, by name."""
    folder = Path(str(sys.modules[package].__file__)).parent
    for module in pkgutil.iter_modules([str(folder)]):
        if module.name in passing_over:
            continue
        name = f"{package}.{module.name}"
        try:
            import_module(name)
        except (Exception, SystemExit) as error:
            file = f"{module.name}.py"
            sources = [folder / file]
            if not sources[0].is_file():
                file, sources = f"{module.name}/__init__.py", sorted((folder / module.name).rglob("*.py"))
            names = frozenset(found for source in sources for found in registered_in(source))
            registry.leave_out(LeftOut(f"{package.replace('.', '/')}/{file}", name, error, names))


def registered_in(source: Path) -> set[str]:
    """The names that a file registers, told by its code alone, or by its text where it is no Python."""
    text = source.read_text(encoding="utf-8", errors="replace")
    try:
        code = ast.parse(text)
    except (SyntaxError, ValueError):
        return {decorated or given for decorated, given in REGISTERED.findall(text)}
    definitions = (ast.ClassDef, ast.FunctionDef)
    calls = [
        node for node in ast.walk(code) if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("register")
    ]
    decorated = {
        node.name
        for node in ast.walk(code)
        if isinstance(node, definitions) and any(call in node.decorator_list for call in calls)
    }
    return decorated | {call.args[0].id for call in calls if call.args and isinstance(call.args[0], ast.Name)}
