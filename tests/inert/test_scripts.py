"""TorchScript archives: the state dict that PyTorch gives, and none of their code (../../inert/scripts.py)."""

import warnings
import zipfile

import pytest
import torch
import torch.nn as nn

import inert

SIZE = {"input_resolution": 32, "context_length": 77, "vocab_size": 49408}


class Block(nn.Module):
    """What a scripted module can hold: layers, sequences, buffers of both kinds, a plain tensor, a shared weight."""

    def __init__(self):
        super().__init__()
        self.first, self.rest = nn.Linear(3, 3), nn.Sequential(nn.LayerNorm(3), nn.Linear(3, 3, bias=False))
        self.norm = nn.BatchNorm1d(3)
        self.shared = self.first.weight
        self.attn_mask = torch.ones(3)
        self.register_buffer("scale", torch.tensor(2.0))
        self.register_buffer("passing", torch.zeros(1), persistent=False)
        for name, value in SIZE.items():
            self.register_buffer(name, torch.tensor(value))

    def forward(self, x):
        return self.norm(self.rest(self.first(x)) * self.attn_mask * self.scale)


@pytest.fixture(params=["scripted", "traced"])
def path(request, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = Block().half().float().eval()
        script = torch.jit.script(module) if request.param == "scripted" else torch.jit.trace(module, torch.ones(2, 3))
        script.save(str(tmp_path / "block.pt"))
    return tmp_path / "block.pt"


def test_the_state_dict(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = torch.jit.load(str(path), map_location="cpu").state_dict()
    ours = inert.load(path)
    assert ours.keys() == theirs.keys() and "rest.1.weight" in ours and "attn_mask" not in ours
    for name, value in theirs.items():
        assert torch.equal(ours[name], value) and ours[name].dtype == value.dtype and not ours[name].requires_grad


def test_an_archive_of_before_buffers_were_listed(path):
    """All tensors of a class are taken then, as there is nothing to tell buffers by."""
    now = inert.load(path)
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            lines = content.splitlines(keepends=True) if name.endswith(".py") else [content]
            archive.writestr(name, b"".join(line for line in lines if b"__buffers__" not in line))
    then = inert.load(path)
    assert {"scale", "norm.running_mean", "first.weight"} <= now.keys() <= then.keys()
    assert then.keys() - now.keys() <= {"attn_mask", "passing"}
    assert all(torch.equal(value, then[name]) for name, value in now.items())


class Writes(nn.Module):
    """Its code runs when PyTorch loads it."""

    def __init__(self, path: str):
        super().__init__()
        self.weight, self.path = nn.Parameter(torch.ones(2)), path

    @torch.jit.export
    def __getstate__(self):
        return self.weight, self.path, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[torch.Tensor, str, bool]):
        self.weight, self.path, self.training = state
        torch.save(self.weight, self.path)

    def forward(self, x):
        return x


def test_its_code_is_not_run(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(Writes(str(tmp_path / "trace"))).save(str(tmp_path / "writes.pt"))
        (tmp_path / "trace").unlink(missing_ok=True)
        torch.jit.load(str(tmp_path / "writes.pt"))
    assert (tmp_path / "trace").exists()  # so PyTorch does run it
    (tmp_path / "trace").unlink()
    with pytest.raises(inert.Unreadable):
        inert.load(tmp_path / "writes.pt")
    assert not (tmp_path / "trace").exists()
