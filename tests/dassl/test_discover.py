"""A file that cannot be imported is named when it is asked for, and stops no other (../dassl/utils/discover.py)."""

import shutil
import subprocess
import sys
import traceback

import pytest

from dassl.data.datasets import DATASET_REGISTRY
from dassl.engine import TRAINER_REGISTRY
from dassl.utils import InputError, Registry, import_modules
from tests.helpers import REPOSITORY

HEAD = "from zoo import ANIMALS\n"
FILES = {
    "cat": HEAD + "@ANIMALS.register()\nclass Cat: pass\n",
    "dog": HEAD + "@ANIMALS.register()\nclass Dog: pass\n@ANIMALS.register()\nclass Wolf: pass\nWolf.howl()\n",
    "duck": "import no_such_package\n"
    + HEAD
    + "@ANIMALS.register(force=True)\nclass Mallard: pass\n@ANIMALS.register()\ndef Teal(): pass\n",
    "newt": "def (\n",
    "toad": "import no_such_package\nraise SystemExit\n",
    "shed": "raise AssertionError('this one is passed over')\n",
}


@pytest.fixture
def zoo(tmp_path, monkeypatch):
    """The registry that a package fills, some of whose files fail."""
    (tmp_path / "zoo").mkdir()
    code = "from dassl.utils import Registry, import_modules\nANIMALS = Registry('ANIMAL')\n"
    (tmp_path / "zoo/__init__.py").write_text(code + "import_modules(__name__, ANIMALS, passing_over=('shed',))\n")
    for name, text in FILES.items():
        (tmp_path / f"zoo/{name}.py").write_text(text)
    (tmp_path / "zoo/fish").mkdir()
    (tmp_path / "zoo/fish/__init__.py").write_text("from . import pond\nraise SystemExit('dried up')\n")
    (tmp_path / "zoo/fish/pond.py").write_text(HEAD + "@ANIMALS.register()\nclass Carp: pass\n")
    (tmp_path / "zoo/birds").mkdir()  # a family: one more folder in which each file counts
    (tmp_path / "zoo/birds/__init__.py").write_text(
        HEAD + "from dassl.utils import import_modules\nimport_modules(__name__, ANIMALS)\n"
    )
    (tmp_path / "zoo/birds/finch.py").write_text(HEAD + "@ANIMALS.register()\nclass Finch: pass\n")
    (tmp_path / "zoo/birds/kiwi.py").write_text(HEAD + "@ANIMALS.register()\nclass Kiwi: pass\nKiwi.fly()\n")
    monkeypatch.syspath_prepend(tmp_path)
    import zoo

    yield zoo.ANIMALS
    for name in [name for name in sys.modules if name.split(".")[0] == "zoo"]:
        del sys.modules[name]


def test_the_others_work(zoo):
    assert zoo.registered_names() == ["Finch", "Cat"]
    assert zoo.get("Cat").__module__ == "zoo.cat" and zoo.get("Finch").__module__ == "zoo.birds.finch"


@pytest.mark.parametrize(
    ("name", "file", "reason"),
    [
        ("Dog", "dog.py", "AttributeError: type object 'Wolf' has no attribute 'howl'"),  # registered, then it failed
        ("Wolf", "dog.py", "AttributeError"),
        ("Mallard", "duck.py", "ModuleNotFoundError: No module named 'no_such_package'"),  # told by the file's text
        ("Teal", "duck.py", "ModuleNotFoundError"),  # a function may be registered too
        ("DUCK", "duck.py", "ModuleNotFoundError"),  # or its name
        ("Newt", "newt.py", "SyntaxError"),
        ("Carp", "fish/__init__.py", "SystemExit: dried up"),
        ("Kiwi", "birds/kiwi.py", "AttributeError: type object 'Kiwi' has no attribute 'fly'"),
    ],
)
def test_its_name_gives_its_error(zoo, name, file, reason):
    with pytest.raises(ImportError) as caught:
        zoo.get(name)
    sentence = f"zoo/{file} cannot be imported, so there is no ANIMAL {name}: {reason}"
    assert str(caught.value).startswith(sentence)
    lines = "".join(traceback.format_exception(caught.value))
    assert f"zoo/{file}" in lines.partition(sentence)[0]  # the traceback of the file itself comes first


def test_an_unknown_name(zoo):
    with pytest.raises(InputError, match="The PET 'Cow' is unknown; the nearest name is 'Cat'") as caught:
        zoo.check("Cow", kind="PET")
    assert "zoo/duck.py, zoo/toad.py (ModuleNotFoundError: No module named 'no_such_package')" in str(caught.value)
    assert "zoo/dog.py (AttributeError" in str(caught.value) and "shed" not in str(caught.value)


def test_a_name_that_stands_twice(zoo, tmp_path):
    """The second file is left out, and its name is refused rather than taken from the first."""
    (tmp_path / "zoo/lion.py").write_text(FILES["cat"])
    zoo.__init__("ANIMAL")
    for module in ("zoo.cat", "zoo.lion"):
        sys.modules.pop(module, None)
    import_modules("zoo", zoo)
    with pytest.raises(InputError, match=r"zoo/lion\.py .*registers a ANIMAL named Cat, as zoo/cat\.py does already"):
        zoo.get("Cat")


def test_no_file_of_ours_is_left_out():
    import datasets  # noqa: F401  registers
    import trainers  # noqa: F401

    assert TRAINER_REGISTRY.left_out() == DATASET_REGISTRY.left_out() == Registry("ANIMAL").left_out() == ""


def test_train(tmp_path):
    """The command: a user's broken file stops no method, and is named with its traceback where it is asked for."""
    house = tmp_path / "house"
    for folder in ("clip", "inert", "dassl", "datasets", "one_run", "trainers", "configs"):
        shutil.copytree(REPOSITORY / folder, house / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(REPOSITORY / "train.py", house)
    (house / "trainers/mine.py").write_text(
        "from dassl.engine import TRAINER_REGISTRY\n\n@TRAINER_REGISTRY.register()\nclass Mine:\n    steps = 1 / 0\n"
    )

    def call(*options):
        line = [sys.executable, "train.py", *options]
        return subprocess.run(line, cwd=house, capture_output=True, text=True)

    unknown, mine, none = call("--trainer", "Nope"), call("TRAINER.NAME", "Mine"), call()
    assert none.returncode == 2 and "pass --trainer" in none.stderr
    assert unknown.returncode == 2 and "CLIPFit, CLIPLoRA, CoCoOp, CoOp, " in unknown.stderr
    for said in (unknown, none):
        assert (
            "Not there, as it cannot be imported: trainers/mine.py (ZeroDivisionError: division by zero)" in said.stderr
        )
    assert mine.returncode == 1 and "steps = 1 / 0" in mine.stderr
    last = "ImportError: trainers/mine.py cannot be imported, so there is no TRAINER Mine: ZeroDivisionError"
    assert mine.stderr.splitlines()[-1].startswith(last)
