"""Where other libraries' backbones lie (../clip/hub.py), by a server on this machine that answers as the Hub."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants

import clip
from clip import hub
from clip.errors import InputError
from tests.clip.test_foreign import GELU, agree, loaded
from tests.foreign import of_open_clip, of_transformers
from tests.helpers import REPOSITORY
from tests.server import serving

COMMIT = "0123456789abcdef0123456789abcdef01234567"
ALL = (hub.CONFIG, hub.PIXELS, hub.OPEN_CLIP_CONFIG, *hub.WEIGHTS, *hub.OPEN_CLIP_WEIGHTS)


def hold(server, repo: str, folder, revision: str = "main") -> None:
    """Have a server answer for a model's files, and for those that it lacks, as the Hub does."""
    for name in ALL:
        path, file = f"{repo}/resolve/{revision}/{name}", folder / name
        if file.is_file():
            content = file.read_bytes()
            digest = hashlib.sha256(content).hexdigest()
            server.files[path], server.status[path] = content, 200
            server.headers[path] = {
                "ETag": f'"{digest}"', "X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(len(content)), "X-Repo-Commit": COMMIT,
            }  # fmt: skip
        else:
            server.status[path], server.headers[path] = 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT}


@pytest.fixture
def server(tmp_path, monkeypatch):
    with serving() as server:
        # The library reads HF_ENDPOINT and HF_HOME once, when it is imported.
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, server.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        yield server


def test_a_model_of_transformers(server, tmp_path):
    theirs = of_transformers(tmp_path / "there", GELU)
    hold(server, "somebody/clip", tmp_path / "there")
    assert agree(theirs, loaded("hf:somebody/clip"), 64)
    hold(server, "somebody/clip", tmp_path / "there", "v2")
    assert agree(theirs, loaded("hf:somebody/clip@v2"), 64)
    assert any("/resolve/v2/model.safetensors" in path for path, _ in server.requests)
    assert hub.find("hf:somebody/clip").sha256() == hub.find(str(tmp_path / "there")).sha256()


def test_a_model_of_open_clip(server, tmp_path):
    theirs = of_open_clip(tmp_path / "there")
    hold(server, "somebody/open", tmp_path / "there")
    assert agree(theirs, loaded("hf:somebody/open"), 32)
    (tmp_path / "there/config.json").write_text(json.dumps({"architecture": "vit_base_patch16_clip_224"}))  # timm's
    hold(server, "somebody/open", tmp_path / "there")
    assert agree(theirs, loaded("hf:somebody/open"), 32)
    (tmp_path / "there/config.json").write_text(
        json.dumps({"model_type": "clip"})
    )  # its weights in both libraries' files
    assert agree(theirs, loaded(tmp_path / "there/open_clip_model.safetensors"), 32)


def test_names_and_tags_of_open_clip(server, tmp_path, monkeypatch):
    """The table says where it is and which activation it was trained with; the model's config all else."""
    theirs = of_open_clip(tmp_path / "there", {"quick_gelu": True})
    tables, folder = hub.open_clip_tables(), tmp_path / "package"
    for repo in ("somebody/tiny", "somebody/slow"):
        hold(server, repo, tmp_path / "there")
    (folder / "model_configs").mkdir(parents=True)
    config = json.loads((tmp_path / "there/open_clip_config.json").read_text())["model_cfg"]
    (folder / "model_configs/ViT-Tiny-8.json").write_text(json.dumps({**config, "quick_gelu": False}))
    entries = {"fast": {"hf_hub": "somebody/tiny/", "quick_gelu": True}, "slow": {"hf_hub": "somebody/slow/"}, "off": {"url": "https://a"}}  # fmt: skip
    monkeypatch.setitem(tables._PRETRAINED, "ViT-Tiny-8", entries)
    monkeypatch.setattr(hub, "open_clip_folder", lambda: str(folder))
    assert agree(theirs, loaded("open_clip:ViT-Tiny-8/fast"), 32)
    assert agree(theirs, loaded("open_clip:ViT-Tiny/8/fast"), 32)  # as open_clip takes it
    assert loaded("open_clip:ViT-Tiny-8/slow").activation == "gelu"
    for name, says in (("ViT-Tiny-8/of", "no weights 'of' .*: fast, slow, off"), ("ViT-Tiny-8/off", "no weights 'off'"), ("ViT-Tny-8/fast", "nearest is 'ViT-Tiny-8'")):  # fmt: skip
        with pytest.raises(InputError, match=says):
            hub.check(f"open_clip:{name}")


def test_open_clips_own_tables():
    """Every name and tag of that package is taken, or refused with a reason, without importing it."""
    code = """
import sys, clip
from clip import hub
taken, refused = {}, []
for model, tag in hub.open_clip_tables().list_pretrained():
    try:
        taken[model, tag] = hub.described(f"open_clip:{model}/{tag}")[0]["quick_gelu"]
    except clip.InputError as error:
        assert " cannot be loaded, as " in str(error), error
        refused.append(model)
assert taken["ViT-B-16", "laion2b_s34b_b88k"] == 0 and taken["ViT-B-16", "dfn2b"] == taken["ViT-B-32", "laion400m_e32"] == 1
assert {"RN50", "ViT-H-14", "ViT-g-14", "ViT-bigG-14"} <= {model for model, _ in taken}
assert {"ViT-B-16-SigLIP", "coca_ViT-L-14", "EVA02-B-16", "convnext_base", "ViT-H-14-worldwide"} <= set(refused)
assert not {model for model, _ in taken} & set(refused) and "open_clip" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_damaged_file_of_the_cache(server, tmp_path):
    """As long as before, so that the library does not notice."""
    of_open_clip(tmp_path / "there")
    hold(server, "somebody/open", tmp_path / "there")
    path = Path(hub.find("hf:somebody/open").files[0]).resolve()
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(InputError, match=rf"{path} is damaged \(its SHA-256 is wrong\): remove it"):
        hub.find("hf:somebody/open")
    path.unlink()
    assert Path(hub.find("hf:somebody/open").files[0]).read_bytes() == content


LOAD = "import sys, clip\nprint(clip.hub.find(sys.argv[1]).files[0])"


@pytest.mark.parametrize("make", [of_transformers, of_open_clip])
def test_without_a_network_all_that_the_cache_holds_is_enough(server, tmp_path, monkeypatch, make):
    """Also where the hub's page lacks one of the files that are looked for."""
    make(tmp_path / "there")
    hold(server, "somebody/clip", tmp_path / "there")
    before = hub.find("hf:somebody/clip")
    head = "huggingface_hub.file_download._get_metadata_or_catch_error"
    lost = (None, None, None, None, None, ConnectionError("no route to the host"))
    monkeypatch.setattr(head, lambda **_: lost)
    assert hub.find("hf:somebody/clip") == before
    with pytest.raises(InputError, match="could not be fetched"):
        hub.find("hf:somebody/clip@v2")


def test_the_librarys_own_settings_hold(server, tmp_path):
    """HF_ENDPOINT and HF_HOME; then HF_HUB_OFFLINE, with what is kept and with nothing."""
    of_open_clip(tmp_path / "there")
    hold(server, "somebody/open", tmp_path / "there")

    def load(**env: str) -> subprocess.CompletedProcess:
        line = [sys.executable, "-c", LOAD, "hf:somebody/open"]
        env = {**os.environ, "HF_ENDPOINT": server.url, **env}
        return subprocess.run(line, cwd=REPOSITORY, env=env, capture_output=True, text=True)

    done = load(HF_HOME=str(tmp_path / "home"))
    assert done.returncode == 0 and server.requests, done.stderr
    path = done.stdout.split()[-1]
    assert path.startswith(str(tmp_path / "home"))
    server.requests.clear()
    again = load(HF_HOME=str(tmp_path / "home"), HF_HUB_OFFLINE="1")
    assert again.stdout.split()[-1] == path and not server.requests
    empty = load(HF_HOME=str(tmp_path / "other"), HF_HUB_OFFLINE="1")
    last = empty.stderr.splitlines()[-1]
    assert (
        "InputError: hf:somebody/open is no CLIP" in last and "in the cache at least, as HF_HUB_OFFLINE is set" in last
    )
    assert not server.requests


def test_what_cannot_be_fetched(server, tmp_path, monkeypatch):
    nowhere = "could not be fetched .*: correct the name, look at the network and HF_ENDPOINT, or fetch it elsewhere"
    for status, code in ((404, "RepoNotFound"), (403, "GatedRepo")):
        path = f"somebody/none/resolve/main/{hub.CONFIG}"
        server.status[path], server.headers[path] = status, {"X-Error-Code": code}
        with pytest.raises(InputError, match=rf"hf:somebody/none {nowhere}") as caught:
            hub.find("hf:somebody/none")
        assert "\n" not in str(caught.value)
    hold(server, "somebody/empty", tmp_path)
    with pytest.raises(
        InputError, match="hf:somebody/empty is no CLIP .* neither config.json nor open_clip_config.json"
    ):
        hub.find("hf:somebody/empty")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "clip"}))
    hold(server, "somebody/empty", tmp_path)
    with pytest.raises(InputError, match=r"hf:somebody/empty has no weights, which would be model\.safetensors or"):
        hub.find("hf:somebody/empty")
    with pytest.raises(InputError, match="could not be fetched"):
        hub.find("hf:some body/clip")
    for name in ("hf:clip", "hf:", "hf:a/b/c", "hf:/b"):
        with pytest.raises(InputError, match="names no model on the hub: write hf:owner/name"):
            hub.check(name)
    for name in ("open_clip:", "open_clip:ViT-B-16", "open_clip:ViT-B-16/", "open_clip:/openai"):
        with pytest.raises(InputError, match="names no model of open_clip's with its tag: write open_clip:"):
            hub.check(name)


def test_folders(tmp_path):
    with pytest.raises(InputError, match="is no CLIP of Hugging Face's or open_clip's"):
        hub.check(str(tmp_path))
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(InputError, match=r"config\.json cannot be read .*: fetch it again"):
        hub.check(str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "clip"}))
    for index in ("[]", "{}", '{"weight_map": {"a": "../b"}}', '{"weight_map": {}}'):
        (tmp_path / "model.safetensors.index.json").write_text(index)
        with pytest.raises(InputError, match=r"holds a list|names no files beside it"):
            hub.check(str(tmp_path))
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"a": "b.safetensors"}}')
    with pytest.raises(InputError, match=r"has no weights, which would be b\.safetensors"):
        hub.check(str(tmp_path))


def test_a_hash_is_of_files_and_of_what_is_said_of_them(tmp_path):
    """The same weights compute otherwise with another activation or other heads."""
    of_open_clip(tmp_path)
    sums = {hub.find(str(tmp_path)).sha256()}
    path = tmp_path / "open_clip_config.json"
    config = json.loads(path.read_text())
    for key, value in (("quick_gelu", True), ("text_cfg", {"heads": 4})):
        config["model_cfg"][key] = value
        path.write_text(json.dumps(config))
        sums.add(hub.find(str(tmp_path)).sha256())
    state = clip.load_state_dict(tmp_path / "open_clip_model.safetensors")
    torch.save(state | {"logit_scale": torch.tensor(1.0)}, tmp_path / "open_clip_pytorch_model.bin")
    (tmp_path / "open_clip_model.safetensors").unlink()
    sums.add(hub.find(str(tmp_path)).sha256())
    assert len(sums) == 4
    assert hub.place("ViT-B/16") is None and hub.place("nowhere.pt") is None


def test_openais_formats_need_no_config(tmp_path):
    """As before, whatever lies beside them."""
    torch.save({"a": torch.zeros(1)}, tmp_path / "weights.pt")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "clip"}))
    assert hub.place(str(tmp_path / "weights.pt")) is None


def test_a_folder_that_is_called_like_a_model(tmp_path, monkeypatch):
    (tmp_path / "ViT-Embedded/8").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert clip.place_of("ViT-Embedded/8") is None and clip.load_weights("ViT-Embedded/8")
