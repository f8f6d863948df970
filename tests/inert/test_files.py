"""Files that are no checkpoints, or no longer whole: why, and what helps (../../inert/files.py)."""

import copy
import io
import tarfile
import zipfile

import pytest
import torch

import inert
from tests.inert.written import FORMATS, archive, dumps

STATE = {"ctx": torch.arange(3000.0), "epoch": 3}


@pytest.fixture(params=[True, False], ids=FORMATS)
def path(request, tmp_path):
    torch.save(STATE, tmp_path / "a.pt", _use_new_zipfile_serialization=request.param)
    return tmp_path / "a.pt"


def refused(path, says: str) -> str:
    with pytest.raises(inert.Unreadable, match=says) as caught:
        inert.load(path)
    return str(caught.value)


@pytest.mark.parametrize("share", [0.01, 0.05, 0.5, 0.999])
def test_cut_short(path, share):
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    assert refused(path, "cut short") == "is cut short: fetch or copy it again"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty: fetch"),
        (b"<!DOCTYPE html><html>sign in", "is a web page and no checkpoint: download the file itself"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "Git LFS pointer.*git lfs pull"),
        (b"\x89PNG\r\n", "is no file of torch.save"),
        (b"{'ctx': 1}", "is no file of torch.save"),
        (dumps({"ctx": 1}), "is a pickle that torch.save did not write"),
        (b"\x00" * 600, "is no file of torch.save"),
    ],
)
def test_other_files(tmp_path, content, says):
    (tmp_path / "a.pt").write_bytes(content)
    assert "cut short" not in refused(tmp_path / "a.pt", says)


def test_a_folder_and_what_is_not_there(tmp_path):
    refused(tmp_path, "cannot be opened .*Is a directory")
    refused(tmp_path / "nowhere", "cannot be opened .*No such file")


def test_the_tar_format(tmp_path):
    with tarfile.open(tmp_path / "a.pt", "w") as file:
        file.addfile(tarfile.TarInfo("storages"), io.BytesIO())
    refused(tmp_path / "a.pt", "is a tar file, the format of PyTorch before 0.1.10")


def test_another_zip_archive(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as file:
        file.writestr("readme.txt", "hello")
    assert "damaged" not in refused(tmp_path / "a.pt", "is a zip archive that torch.save did not write")


def test_packed_anew(tmp_path):
    torch.save(STATE, tmp_path / "a.pt")
    with zipfile.ZipFile(tmp_path / "a.pt") as source, zipfile.ZipFile(tmp_path / "b.pt", "w", zipfile.ZIP_DEFLATED) as file:  # fmt: skip
        for name in source.namelist():
            file.writestr(name, source.read(name))
    refused(tmp_path / "b.pt", "has been packed anew, compressed: take the file as it was")


def test_the_other_byte_order(tmp_path):
    refused(archive(tmp_path / "a.pt", dumps({}), more={"byteorder": b"big"}), "other byte order")


def test_parts_that_claim_more_than_the_file_has(tmp_path):
    """Eight storages of 100 kB that are the same bytes of a file of little more."""
    torch.save([torch.full((25_000,), float(i)) for i in range(8)], tmp_path / "a.pt")
    with zipfile.ZipFile(tmp_path / "a.pt") as source, zipfile.ZipFile(tmp_path / "b.pt", "w") as file:
        for name in ("a/data.pkl", "a/data/0"):
            file.writestr(name, source.read(name))
        for i in range(1, 8):
            again = copy.copy(file.getinfo("a/data/0"))
            again.filename = f"a/data/{i}"
            file.filelist.append(again)
    assert zipfile.ZipFile(tmp_path / "b.pt").getinfo("a/data/7").file_size == 100_000
    refused(tmp_path / "b.pt", "its parts are larger than it is")


def test_a_missing_storage(tmp_path):
    torch.save(STATE, tmp_path / "a.pt")
    with zipfile.ZipFile(tmp_path / "a.pt") as source, zipfile.ZipFile(tmp_path / "b.pt", "w") as file:
        for name in source.namelist():
            if "/data/" not in name:
                file.writestr(name, source.read(name))
    refused(tmp_path / "b.pt", "is damaged")


def test_one_bit_of_a_tensor(tmp_path):
    """Each is told by the checksum that torch.save has written; it may be told to write none."""
    torch.save(STATE, tmp_path / "a.pt")
    whole = (tmp_path / "a.pt").read_bytes()
    begin = whole.index(STATE["ctx"].numpy().tobytes())
    for place in range(0, 12_000, 500):
        damaged = bytearray(whole)
        damaged[begin + place] ^= 1 << place % 8
        (tmp_path / "a.pt").write_bytes(damaged)
        refused(tmp_path / "a.pt", r"is damaged \(the checksum of its part data/0 is another\): fetch or copy it again")


def test_without_checksums(tmp_path):
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(STATE, tmp_path / "a.pt")
    finally:
        torch.serialization.set_crc32_options(True)
    assert torch.equal(inert.load(tmp_path / "a.pt")["ctx"], STATE["ctx"])


def test_no_byte_of_a_file_can_do_more_than_spoil_it(path):
    """Each of many single bytes changed: a value or a sentence, and nothing else."""
    whole = path.read_bytes()
    places = [*range(0, min(len(whole), 900)), *range(len(whole) - 900, len(whole))]
    for place in places[::3]:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x41]) + whole[place + 1 :])
        try:
            inert.load(path)
        except inert.Unreadable as error:
            assert "\n" not in str(error)
