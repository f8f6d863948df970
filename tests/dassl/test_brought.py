"""What a file brings with it, in the folder of its name (../dassl/utils/brought.py): its imports find it, nobody else's do."""

import pickle
import subprocess
import sys
import textwrap

import pytest

from dassl.utils import Registry, import_modules
from tests.helpers import REPOSITORY

ZOO = {
    "__init__.py": "from dassl.utils import find_what_is_brought\nfind_what_is_brought(__name__)\n",
    "mine.py": """
        from food import food, KIND
        import food.cooking as cooking
        import food.cooking
        from .food import KIND as NEAR
        from . import food as near, plain
        import tools
        from bare.inside import KIND as BARE

        def later():
            from food.cooking import boil
            import food
            return boil, food.KIND
    """,
    "mine/food/__init__.py": "KIND = 'mine'\nfrom .food import *\nfrom . import food\n",
    "mine/food/food.py": "from food.cooking import boil\nfrom .cooking import boil as same\nclass Meal: pass\n",
    "mine/food/cooking.py": "from . import KIND\ndef boil(): return KIND\n",
    "mine/bare/inside.py": "import food\nKIND = food.KIND\n",
    "mine/tools.py": "import food\nNAME = food.KIND + ' tools'\n",
    "other.py": "from food import food, KIND\nimport food.cooking as cooking\n",
    "other/food/__init__.py": "KIND = 'other'\nfrom . import food\n",
    "other/food/food.py": "",
    "other/food/cooking.py": "",
    "plain.py": "from food import KIND\ndef later():\n    import food\n    return food.KIND\n",
    "folder/__init__.py": "from food import KIND\nfrom .food import KIND as NEAR\nfrom . import inner\n",
    "folder/inner.py": "import food\nimport tools as theirs\nKIND = food.KIND\n",
    "folder/tools.py": "raise AssertionError('found by relative imports alone')\n",
    "folder/food/__init__.py": "KIND = 'the folder'\n",
    "family/__init__.py": "",
    "family/member.py": "from food import KIND\n",
    "family/member/food/__init__.py": "KIND = 'the member'\n",
    "family/aunt.py": "from food import KIND\n",
}  # fmt: skip
EVERYBODYS = {
    "food/__init__.py": "KIND = 'everybody'\n",
    "food/food.py": "",
    "food/cooking.py": "",
    "tools.py": "NAME = 'everybody'\n",
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A package `stall` whose files bring other packages of names that everybody knows."""
    files = {f"stall/{name}": text for name, text in ZOO.items()} | EVERYBODYS
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(textwrap.dedent(text).replace("\n", "\r\n" if name == "stall/mine.py" else "\n").encode())
    monkeypatch.syspath_prepend(tmp_path)
    finders = list(sys.meta_path)
    yield tmp_path
    sys.meta_path[:] = finders
    for name in [name for name in sys.modules if name.split(".")[0] in ("stall", "food", "tools")]:
        del sys.modules[name]


def test_a_file_finds_its_own(folder):
    from stall import mine

    assert mine.KIND == mine.NEAR == "mine" and mine.cooking.boil() == "mine" and mine.tools.NAME == "mine tools"
    assert mine.BARE == "mine"
    assert mine.near.KIND == "mine" and mine.plain.KIND == "everybody"
    boil, kind = mine.later()  # long after it was imported
    assert boil is mine.cooking.boil is mine.near.food.boil is mine.near.food.same and kind == "mine"
    assert mine.food is mine.near, "`import food.cooking` binds the package"


def test_nobody_else_does(folder):
    import food
    from stall import mine, other, plain  # noqa: F401

    assert (food.KIND, other.KIND, plain.KIND, plain.later()) == ("everybody", "other", "everybody", "everybody")
    assert other.cooking.__file__ == str(folder / "stall/other/food/cooking.py")
    assert food.__file__ == str(folder / "food/__init__.py")


def test_a_folder_and_families(folder):
    from stall import folder as package
    from stall.family import aunt, member

    assert (
        package.KIND == package.NEAR == package.inner.KIND == "the folder" and package.inner.theirs.NAME == "everybody"
    )
    assert (member.KIND, aunt.KIND) == ("the member", "everybody")


BOTH = {
    "both.py": "from food import KIND\nclass Kind: pass\n",
    "both/food/__init__.py": "KIND = 'the file'\n",
    "both/__init__.py": "from food import KIND\nfrom . import inner\n",
    "both/inner.py": "from food import KIND\n",
    "reader.py": "from .both import KIND\nfrom stall.both import KIND as SAME\nfrom .both.inner import KIND as INNER\n",
}


def import_both(folder) -> Registry:
    for name, text in BOTH.items():
        (folder / "stall" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "stall" / name).write_text(text)
    import stall  # noqa: F401

    registry = Registry("KIND")
    import_modules("stall", registry)
    return registry


def test_a_file_beside_a_package_of_its_name(folder):
    """Each finds its own, and what the file brings is not the package's; other files that name it mean the file."""
    assert import_both(folder).left_out() == ""
    import stall

    assert stall.both.KIND == stall.both.inner.KIND == "everybody" and stall.file_of_both.KIND == "the file"
    assert stall.reader.KIND == stall.reader.SAME == "the file" and stall.reader.INNER == "everybody"
    kind = pickle.loads(pickle.dumps(stall.file_of_both.Kind))
    assert kind is stall.file_of_both.Kind


@pytest.mark.parametrize(
    ("broken", "left_out"), [("both.py", "stall/both.py"), ("both/inner.py", "stall/both/__init__.py")]
)
def test_whichever_of_both_is_broken(folder, monkeypatch, broken, left_out):
    monkeypatch.setitem(BOTH, broken, "1 / 0\n")
    said = import_both(folder).left_out()
    assert f"{left_out} (ZeroDivisionError" in said or (f"{left_out}, stall/reader.py (Zero" in said)
    assert ("stall.both" in sys.modules) == (broken == "both.py")
    assert ("stall.file_of_both" in sys.modules) == (broken != "both.py")


def test_what_is_brought_can_be_pickled(folder):
    from stall import mine

    meal = pickle.dumps([mine.near.food.Meal(), mine.cooking.boil])
    code = f"import pickle; meal, boil = pickle.loads({meal!r}); print(type(meal).__module__, boil())"
    where = {"PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, env=where, capture_output=True, text=True)
    assert done.stdout.split() == ["stall.packages_of_mine.food.food", "mine"], done.stderr


def test_a_file_without_a_folder_is_left_alone(folder):
    from stall import plain
    from stall.family import aunt

    assert plain.__loader__.__class__ is aunt.__loader__.__class__ is pytest.__loader__.__class__
