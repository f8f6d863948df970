"""Names of a package that wait until they are asked for (../dassl/utils/late.py), and what starts without PyTorch."""

import sys

import pytest

from tests.helpers import loaded_after

HEAVY = ("torch", "numpy", "PIL")


@pytest.mark.parametrize(
    "code",
    [
        "import dassl.errors",
        "import dassl.config",
        "from dassl.utils import InputError, Registry, check_availability, read_json, replace_file, write_json",
        "from dassl.utils import check_isfile, listdir_nohidden, mkdir_if_missing, setup_logger",
    ],
)
def test_without_pytorch(code):
    assert not loaded_after(code, HEAVY)


def test_a_name_that_waited():
    assert loaded_after("from dassl.utils import count_num_param", HEAVY) >= {"torch"}


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package with one name at hand, one that waits, and a module beside them."""
    folder = tmp_path / "larder"
    folder.mkdir()
    (folder / "__init__.py").write_text(
        "from typing import TYPE_CHECKING\n"
        "from dassl.utils.late import late_imports\n"
        "from .bread import loaf as loaf\n"
        "if TYPE_CHECKING:\n    from .cheese import slice as slice\n"
        "if False:\n    from .salt import pepper as pepper\n"
        "__getattr__, __dir__, __all__ = late_imports(__name__)\n"
    )
    (folder / "bread.py").write_text("loaf = 1\n")
    (folder / "cheese.py").write_text("slice = 2\n")
    (folder / "salt.py").write_text("grain = 3\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield "larder"
    for name in [name for name in sys.modules if name.split(".")[0] == "larder"]:
        del sys.modules[name]


def test_a_package(package):
    import larder

    assert "larder.bread" in sys.modules and "larder.cheese" not in sys.modules
    assert {"loaf", "slice"} <= set(dir(larder)) and larder.__all__ == ["loaf", "slice"]
    assert larder.slice == 2 and "larder.cheese" in sys.modules and vars(larder)["slice"] == 2
    assert larder.salt.grain == 3
    with pytest.raises(AttributeError, match="module 'larder' has no attribute 'pepper'"):
        larder.pepper  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'pepper'"):
        from larder import pepper  # noqa: F401


def test_from_import_and_star(package):
    names: dict = {}
    exec("from larder import slice as piece\nfrom larder import *", names)
    assert names["piece"] == names["slice"] == 2 and names["loaf"] == 1


def test_public_names_are_where_they_were():
    import dassl.utils

    for name in dassl.utils.__all__:
        assert getattr(dassl.utils, name) is not None
    assert dassl.utils.tools.read_json is dassl.utils.read_json
