"""Every file of a package is imported, so that what it registers is found; one that fails stops none of the others."""

import ast
import pkgutil
import re
import sys
from importlib import import_module
from pathlib import Path

from .brought import FILE_OF
from .registry import LeftOut, Registry

__all__ = ["import_modules"]

REGISTERED = re.compile(r"register\([^)]*\)\s*\n(?:\s*@.*\n)*\s*(?:class|def)\s+(\w+)|register\((\w+)\)")


def import_modules(package: str, registry: Registry, passing_over: tuple[str, ...] = ()) -> None:
    """Import the modules of a package, which fill `registry`; what cannot be imported is left out of it, by name."""
    folder = Path(str(sys.modules[package].__file__)).parent
    for module in pkgutil.iter_modules([str(folder)]):
        if module.name in passing_over:
            continue
        file, init = f"{module.name}.py", f"{module.name}/__init__.py"
        is_package, is_file = (folder / init).is_file(), (folder / file).is_file()
        if is_package:
            import_one(folder, package, module.name, init, registry)
        if is_file:  # beside a package of its name, it is no other file's hindrance
            import_one(folder, package, FILE_OF * is_package + module.name, file, registry)


def import_one(folder: Path, package: str, name: str, file: str, registry: Registry) -> None:
    """Import a module, or a folder by its `__init__.py`."""
    try:
        import_module(f"{package}.{name}")
    except (Exception, SystemExit) as error:
        is_folder = file.endswith("/__init__.py")
        sources = sorted((folder / file).parent.rglob("*.py")) if is_folder else [folder / file]
        names = frozenset(found for source in sources for found in registered_in(source))
        registry.leave_out(LeftOut(f"{package.replace('.', '/')}/{file}", f"{package}.{name}", error, names))


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
