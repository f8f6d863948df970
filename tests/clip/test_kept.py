"""Weights that are kept for forked processes (../clip/kept.py, checkpoint.keep): never those of another version of a file."""

import hashlib
import os

import pytest
import torch
from safetensors.torch import save_file

from clip import checkpoint, kept
from clip.checkpoint import keep, load_state_dict, save_npz
from clip.download import sha256_of


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch):
    for name, empty in (("states", {}), ("sums", {}), ("read", set())):
        monkeypatch.setattr(kept, name, empty)


def state_of(number: float) -> dict:
    return {"a": torch.full((3, 2), number), "b": torch.tensor(number).half()}


def is_read(path) -> bool:
    """Whether the next one to load it reads the file."""
    kept.read.clear()
    load_state_dict(path)
    return kept.read == {str(path)}


@pytest.mark.parametrize("save, name", [(torch.save, "w.pt"), (save_npz, "w.npz")])
def test_a_file_is_read_once(tmp_path, save, name):
    path = tmp_path / name
    save(state_of(1.0), path)
    assert is_read(path)
    keep(path)
    assert not is_read(path)
    first = load_state_dict(path)
    assert first.keys() == {"a", "b"} and first["b"].dtype == torch.float16 and first["a"].eq(1).all()
    first.pop("b")
    first["a"].zero_()  # it is the reader's own
    assert load_state_dict(path)["a"].eq(1).all() and "b" in load_state_dict(path)
    assert sha256_of(path) == hashlib.sha256(path.read_bytes()).hexdigest()


def test_another_version_is_read(tmp_path):
    path = tmp_path / "w.pt"
    torch.save(state_of(1.0), path)
    keep(path)
    sha256, stat = sha256_of(path), os.stat(path)
    torch.save(state_of(2.0), path)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert os.stat(path).st_size == stat.st_size
    assert is_read(path) and load_state_dict(path)["a"].eq(2).all() and sha256_of(path) != sha256
    keep(path)
    assert not is_read(path) and load_state_dict(path)["a"].eq(2).all()
    assert len(kept.states) == len(kept.sums) == 1  # the former is forgotten


def test_a_file_that_is_written_meanwhile_is_not_kept(tmp_path, monkeypatch):
    path = tmp_path / "w.pt"
    torch.save(state_of(1.0), path)

    def sum_of(_):
        torch.save(state_of(2.0), path)
        return ""

    monkeypatch.setattr(checkpoint, "sha256_of", sum_of)
    keep(path)
    assert is_read(path) and not kept.sums


def test_what_is_not_kept(tmp_path, monkeypatch):
    save_file(state_of(1.0), tmp_path / "w.safetensors")
    (tmp_path / "broken.pt").write_bytes(b"PK\x03\x04")
    torch.save(state_of(1.0), tmp_path / "w.pt")
    for name in ("w.safetensors", "broken.pt", "not there.pt"):
        keep(tmp_path / name)
    assert not kept.states
    monkeypatch.setattr(checkpoint, "KEPT", os.path.getsize(tmp_path / "w.pt") - 1)
    keep(tmp_path / "w.pt")
    assert not kept.states and kept.size() == 0
