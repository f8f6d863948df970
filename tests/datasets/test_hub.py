"""The mirror on the Hugging Face Hub (../datasets/prepare/hub.py), by a server on this machine that answers as the Hub."""

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import constants

import datasets.prepare as prepare
from datasets.prepare import READERS
from datasets.sources import Archive, File, Way
from tests.datasets.archives import tree, under, zip_of
from tests.helpers import REPOSITORY
from tests.server import serving

ROWS = (2, 1, 1)
SPLIT = json.dumps(
    {part: [["a/1.jpg", 0, "a"]] * count for part, count in zip(("train", "val", "test"), ROWS, strict=True)}
)
MIRROR = READERS["oxford_pets"].mirror
PATH = f"{MIRROR.repository}/resolve/{MIRROR.revision}/{MIRROR.name}"
WHOLE = {"split_zhou_OxfordPets.json", *under("images")}


class Hub:
    """`oxford_pets` whose own server gives nothing, and a mirror that has it."""

    def __init__(self, server, folder, monkeypatch, capsys):
        self.server, self.root, self.monkeypatch, self.capsys = server, folder / "data", monkeypatch, capsys
        images = Way(f"{server.url}/images", 4)
        sources = (
            File("split_zhou_OxfordPets.json", (Way(f"{server.url}/split"),), entries=ROWS),
            Archive("images.tar.gz", (images,), members={"images": "images"}, images={"images": 4}),
        )
        self.state(rows=ROWS, sources=sources)
        self.hold({"oxford_pets/split_zhou_OxfordPets.json": SPLIT.encode(), **under("oxford_pets/images")})

    def state(self, **facts) -> None:
        for fact, value in facts.items():
            self.monkeypatch.setattr(READERS["oxford_pets"], fact, value)

    def hold(self, files: dict[str, bytes]) -> None:
        """Keep these in the mirror's archive; a HEAD states what the Hub states of a large file."""
        content = zip_of(files)
        digest = hashlib.sha256(content).hexdigest()
        self.server.files[PATH] = content
        self.server.headers[PATH] = {
            "ETag": f'"{digest}"',
            "X-Linked-Etag": f'"{digest}"',
            "X-Linked-Size": str(len(content)),
            "X-Repo-Commit": MIRROR.revision,
        }

    def prepare(self, *args: str, code: int = 0) -> str:
        """What is said."""
        assert prepare.main(["oxford_pets", "--root", str(self.root), *args]) == code
        said = self.capsys.readouterr()
        assert "Traceback" not in said.out + said.err
        return said.out

    def asked(self) -> set[str]:
        asked, self.server.requests = {path for path, _ in self.server.requests}, []
        return asked

    def there(self) -> set[str]:
        return tree(self.root / "oxford_pets")


@pytest.fixture
def hub(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("CLIP_RETRY_SECONDS", "0")
    with serving() as server:
        # The library reads HF_ENDPOINT and HF_HOME once, when it is imported.
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, server.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        yield Hub(server, tmp_path, monkeypatch, capsys)


def test_the_mirror_where_the_own_server_is_dead(hub):
    said = hub.prepare()
    assert hub.there() == WHOLE and hub.asked() >= {"split", "images", PATH}
    assert f"split_zhou_OxfordPets.json, images.tar.gz: the mirror {MIRROR.address} is asked" in said
    digest = hashlib.sha256(hub.server.files[PATH]).hexdigest()
    assert f"nobody states its SHA-256; it is {digest}, kept in {MIRROR.name}.sha256" in said


FETCH = """
from datasets.prepare import READERS
from datasets.prepare.hub import fetch_mirror
print(fetch_mirror(READERS["oxford_pets"].mirror, ".")[0])
"""


def test_the_librarys_own_settings_hold(hub, tmp_path):
    """HF_ENDPOINT and HF_HOME; then HF_HUB_OFFLINE, with what is kept and with nothing."""

    def fetch(**env: str) -> subprocess.CompletedProcess:
        env = {**os.environ, "HF_ENDPOINT": hub.server.url, **env}
        return subprocess.run([sys.executable, "-c", FETCH], cwd=REPOSITORY, env=env, capture_output=True, text=True)

    done = fetch(HF_HOME=str(tmp_path / "home"))
    assert done.returncode == 0 and PATH in hub.asked(), done.stderr
    path = done.stdout.split()[-1]
    assert path.startswith(str(tmp_path / "home")) and Path(path).read_bytes() == hub.server.files[PATH]
    again = fetch(HF_HOME=str(tmp_path / "home"), HF_HUB_OFFLINE="1")
    assert again.stdout.split()[-1] == path and PATH not in hub.asked()
    empty = fetch(HF_HOME=str(tmp_path / "other"), HF_HUB_OFFLINE="1")
    last = empty.stderr.splitlines()[-1]
    assert "InputError: The mirror did not give https://huggingface.co/zhengli97/" in last and PATH not in hub.asked()


def test_the_mirror_first_or_not_at_all(hub):
    assert "left to do for oxford_pets" in hub.prepare("--from", "origin", code=2) and PATH not in hub.asked()
    hub.prepare("--from", "mirror")
    assert hub.there() == WHOLE and PATH in hub.asked() and "images" not in hub.asked()


def test_a_list_alone_is_not_worth_all_images(hub):
    """Where the images are there, and their own server has no list, the mirror's archive is not fetched for it."""
    for name, content in under("images").items():
        (hub.root / "oxford_pets" / name).parent.mkdir(parents=True, exist_ok=True)
        (hub.root / "oxford_pets" / name).write_bytes(content)
    hub.prepare(code=2)
    assert hub.asked() == {"split"}
    hub.prepare("--from", "mirror")
    assert hub.there() == WHOLE and PATH in hub.asked()


def test_an_archive_without_a_folder_around_it(hub):
    hub.hold({"split_zhou_OxfordPets.json": SPLIT.encode(), **under("images")})
    hub.prepare()
    assert hub.there() == WHOLE


@pytest.mark.parametrize(
    "files, says",
    [
        ({"oxford_pets/split_zhou_OxfordPets.json": SPLIT.encode(), "oxford_pets/images/1.jpg": b"1"}, "it holds 1 of 4 images"),
        (under("oxford_pets/images"), "holds no split_zhou_OxfordPets.json"),
        (under("oxford_pets/pictures"), "holds no split_zhou_OxfordPets.json"),
    ],
)  # fmt: skip
def test_what_the_mirror_holds_is_counted(hub, files, says):
    hub.hold(files)
    assert says in hub.prepare(code=2)
    assert not {path for path in hub.there() if path.endswith(".jpg")}


def test_bytes_that_are_not_those_that_are_stated(hub):
    hub.state(mirror=replace(MIRROR, digest=f"sha256:{'0' * 64}"))
    assert "is damaged (its SHA-256 is wrong): remove it" in hub.prepare(code=2)
    assert hub.there() == set()


def test_an_incomplete_folder_of_the_users_is_not_touched(hub):
    (hub.root / "oxford_pets/images").mkdir(parents=True)
    (hub.root / "oxford_pets/images/1.jpg").write_bytes(b"mine")
    assert hub.prepare(code=2).count("holds 1 of 4 images: move it away") == 1
    assert PATH not in hub.asked() and (hub.root / "oxford_pets/images/1.jpg").read_bytes() == b"mine"
