"""The arrows of the house: who may import whom, and that train.py names no method and no data set."""

import ast
import re
from pathlib import Path

import pytest

from dassl.data.datasets import DATASET_REGISTRY
from dassl.engine import TRAINER_REGISTRY
from tests.helpers import REPOSITORY as ROOT

SCRIPTS = {"train", "export", "parse_test_res", "predict", "show_tokens"}  # nobody imports them
PACKAGES = {
    "benchmarks", "clip", "dassl", "deploy", "datasets", "inert", "one_run", "pretraining", "reports", "sweep", "trainers",
}  # fmt: skip
OURS = SCRIPTS | PACKAGES
BASE = {"dassl.utils", "dassl.config", "dassl.metrics", "dassl.optim", "dassl.checkpoints"}
LEAVES = {
    "one_run.arguments",
    "one_run.command",
    "one_run.folder",
    "one_run.interrupts",
    "one_run.layout",
}  # without PyTorch
MAY_IMPORT = {
    "dassl.checkpoints": set(),
    "dassl.utils": {"dassl.checkpoints", "inert"},
    "dassl.config": set(),
    "dassl.metrics": set(),
    "dassl.optim": set(),
    "dassl.data": {"dassl.utils"},
    "dassl.evaluation": {"dassl.utils"},
    "dassl.modeling": {"dassl.utils"},
    "dassl.ranges": {"dassl.optim", "dassl.data"},
    "dassl.engine": BASE | {"dassl.data", "dassl.evaluation", "dassl.modeling"},
    "datasets": BASE | {"dassl.data", "clip", *LEAVES},  # clip for what its tokenizer cannot tell apart
    "datasets.prepare": {"dassl.utils", "dassl.data", "datasets", "clip", *LEAVES},  # clip for its downloader alone
    "datasets.verify": {"dassl.utils", "datasets", "datasets.prepare", *LEAVES},
    "inert": set(),
    "clip": {"inert"},
    "trainers": BASE | {"dassl.data", "dassl.evaluation", "dassl.engine", "clip", "inert"},
    **{name: {"dassl.utils"} for name in LEAVES},
    "one_run.command": {"one_run.interrupts", "dassl.utils"},
    "one_run.request": {"one_run.layout"},
    "one_run": BASE
    | {"dassl.ranges", "dassl.data", "dassl.engine", "datasets", "trainers", "clip"},  # for its weights' hash
    "sweep": {"dassl.config", "dassl.utils", "one_run"},
    "reports": LEAVES,
    "benchmarks": BASE
    | {"dassl.data", "dassl.engine", "datasets", "datasets.verify", "clip", "trainers", "one_run", "reports", "sweep"},
    "pretraining": {"clip", "datasets"},
    "train": {"one_run"},
    "parse_test_res": {"dassl.utils", "reports", "one_run"},
    "deploy": {"dassl.utils", "dassl.data", "one_run"},
    "export": {"deploy", "one_run"},
    "predict": {"dassl.utils", "datasets", "one_run"},
    "show_tokens": {"dassl.utils", "dassl.data", "trainers", "one_run"},
}
FAMILIES = {"adapters"}  # folders of trainers/ in which each file is a method
STANDS_ON = {"mmrlpp": "mmrl"}  # a method that is another one's by definition
NO_METHODS = {"shared", "imagenet_templates"}  # what they stand on, and a name that files written for CoOp import


def part_of(module: str) -> str:
    """dassl.engine.trainer -> dassl.engine; one_run.layout, which has arrows of its own, as it is; clip.model -> clip"""
    pieces = module.split(".")
    return ".".join(pieces[: 2 if pieces[0] == "dassl" or ".".join(pieces[:2]) in MAY_IMPORT else 1])


def is_allowed(part: str, allowed: set[str]) -> bool:
    """Who may import one_run may import its parts without PyTorch too."""
    return part in allowed or (part.startswith("one_run.") and "one_run" in allowed)


def imported(path: Path) -> set[str]:
    """Absolute names of all modules a file imports."""
    package = list(path.relative_to(ROOT).with_suffix("").parts)[:-1]
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            stem = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*stem, node.module] if node.module else stem)
            names |= {module} | (
                {f"{module}.{alias.name}" for alias in node.names}
                if module in ("dassl", "") or node.module is None
                else set()
            )
    return {name for name in names if name.split(".")[0] in OURS}


def sources() -> list[Path]:
    files = [path for package in sorted(PACKAGES) for path in (ROOT / package).rglob("*.py")]
    return [*files, *(ROOT / f"{name}.py" for name in sorted(SCRIPTS))]


def test_every_package_and_script_has_its_arrows():
    found = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests"}
    assert found == PACKAGES
    assert {path.stem for path in ROOT.glob("*.py")} == SCRIPTS


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_arrows(path):
    own = part_of(".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"))
    if own in ("dassl", "dassl.errors"):
        return  # they import nothing of ours
    allowed = MAY_IMPORT[own] | {own, "dassl.errors"}
    wrong = {name for name in imported(path) if not is_allowed(part_of(name), allowed) and name != "dassl"}
    assert not wrong, f"{path} may not import {wrong}"


def file_of(module: str) -> Path | None:
    """clip.model -> clip/model.py; clip -> clip/__init__.py; None where it is no module of ours."""
    stem = ROOT.joinpath(*module.split("."))
    return next((path for path in (stem.with_suffix(".py"), stem / "__init__.py") if path.is_file()), None)


def files_imported(path: Path) -> set[Path]:
    """The modules that a file imports, wherever in it: `from clip import model` is clip/model.py alone."""
    package = list(path.relative_to(ROOT).parts)[:-1]
    files = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            files |= {file_of(alias.name) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            stem = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*stem, *filter(None, [node.module])])
            files |= {file_of(f"{module}.{alias.name}") or file_of(module) for alias in node.names}
    return files - {None}


def circle_through(path: Path, graph: dict[Path, set[Path]]) -> list[Path]:
    """A shortest way of imports from a module back to itself; empty where there is none."""
    ways = [[path]]
    seen = set()
    for way in ways:
        for file in sorted(graph[way[-1]] - seen):
            if file == path:
                return way
            seen.add(file)
            ways.append([*way, file])
    return []


@pytest.mark.parametrize("package", sorted({path.relative_to(ROOT).parts[0] for path in sources() if path.parent != ROOT}))  # fmt: skip
def test_no_circles(package):
    """No module imports itself by way of others of its package; a package's __init__ is one of them."""
    inside = set((ROOT / package).rglob("*.py"))
    graph = {path: files_imported(path) & inside for path in inside}
    circles = {path: circle_through(path, graph) for path in sorted(inside)}
    names = [" -> ".join(str(file.relative_to(ROOT)) for file in circle) for circle in circles.values() if circle]
    assert not names


def test_no_script_is_imported():
    for path in sources():
        assert not {name for name in imported(path) if name.split(".")[0] in SCRIPTS}, path


def modules_of_methods() -> dict[str, list[Path]]:
    """By name (`coop`, `adapters.clip_adapter`), a method's modules, which may import each other: a file, or a folder."""
    folder, found = ROOT / "trainers", {}
    for path in [*folder.iterdir(), *(path for family in FAMILIES for path in (folder / family).iterdir())]:
        name = ".".join(path.relative_to(folder).with_suffix("").parts)
        if path.suffix == ".py":
            found[name] = [path]
        elif (path / "__init__.py").is_file() and name not in FAMILIES:
            found[name] = [*path.rglob("*.py")]
    return {name: found[name] for name in found if name not in NO_METHODS and path_ends(name) != "__init__"}


def path_ends(name: str) -> str:
    return name.rpartition(".")[2]


def test_a_method_imports_no_other_method():
    methods = modules_of_methods()
    assert {"coop", "spotlighter", "adapters.clip_adapter"} <= set(methods)
    for name, paths in methods.items():
        others = tuple(f"trainers.{other}" for other in set(methods) - {name, STANDS_ON.get(name)})
        for path in paths:
            found = imported(path)
            assert not {module for module in found if f"{module}.".startswith(tuple(f"{x}." for x in others))}, path


def test_train_knows_nobody_by_name():
    code = ast.parse((ROOT / "train.py").read_text())
    for node in ast.walk(code):  # documentation may name an example
        body = getattr(node, "body", None)
        if (
            isinstance(body, list)
            and body
            and isinstance(body[0], ast.Expr)
            and isinstance(body[0].value, ast.Constant)
        ):
            body[0].value.value = ""
    text = ast.unparse(code).lower()
    import datasets  # noqa: F401  registers
    import trainers  # noqa: F401

    for registry, package in ((TRAINER_REGISTRY, "trainers"), (DATASET_REGISTRY, "datasets")):
        ours = [name for name in registry.registered_names() if registry.get(name).__module__.startswith(package)]
        assert ours
        for name in ours:
            assert not re.search(rf"(?<![a-z]){name.lower()}(?![a-z])", text), f"train.py names {name}"
