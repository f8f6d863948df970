"""A file of a user's may be called as any of ours, and register any name of ours (../../../trainers/shared/ours.py)."""

import ast
import hashlib
import json
import shutil
import subprocess
import sys

import pytest

import trainers as trainers  # registers
from dassl.engine import TRAINER_REGISTRY
from dassl.errors import InputError
from one_run import shown
from tests.helpers import REPOSITORY
from trainers.coop import CoOp
from trainers.shared.ours import OURS, gives_way, is_ours, other_files

METHOD = """
from dassl.engine import TRAINER_REGISTRY, TrainerX


@TRAINER_REGISTRY.register()
class {name}(TrainerX):
    pass
"""
THEIRS = {  # file in trainers/ -> the name that it registers, of this repository's
    "spotlighter.py": "Spotlighter",  # called as a package of ours that is a method,
    "adapters.py": "CLAP",  # is a family,
    "shared.py": "GDA",  # and is what all methods stand on
    "CoOp.py": "CoOp",
    "taskres.py": "TaskRes",
    "clip_adapter.py": "CLIPAdapter",
    "prompts.py": "TCP",
    "mmrl.py": "MMRL",  # in the place of ours
    "own_keys.py": "VPT",
}
SAID = """
import json
import trainers
import trainers.spotlighter.look as look
from trainers.shared.ours import TRAINER_REGISTRY, files_of_users, is_ours

names = TRAINER_REGISTRY.registered_names()
said = {"ours": [name for name in names if is_ours(TRAINER_REGISTRY.get(name))], "files": files_of_users(names)}
said["replaced"] = {name: TRAINER_REGISTRY.replaced(name) for name in names}
said["helper"] = TRAINER_REGISTRY.get("CLAP").helper
try:
    TRAINER_REGISTRY.get("MMRLpp")
except Exception as error:
    said["MMRLpp"] = f"{type(error).__name__}: {error}"
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    house = tmp_path_factory.mktemp("house")
    for folder in ("clip", "inert", "dassl", "trainers"):
        shutil.copytree(REPOSITORY / folder, house / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file, name in THEIRS.items():
        text = METHOD.format(name=name)
        if file == "shared.py":
            text += "\n\nHELPER = 'of a file called shared'\n"
        if file == "adapters.py":
            text += "    from .shared import HELPER as helper\n"
        if file == "own_keys.py":
            text += "    @classmethod\n    def extend_cfg(cls, cfg):\n        pass\n"
        (house / "trainers" / file).write_text(text)
    (house / "trainers/spotlighter/theirs").mkdir()
    (house / "trainers/spotlighter/theirs/part.py").write_text("")
    return house


@pytest.fixture(scope="module")
def said(house) -> dict:
    done = subprocess.run([sys.executable, "-c", SAID], cwd=house, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("file", THEIRS)
def test_a_users_file_is_taken(house, said, file):
    name, path = THEIRS[file], house / "trainers" / file
    stated = said["files"][name]
    assert (stated["file"], stated["sha256"]) == (f"trainers/{file}", hashlib.sha256(path.read_bytes()).hexdigest())
    assert ("brings" in stated) == (file == "spotlighter.py")  # the folder there; no module of our package
    if file == "mmrl.py":
        assert said["replaced"][name] == ""
    else:
        place = "spotlighter" if name == "Spotlighter" else f"{OURS[name].replace('.', '/')}.py"
        assert said["replaced"][name] == f"{name} is trainers/{file}'s, which takes the place of trainers/{place}'s."


def test_the_others_are_ours(said):
    assert set(said["ours"]) == OURS.keys() - set(THEIRS.values()) - {"MMRLpp"}
    assert said["helper"] == "of a file called shared"


def test_one_that_stands_on_a_file_that_was_replaced(said):
    """MMRL++ is made of MMRL's parts, which another mmrl.py has not."""
    sentence = said["MMRLpp"]
    assert sentence.startswith("InputError: trainers/mmrlpp.py cannot be imported, so there is no TRAINER MMRLpp: ")
    assert "trainers/mmrl.py is not the one that trainers/mmrlpp.py was written for" in sentence


def test_the_list_is_whole():
    kinds = {name: TRAINER_REGISTRY.get(name) for name in TRAINER_REGISTRY.registered_names()}
    here = {name: kind for name, kind in kinds.items() if kind.__module__.startswith("trainers.")}
    assert here.keys() == OURS.keys() and all(map(is_ours, here.values()))


def test_ours_name_a_module_of_a_package():
    """`from .shared import prompts` would find a file shared.py beside the package; `from .shared.prompts import ...` does not."""
    packages = {path.parent.name for path in REPOSITORY.glob("trainers/*/__init__.py")}
    for path in REPOSITORY.glob("trainers/*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                assert (node.level, node.module) not in {(1, package) for package in packages}, path


def test_who_gives_way():
    derived = type("CoOp", (CoOp,), {"__module__": "trainers.mine"})
    replaced = type("CoOp", (), {"__module__": "trainers.coop"})  # written for Dassl, and called as ours
    assert gives_way(CoOp, derived) and not gives_way(derived, CoOp) and not gives_way(derived, derived)
    assert (is_ours(CoOp), is_ours(derived), is_ours(replaced)) == (True, False, False)


@pytest.mark.parametrize(
    ("here", "there", "says"),
    [
        ({}, {}, []),
        ({}, None, []),  # a record of before says nothing
        ({"CoOp": {"file": "trainers/a.py", "sha256": "1"}}, None, []),
        ({"CoOp": {"file": "trainers/a.py", "sha256": "1"}}, {"CoOp": {"file": "trainers/b.py", "sha256": "1"}}, []),
        (
            {"CoOp": {"file": "trainers/a.py", "sha256": "1"}},
            {},
            ["CoOp is this repository's own there and trainers/a.py's here"],
        ),
        (
            {},
            {"CoOp": {"file": "trainers/a.py", "sha256": "1"}},
            ["CoOp is trainers/a.py's there and this repository's own here"],
        ),
        (
            {"CoOp": {"file": "trainers/a.py", "sha256": "2"}},
            {"CoOp": {"file": "trainers/a.py", "sha256": "1"}},
            ["trainers/a.py's CoOp, or what that file brings, has changed"],
        ),
        (
            {"CoOp": {"file": "trainers/a.py", "sha256": "1"}},
            {"CoOp": {"file": "trainers/a.py", "sha256": "1", "brings": "3"}},
            ["trainers/a.py's CoOp, or what that file brings, has changed"],
        ),
        ({}, {"CoOp": 5}, []),
    ],
)
def test_what_differs(here, there, says):
    assert other_files(here, there) == says


def test_their_spotlighter_selects_no_tokens_of_ours(tmp_path):
    record = {"method": "Spotlighter", "methods": {"Spotlighter": {"file": "trainers/spotlighter.py", "sha256": "1"}}}
    with pytest.raises(
        InputError, match=r"run of Spotlighter, as trainers/spotlighter.py has it, which selects no tokens"
    ):
        shown.check_spotlighter(tmp_path, record)
    shown.check_spotlighter(tmp_path, record | {"methods": {}})
