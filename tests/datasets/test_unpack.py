"""Unpacking (../datasets/prepare/unpack.py): by content, whole, nothing gets outside, and nothing fills the disk."""

import io
import shutil
import tarfile
import zipfile
from collections import namedtuple

import pytest

from dassl.utils import InputError
from datasets.prepare.unpack import SMALL, unpack
from tests.datasets.archives import IMAGES, link, tar_of, tree, under, zip_of

TARS = {mode: lambda files, mode=mode: tar_of(files, mode) for mode in ("w", "w:gz", "w:bz2", "w:xz")}


@pytest.mark.parametrize("make", [*TARS.values(), zip_of], ids=[*TARS, "zip"])
@pytest.mark.parametrize("name", ["archive", "archive.zip", "archive.tar.gz"])
def test_unpacks_by_content_whatever_the_name(tmp_path, make, name):
    (tmp_path / name).write_bytes(make(under("images")))
    unpack(str(tmp_path / name), str(tmp_path / "out"))
    assert tree(tmp_path / "out") == set(under("images"))


def test_what_an_archive_is_its_first_bytes_say(tmp_path):
    """A tar whose first name begins as a zip does, and one that has a zip at its end, are tars."""
    (tmp_path / "archive").write_bytes(tar_of({"PK/1.jpg": b"x", "2.zip": zip_of({"evil": b"x"})}, "w"))
    unpack(str(tmp_path / "archive"), str(tmp_path / "out"))
    assert tree(tmp_path / "out") == {"PK/1.jpg", "2.zip"}


def test_slashes_go_either_way_and_dots_stay_where_they_are(tmp_path):
    for make in (tar_of, zip_of):
        (tmp_path / "archive").write_bytes(make({"./images/./a/1.jpg": b"x", "images\\b\\2.jpg": b"y"}))
        unpack(str(tmp_path / "archive"), str(tmp_path / make.__name__))
        assert tree(tmp_path / make.__name__) == {"images/a/1.jpg", "images/b/2.jpg"}


def entry(name: str, mode: int, content: str = "x") -> bytes:
    """A zip of one member of some kind."""
    info, buffer = zipfile.ZipInfo(name), io.BytesIO()
    info.external_attr = mode << 16
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr(info, content)
    return buffer.getvalue()


def twice(name: str) -> dict[str, bytes]:
    """Two archives that have one name twice."""
    tar, packed = io.BytesIO(), io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as file:
        for _ in range(2):
            file.addfile(link(name, "", tarfile.REGTYPE))
    with zipfile.ZipFile(packed, "w") as file, pytest.warns(UserWarning, match="Duplicate"):
        for _ in range(2):
            file.writestr(name, "x")
    return {"tar": tar.getvalue(), "zip": packed.getvalue()}


def beyond_path_max() -> bytes:
    """A chain of links whose path is longer than the system resolves, through which an archive wrote outside."""
    buffer, step, path = io.BytesIO(), "d" * 247, ""
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for letter in "abcdefghijklmnop":
            folder = tarfile.TarInfo(f"{path}{step}")
            folder.type = tarfile.DIRTYPE
            tar.addfile(folder)
            tar.addfile(link(f"{path}{letter}", step))
            path += f"{step}/"
        short = "/".join("abcdefghijklmnop")
        tar.addfile(link(f"{short}/{'l' * 254}", "../" * 16))
        tar.addfile(link("escape", f"{short}/{'l' * 254}/../evil"))
        tar.addfile(link("escape/evil", "", tarfile.REGTYPE))
    return buffer.getvalue()


def sparse() -> bytes:
    """A terabyte that is all holes, which two kilobytes state."""
    member = link("evil", "", tarfile.GNUTYPE_SPARSE)
    head = bytearray(member.tobuf(tarfile.GNU_FORMAT))
    head[483:495] = b"%011o\0" % 2**33  # the real size
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    return bytes(head) + bytes(1024)


LEADS, LINK, KIND = "leads outside", "is a link", "is neither a file nor a folder"
REFUSED = {
    "dots": (tar_of({"../evil": b"x"}), LEADS),
    "dots inside": (tar_of({"images/../../evil": b"x"}), LEADS),
    "absolute": (tar_of({"/tmp/evil": b"x"}), LEADS),
    "backslashes": (tar_of({"..\\evil": b"x"}), LEADS),
    "symbolic link": (tar_of({}, "w", link("images", ".."), link("images/evil", "x")), LINK),
    "link that stays inside": (tar_of({}, "w", link("images", "pictures")), LINK),
    "absolute link": (tar_of({}, "w", link("evil", "/etc/passwd")), LINK),
    "hard link": (tar_of({}, "w", link("evil", "../target", tarfile.LNKTYPE)), LINK),
    "links beyond what the system resolves": (beyond_path_max(), LINK),
    "device": (tar_of({}, "w", link("evil", "", tarfile.CHRTYPE)), KIND),
    "pipe": (tar_of({}, "w", link("evil", "", tarfile.FIFOTYPE)), KIND),
    "holes": (sparse(), KIND),
    "tar with a file for a folder": (tar_of({"evil": b"x", "evil/1.jpg": b"x"}), "lies in a file, or is one too"),
    "tar with a folder for a file": (tar_of({"a/evil": b"x", "a": b"x"}), "is there twice"),
    "zip dots": (zip_of({"../evil": b"x"}), LEADS),
    "zip absolute": (zip_of({"/evil": b"x"}), LEADS),
    "zip drive": (zip_of({"c:/evil": b"x"}), LEADS),
    "zip backslashes": (zip_of({"..\\evil": b"x"}), LEADS),
    "zip link": (entry("evil", 0o120777, "/etc/passwd"), LINK),
    "zip device": (entry("evil", 0o020666), KIND),
    "zip with a file for a folder": (zip_of({"evil": b"x", "evil/1.jpg": b"x"}), "lies in a file, or is one too"),
    "zip with a folder for a file": (zip_of({"a/evil": b"x", "a": b"x"}), "is there twice"),
    "long name": (tar_of({"x" * 300: b"x"}), "has too long a name"),
    "long path": (tar_of({"/".join(["x" * 200] * 30): b"x"}), "has too long a name"),
    "zip long name": (zip_of({"x" * 300: b"x"}), "has too long a name"),
    "too deep": (tar_of({"x/" * 3000 + "1.jpg": b"x"}), "lies in more than 50 folders"),
    **{f"{kind} twice": (content, "is there twice") for kind, content in twice("evil").items()},
}


@pytest.mark.parametrize("archive, why", REFUSED.values(), ids=list(REFUSED))
def test_what_would_do_harm_is_refused(tmp_path, archive, why):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/archive").write_bytes(archive)
    with pytest.raises(
        InputError, match=rf"archive cannot be unpacked, as '.*' in it {why}.*: take it from another place"
    ):
        unpack(str(tmp_path / "in/archive"), str(tmp_path / "in/out"))
    assert {path.split("/")[1] for path in tree(tmp_path)} <= {"archive", "out"}
    assert not [path for path in tmp_path.rglob("*") if path.is_symlink()]


LARGE = SMALL + 10_000_000


def small_zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("evil", bytes(LARGE))
    return buffer.getvalue()


def small_head() -> bytes:
    """What is large is the head of a member, which is read into memory."""
    buffer, member = io.BytesIO(), tarfile.TarInfo("evil")
    member.pax_headers = {"comment": "0" * LARGE}
    with tarfile.open(fileobj=buffer, mode="w:gz", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(member)
    return buffer.getvalue()


@pytest.mark.parametrize("make", [lambda: tar_of({"evil": bytes(LARGE)}), small_head, small_zip])
def test_a_small_archive_becomes_no_large_one(tmp_path, make):
    (tmp_path / "archive").write_bytes(make())
    assert (tmp_path / "archive").stat().st_size < 1_000_000
    with pytest.raises(InputError, match="archive cannot be unpacked, as it is more than 10 times its size"):
        unpack(str(tmp_path / "archive"), str(tmp_path / "out"))
    assert not any(path.stat().st_size > SMALL for path in (tmp_path / "out").iterdir())


def test_a_disk_that_fills_up_while_unpacking(tmp_path, monkeypatch):
    usage, room = namedtuple("usage", "total used free"), iter([50_000, 50_000, 10_000])
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(0, 0, next(room)))
    (tmp_path / "archive").write_bytes(tar_of(under("images")))
    with pytest.raises(InputError, match=r"archive needs 0\.0 GB in .*, where 0\.0 GB are free: make room"):
        unpack(str(tmp_path / "archive"), str(tmp_path / "out"))
    assert len(tree(tmp_path / "out")) == 2


def test_names_that_a_disk_cannot_tell_apart(tmp_path, monkeypatch):
    """As on a Mac or on Windows: the second would take the place of the first."""
    import builtins

    real = builtins.open
    monkeypatch.setattr("datasets.prepare.unpack.open", lambda path, mode: real(path.lower(), mode), raising=False)
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "archive").write_bytes(tar_of({"a.jpg": b"x", "A.jpg": b"y"}))
    with pytest.raises(InputError, match="'A.jpg' in it is there twice, or under two names that this disk"):
        unpack(str(folder / "archive"), str(folder / "out"))


def test_files_are_for_all_to_read_and_none_to_run(tmp_path):
    """An archive says nothing of who owns a file, and what may be done with it."""
    (tmp_path / "archive").write_bytes(entry("script", 0o104777))
    unpack(str(tmp_path / "archive"), str(tmp_path / "out"))
    assert (tmp_path / "out/script").stat().st_mode & 0o7111 == 0


def flipped(content: bytes) -> bytes:
    """A bit in the middle."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def endless() -> bytes:
    """The head of a member states how long a line of its own is, in more digits than a number has."""
    head = tarfile.TarInfo("head")
    head.type, line = tarfile.XHDTYPE, b"99999999999999999999 path=evil\n"
    head.size = len(line)
    return head.tobuf() + line.ljust(512, b"\0") + tar_of({"evil": b"x"}, "w")


FLIPPED = [flipped(tar_of(IMAGES, mode)) for mode in ("w:gz", "w:bz2", "w:xz")] + [flipped(zip_of(IMAGES))]
HALVES = [b"", b"text", tar_of(IMAGES)[:-3000], zip_of(IMAGES)[:-30]]


@pytest.mark.parametrize("content", [*HALVES, *FLIPPED, endless()])
def test_half_an_archive_or_a_spoilt_one(tmp_path, content):
    (tmp_path / "archive").write_bytes(content)
    with pytest.raises(InputError, match=r"archive cannot be unpacked \(.+\): fetch it again\.$"):
        unpack(str(tmp_path / "archive"), str(tmp_path / "out"))
