"""What the pages say is there: files, headings, configs, commands and their options, config keys, versions."""

import functools
import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from yacs.config import CfgNode

import datasets as datasets  # importing registers the data sets
import trainers as trainers  # and the methods
from dassl.config import get_cfg_default
from dassl.data.datasets import DATASET_REGISTRY
from dassl.engine import TRAINER_REGISTRY
from one_run.layout import GROUPS
from sweep import one
from sweep.protocols import find_method
from tests.helpers import REPOSITORY

PAGES = sorted(
    [*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").glob("*.md"), *REPOSITORY.glob("[a-z]*/README.md")],
    key=lambda page: page.relative_to(REPOSITORY),
)
CONFIGS = REPOSITORY / "configs"
INVENTED = {  # by docs/extending.md, for a method that somebody adds, or of somebody else
    "scripts/mymethod", "trainers/theirs.py", "trainers/theirs/clip/", "trainers/theirs/losses.py", "independentVL.py",
    "trainers/mine.py", "scripts/mine/", "configs/trainers/Mine", "configs/trainers/Mine/defaults.yaml", "TRAINER.MINE.N_CTX",
}  # fmt: skip
TO_FILL_IN = re.compile(r"(^|/)[A-Z_]+(\.sh|\.yaml)?(/|$)")  # parts of a path such as METHOD, CFG.yaml
LOAD_TORCH = ("benchmarks", "pretraining", "show_tokens")  # before they print their --help, so their text is read
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))


def code_of(page: Path) -> list[str]:
    """All that is set as code: the lines of blocks, joined where they go on, and what stands in backticks."""
    text = page.read_text()
    blocks = re.findall(r"^ *```\w*\n(.*?)^ *```", text, flags=re.MULTILINE | re.DOTALL)
    rest = re.sub(r"^ *```.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [*(line.split("  #")[0] for line in lines), *re.findall(r"`([^`]+)`", rest)]


def headings(page: Path) -> set[str]:
    """As GitHub links them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def test_the_readme_is_short():
    assert len((REPOSITORY / "README.md").read_text().splitlines()) <= 130


@each_page
def test_links(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if link.startswith("https://"):
            continue
        path, _, heading = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not heading or heading in headings(target), link


@each_page
def test_paths(page):
    """What begins with a folder of this repository, or looks like a file of it, is there."""
    folders = {path.name for path in REPOSITORY.iterdir() if path.is_dir()} - {"data", "output"}
    for word in (word.strip("(),:;.") for code in code_of(page) for word in code.split()):
        path = word.partition("::")[0]
        if not re.fullmatch(r"[\w./-]+", path) or "..." in path or TO_FILL_IN.search(path) or path in INVENTED:
            continue
        if (path.split("/")[0] in folders and "/" in path) or re.fullmatch(r"[a-z]\w+\.(py|sh)", path):
            places = (
                REPOSITORY / path,
                page.parent / path,
                REPOSITORY / "trainers" / path,
                REPOSITORY / "scripts/coop" / path,
                REPOSITORY / "deploy" / path,
            )
            assert any(place.exists() for place in places), path


@each_page
def test_configs(page):
    """CFG=... of a script is a config of its method; a name that looks like a config's is one."""
    stems = {path.stem for path in CONFIGS.rglob("*.yaml")} | GROUPS.keys()
    for code in code_of(page):
        for name in re.findall(r"CFG=(\w+)", code):
            script = re.search(r"scripts/(\w+)/", code)
            method = find_method(script[1]).name if script else "*"
            assert [*CONFIGS.glob(f"trainers/{method}/{name}.yaml")], code
        if re.fullmatch(r"(vit_[bl]\d+|embedded)(_\w+)?", code):
            assert code in stems, code
        for name in re.findall(r"scripts/\w+/(?:base2new_train|base2new_test|few_shot)\.sh (\w+)", code):
            assert name == "DATASET" or (CONFIGS / "datasets" / f"{name}.yaml").is_file(), code


def commands(page: Path) -> list[tuple[str, list[str]]]:
    """(train.py or a module's name, options) of each call of Python that a page shows."""
    found = []
    for code in code_of(page):
        if call := re.search(r"\bpython (?:-m ([\w.]+)|(\w+\.py))(.*)", code):
            found.append((call[1] or call[2], re.findall(r"(?<=\s)--[\w-]+", call[3])))
    return found


def source_of(command: str) -> str:
    """The text of a script, of a module or of a package, with that of its neighbours, which may add options."""
    path = REPOSITORY / (command if command.endswith(".py") else command.replace(".", "/"))
    files = [*path.glob("*.py")] if path.is_dir() else [path if path.suffix else path.with_suffix(".py")]
    assert files and all(file.is_file() for file in files), command
    files += path.parent.glob("*.py") if "/" in str(path.relative_to(REPOSITORY)) else []
    text = "".join(file.read_text() for file in files)
    return text + ((REPOSITORY / "one_run/arguments.py").read_text() if "one_run.arguments" in text else "")


@functools.cache
def help_of(command: str) -> str:
    call = [command] if command.endswith(".py") else ["-m", command]
    return subprocess.run([sys.executable, *call, "--help"], capture_output=True, text=True, cwd=REPOSITORY).stdout


@each_page
def test_commands(page):
    """They are there, and know the options that they are shown with."""
    for command, options in commands(page):
        if command in ("pytest", "pip", "venv"):
            continue
        text, quote = source_of(command), '"'
        if options and not command.startswith(LOAD_TORCH):
            text, quote = help_of(command), ""
        for option in options:
            assert re.search(rf"{quote}{option}\b{quote}", text), f"{command} {option}"


@functools.cache
def all_options() -> set[str]:
    """Of all commands here."""
    packages = ("benchmarks", "datasets", "one_run", "pretraining", "sweep", "tests/drop_in")
    files = [*REPOSITORY.glob("*.py"), *(path for package in packages for path in (REPOSITORY / package).rglob("*.py"))]
    return {option for path in files for option in re.findall(r'"(--[\w-]+)"', path.read_text())} | {"--help"}


@each_page
def test_options(page):
    """An option that stands alone in the text is one of some command."""
    named = {option for code in code_of(page) for option in re.findall(r"(?:^|\s)(--[a-z][\w-]*)", code)}
    assert named <= all_options()


@pytest.fixture(scope="module")
def config() -> CfgNode:
    """All keys that there are."""
    cfg = get_cfg_default()
    for registry in (TRAINER_REGISTRY, DATASET_REGISTRY):
        for name in registry.registered_names():
            if hasattr(registry.get(name), "extend_cfg"):
                registry.get(name).extend_cfg(cfg)
    return cfg


@each_page
def test_config_keys(page, config):
    for code in code_of(page):
        for key in re.findall(rf"\b((?:{'|'.join(config)})(?:\.[A-Z_]+)+)\b", code):
            node = config
            for part in key.split(".") if key not in INVENTED else ():
                assert part in node, key
                node = node[part]


def test_all_methods_have_a_row():
    rows = (REPOSITORY / "docs/methods.md").read_text()
    folders = [path.name for path in (REPOSITORY / "scripts").iterdir() if path.is_dir() and path.name != "__pycache__"]
    for folder in folders:
        assert re.search(rf"^\| .*`{find_method(folder).name}`.* \| .*`{folder}`.* \|", rows, re.MULTILINE), folder


def test_all_data_sets_have_a_row():
    rows = (REPOSITORY / "docs/data.md").read_text()
    for path in (CONFIGS / "datasets").glob("*.yaml"):
        assert path.stem.startswith("embedded_") or re.search(rf"^\| .*`{path.stem}`", rows, re.MULTILINE), path


def test_all_variables_of_the_scripts_have_a_row():
    rows = (REPOSITORY / "docs/sweeps.md").read_text()
    variables = set(re.findall(r"^  ([A-Z_]{3,})  +", one.__doc__.split("Environment")[1], re.MULTILINE))
    assert "CFG" in variables
    for variable in variables:
        assert re.search(rf"^\| .*`{variable}`", rows, re.MULTILINE), variable


# --- versions ----------------------------------------------------------------------------------------------------


def requirements(name: str) -> dict[str, Requirement]:
    lines = [line.split("#")[0].strip() for line in (REPOSITORY / name).read_text().splitlines()]
    found = [Requirement(line) for line in lines if line and not line.startswith("-")]
    return {re.sub("[-_.]+", "-", requirement.name).lower(): requirement for requirement in found}


def test_constraints():
    """Each names one version; they cover all that is required, and are within what is required."""
    files = ("requirements.txt", "requirements-export.txt", "requirements-test.txt")
    required = {name: requirement for file in files for name, requirement in requirements(file).items()}
    constraints, versions = requirements("constraints.txt"), {}
    for name, constraint in constraints.items():
        (pin,) = constraint.specifier
        assert pin.operator == "==" and "+" not in pin.version, name
        versions[name] = pin.version
    for name, requirement in required.items():
        assert requirement.specifier.contains(versions[name]), name
