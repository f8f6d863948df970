"""Unpacking (../datasets/prepare/download.py): by content, whole, and nothing gets outside."""

import tarfile
import zipfile

import pytest

from dassl.utils import InputError
from datasets.prepare.download import unpack
from tests.datasets.archives import IMAGES, link, tar_of, tree, under, zip_of


@pytest.mark.parametrize(
    "make", [tar_of, lambda files: tar_of(files, "w"), lambda files: tar_of(files, "w:xz"), zip_of]
)
def test_unpacks_by_content_whatever_the_name(tmp_path, make):
    (tmp_path / "archive").write_bytes(make(under("images")))
    unpack(str(tmp_path / "archive"), str(tmp_path / "out"))
    assert tree(tmp_path / "out") == set(under("images"))


OUTSIDE = {
    "dots": tar_of({"../evil": b"x"}),
    "dots inside": tar_of({"images/../../evil": b"x"}),
    "symbolic link": tar_of({}, "w", link("images", ".."), link("images/evil", "x")),
    "absolute link": tar_of({}, "w", link("evil", "/etc/passwd")),
    "hard link": tar_of({}, "w", link("evil", "../target", tarfile.LNKTYPE)),
    "device": tar_of({}, "w", link("evil", "", tarfile.CHRTYPE)),
    "zip dots": zip_of({"../evil": b"x"}),
    "zip absolute": zip_of({"/evil": b"x"}),
    "zip drive": zip_of({"c:/evil": b"x"}),
    "zip backslashes": zip_of({"..\\evil": b"x"}),
}


@pytest.mark.parametrize("archive", OUTSIDE.values(), ids=list(OUTSIDE))
def test_nothing_gets_outside(tmp_path, archive):
    (tmp_path / "archive").write_bytes(archive)
    with pytest.raises(InputError, match="archive cannot be unpacked"):
        unpack(str(tmp_path / "archive"), str(tmp_path / "out"))
    assert not {path for path in tree(tmp_path) if "evil" in path}


def test_an_absolute_path_in_a_tar_lands_inside(tmp_path):
    """The standard library's filter takes its first slash away."""
    (tmp_path / "archive").write_bytes(tar_of({f"{tmp_path}/evil": b"x"}))
    unpack(str(tmp_path / "archive"), str(tmp_path / "out"))
    assert not (tmp_path / "evil").exists() and (tmp_path / "out" / str(tmp_path).lstrip("/") / "evil").is_file()


def test_a_link_in_a_zip(tmp_path):
    entry = zipfile.ZipInfo("evil")
    entry.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "archive", "w") as file:
        file.writestr(entry, "/etc/passwd")
    with pytest.raises(InputError, match="evil is a link"):
        unpack(str(tmp_path / "archive"), str(tmp_path / "out"))


@pytest.mark.parametrize("content", [b"", b"text", tar_of(IMAGES)[:-3000], zip_of(IMAGES)[:-30]])
def test_half_an_archive(tmp_path, content):
    (tmp_path / "archive").write_bytes(content)
    with pytest.raises(InputError, match=r"archive cannot be unpacked \(.+\): fetch it again\.$"):
        unpack(str(tmp_path / "archive"), str(tmp_path / "out"))
