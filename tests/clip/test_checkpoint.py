"""Weights in files of every format (../clip/checkpoint.py), and the weights that are shipped."""

import argparse
import pickle
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import clip
from clip.checkpoint import load_state_dict, replace_file, save_npz
from tests.clip_weights import SMALL, random_state

SIZES = {"input_resolution": 32, "context_length": 77, "vocab_size": 49408}


@pytest.fixture(scope="module")
def state():
    return {name: value.half() for name, value in random_state(SMALL).items()}


def write_torchscript(state, path):
    """An archive as OpenAI publishes them: a scripted module with these parameters, and sizes as buffers."""

    class Node(torch.nn.Module):
        def forward(self, x):
            return x

    root = Node()
    for name, value in [*state.items(), *((n, torch.tensor(v)) for n, v in SIZES.items())]:
        *parents, last = name.split(".")
        node = root
        for part in parents:
            if not hasattr(node, part):
                node.add_module(part, Node())
            node = getattr(node, part)
        node.register_buffer(last, value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(root).save(str(path))


WRITERS = {
    "openai.pt": write_torchscript,
    "plain.pt": lambda state, path: torch.save(state, path),
    "wrapped.pth": lambda state, path: torch.save(
        {"state_dict": {f"module.{n}": v for n, v in state.items()}, "epoch": 3}, path
    ),
    "weights.safetensors": lambda state, path: save_file(state, path),
    "weights.npz": save_npz,
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_same_model(state, tmp_path, name):
    WRITERS[name](state, tmp_path / name)
    loaded = load_state_dict(tmp_path / name)
    for key, value in state.items():
        assert torch.equal(loaded[key], value), key
    model, preprocess = clip.load(str(tmp_path / name), device="cpu")
    assert model.dtype == torch.float32 and preprocess.transforms[0].size == 32
    with torch.no_grad():
        features = model.encode_text(clip.tokenize("a cat."))
        torch.testing.assert_close(features, clip.build_model(state).float().encode_text(clip.tokenize("a cat.")))


@pytest.mark.parametrize("name", WRITERS)
def test_a_truncated_file_is_named(state, tmp_path, name):
    path = tmp_path / name
    WRITERS[name](state, path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(clip.InputError, match=rf"{name} cannot be read as weights") as caught:
        load_state_dict(path)
    assert ("cut short" in str(caught.value)) is name.endswith((".pt", ".pth"))  # the other formats do not tell


@pytest.mark.parametrize("prefix", ["module.", "model.", "clip.", "_orig_mod.", "module._orig_mod."])
def test_prefixes(state, tmp_path, prefix):
    torch.save({prefix + name: value for name, value in state.items()}, tmp_path / "w.pt")
    assert load_state_dict(tmp_path / "w.pt").keys() == state.keys()


def test_what_stands_beside_the_weights(state, tmp_path):
    torch.save({"state_dict": state, "args": argparse.Namespace(lr=1), "best": np.float32(3)}, tmp_path / "w.pt")
    assert load_state_dict(tmp_path / "w.pt").keys() == state.keys()


def test_the_right_remedy(tmp_path):
    """Nothing is called cut short that is not."""
    (tmp_path / "page.pt").write_bytes(b"<!DOCTYPE html>")
    with pytest.raises(clip.InputError, match=r"page\.pt cannot be read as weights, as it is a web page.*: download"):
        load_state_dict(tmp_path / "page.pt")
    torch.save(torch.nn.Linear(2, 2), tmp_path / "model.pt")
    with pytest.raises(
        clip.InputError, match=r"model\.pt holds a torch\.nn\.modules\.linear\.Linear and no state dict"
    ):
        load_state_dict(tmp_path / "model.pt")


def test_what_is_no_state_dict(tmp_path):
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(clip.InputError, match="holds a list"):
        load_state_dict(tmp_path / "list.pt")
    torch.save({"epoch": 3}, tmp_path / "numbers.pt")
    with pytest.raises(clip.InputError, match=r"numbers\.pt holds no weights"):
        load_state_dict(tmp_path / "numbers.pt")
    with pytest.raises(clip.InputError, match=r"nowhere\.pt does not exist"):
        load_state_dict(tmp_path / "nowhere.pt")


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    torch.save({"visual": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(clip.InputError, match=r"evil\.pt"):
        load_state_dict(tmp_path / "evil.pt")
    assert not (tmp_path / "ran").exists()


def test_a_small_npz_fills_no_memory(tmp_path):
    """What it would have unpacked is known before any of it is."""
    np.savez_compressed(tmp_path / "a.npz", proj=np.zeros(30_000_000, np.float32))
    assert (tmp_path / "a.npz").stat().st_size < 1_000_000
    with pytest.raises(
        clip.InputError, match=r"a\.npz would have 120,000,\d+ bytes unpacked, more than 20 times its size"
    ):
        load_state_dict(tmp_path / "a.npz")


def test_a_failed_write_leaves_the_former_file(tmp_path):
    path = tmp_path / "file"
    path.write_text("former")

    def half(file):
        file.write(b"half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        replace_file(path, half)
    assert path.read_text() == "former" and [p.name for p in tmp_path.iterdir()] == ["file"]


def test_shipped_weights(tmp_path):
    """Under 5 MB, readable by torch.load as other code bases do it, unpacked once."""
    url = clip.clip._MODELS["ViT-Embedded/8"]
    source = clip.clip.Path(clip.clip.__file__).parent / "weights" / "vit_embedded_8.npz"
    assert source.stat().st_size < 5_000_000
    path = clip.clip._download(url, str(tmp_path))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(RuntimeError):
            torch.jit.load(path, map_location="cpu")
    model = clip.build_model(torch.load(path, map_location="cpu"))
    assert model.visual.input_resolution == 64
    written = clip.clip.Path(path).stat().st_mtime_ns
    assert clip.clip._download(url, str(tmp_path)) == path
    assert clip.clip.Path(path).stat().st_mtime_ns == written


def test_two_processes_unpack_the_shipped_weights_at_once(tmp_path):
    code = "import sys, torch, clip.clip as c; torch.load(c._download(c._MODELS['ViT-Embedded/8'], sys.argv[1]))"
    runs = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path)]) for _ in range(2)]
    assert [run.wait() for run in runs] == [0, 0]
    assert [path.suffix for path in tmp_path.iterdir()] == [".pt"]


def test_the_image_transform_can_be_sent_to_workers():
    transform = pickle.loads(pickle.dumps(clip.clip._transform(32)))
    image = Image.new("L", (50, 40), 255)
    white = [(1 - mean) / std for mean, std in zip(clip.clip.MEAN, clip.clip.STD, strict=True)]
    torch.testing.assert_close(transform(image), torch.tensor(white).view(3, 1, 1).expand(3, 32, 32))


def test_jit_is_said_to_have_no_effect(tmp_path):
    with pytest.warns(UserWarning, match="jit=True has no effect"):
        clip.load("ViT-Embedded/8", device="cpu", jit=True, download_root=str(tmp_path))


def test_importing_clip_does_not_import_open_clip():
    """It is slow, and only its vocabulary file is needed."""
    code = "import sys, clip; clip.tokenize('a'); sys.exit('open_clip' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("planted", ["other weights", "a flipped bit", "half of it"])
def test_a_copy_of_shipped_weights_is_compared_before_it_is_used(tmp_path, planted):
    """It lies where anybody may write."""
    url = clip.clip._MODELS["ViT-Embedded/8"]
    path = Path(clip.clip._download(url, str(tmp_path)))
    whole, state = path.read_bytes(), load_state_dict(path)
    if planted == "other weights":
        torch.save(state | {"logit_scale": state["logit_scale"] + 1}, path)
    else:
        path.write_bytes(
            whole[:-1000] if planted == "half of it" else whole[:99_000] + bytes([whole[99_000] ^ 1]) + whole[99_001:]
        )
    assert clip.clip._download(url, str(tmp_path)) == str(path)
    again = load_state_dict(path)
    assert again.keys() == state.keys() and all(torch.equal(again[name], value) for name, value in state.items())
