"""Downloads (../clip/download.py) from a server on this machine that misbehaves as asked."""

import contextlib
import hashlib
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

import clip
from clip.clip import _MODELS, _download, available_models
from tests.server import serving

CONTENT = bytes(range(256)) * 2000  # 512 kB
SHA256 = hashlib.sha256(CONTENT).hexdigest()
FILE = f"{SHA256}/weights.pt"


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setenv("CLIP_RETRY_SECONDS", "0")


@pytest.fixture
def server():
    """Serves CONTENT."""
    with serving() as server:
        server.files = {FILE: CONTENT}
        yield server


def fetch(server, folder) -> str:
    return _download(f"{server.url}/{FILE}", str(folder))


def ranges(server) -> list[str | None]:
    return [wanted for _, wanted in server.requests]


def test_fetched_once(server, tmp_path):
    path = fetch(server, tmp_path)
    assert open(path, "rb").read() == CONTENT
    assert fetch(server, tmp_path) == path
    assert len(server.requests) == 1
    assert {p.name for p in tmp_path.iterdir()} <= {"weights.pt", "weights.pt.lock"}


def test_runs_that_start_together_fetch_once(server, tmp_path):
    server.breaks = 1
    with ThreadPoolExecutor(4) as runs:
        paths = list(runs.map(lambda _: fetch(server, tmp_path), range(4)))
    assert len(set(paths)) == 1 and open(paths[0], "rb").read() == CONTENT
    assert ranges(server) == [None, "bytes=256000-"]


def test_goes_on_where_it_broke_off(server, tmp_path):
    server.breaks = 2
    assert open(fetch(server, tmp_path), "rb").read() == CONTENT
    assert ranges(server) == [None, "bytes=256000-", "bytes=384000-"]


def test_goes_on_in_a_later_call(server, tmp_path):
    (tmp_path / "weights.pt.part").write_bytes(CONTENT[:1000])
    assert open(fetch(server, tmp_path), "rb").read() == CONTENT
    assert ranges(server) == ["bytes=1000-"]


def test_a_part_that_is_whole_already(server, tmp_path):
    (tmp_path / "weights.pt.part").write_bytes(CONTENT)
    server.status = {FILE: 416}
    assert open(fetch(server, tmp_path), "rb").read() == CONTENT


def test_a_server_that_cannot_begin_in_the_middle(server, tmp_path):
    server.ranges, server.breaks = False, 1
    assert open(fetch(server, tmp_path), "rb").read() == CONTENT


def test_wrong_bytes_are_thrown_away(server, tmp_path):
    server.files[FILE] = CONTENT[:-1] + b"x"
    with pytest.raises(clip.InputError, match="wrong SHA-256"):
        fetch(server, tmp_path)
    assert {p.name for p in tmp_path.iterdir()} <= {"weights.pt.lock"}


def test_a_damaged_file_is_fetched_again(server, tmp_path):
    (tmp_path / "weights.pt").write_bytes(b"damaged")
    assert open(fetch(server, tmp_path), "rb").read() == CONTENT


def test_a_server_that_always_breaks_off(server, tmp_path):
    server.breaks = 1000
    with pytest.raises(clip.InputError, match=r"could not be fetched.*what has come is kept"):
        fetch(server, tmp_path)
    assert (tmp_path / "weights.pt.part").stat().st_size > 256000 and not (tmp_path / "weights.pt").exists()
    assert len(server.requests) == 5


def test_not_found_is_not_asked_again(server, tmp_path):
    server.status = {FILE: 404}
    with pytest.raises(clip.InputError, match="404"):
        fetch(server, tmp_path)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "answer",
    [b"no HTTP\r\n\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n50\r\nhalf", b""],
)
def test_an_answer_that_is_no_answer(tmp_path, answer):
    """Not HTTP, a chunk that ends in the middle, a connection closed at once: bounded tries, then one sentence."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        tries = []

        def serve():
            for _ in range(5):
                connection, _ = listener.accept()
                with connection:
                    tries.append(connection.recv(65536))
                    connection.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        with pytest.raises(clip.InputError, match=r"could not be fetched.*by hand as .*weights\.pt\.$") as caught:
            _download(f"http://127.0.0.1:{listener.getsockname()[1]}/{SHA256}/weights.pt", str(tmp_path))
    assert len(tries) == 5 and "\n" not in str(caught.value)


def test_only_https_and_this_machine(tmp_path):
    for url in ("http://example.com", "ftp://example.com", f"file://{tmp_path}", "http://127.0.0.1.example.com"):
        with pytest.raises(clip.InputError, match=f"^{url}.* is not fetched, as it is not https"):
            _download(f"{url}/{SHA256}/weights.pt", str(tmp_path))


@pytest.mark.parametrize("to", ["https://127.0.0.1/weights.pt", "ftp://127.0.0.1/weights.pt", "file:///etc/passwd"])
def test_no_redirection_to_another_scheme(server, tmp_path, to):
    server.status, server.headers[FILE] = {FILE: 302}, {"Location": to}
    with pytest.raises(clip.InputError, match=f"{to}(, which is not http: |' is not allowed)"):
        fetch(server, tmp_path)
    assert not list(tmp_path.glob("*.part")) and len(server.requests) == 1


def test_no_redirection_from_this_machine_to_plain_http(server, tmp_path):
    server.status, server.headers[FILE] = {FILE: 302}, {"Location": "http://example.com/weights.pt"}
    with pytest.raises(clip.InputError, match="^http://example.com/weights.pt is not fetched, as it is not https"):
        fetch(server, tmp_path)


def test_a_redirection_on_the_way(server, tmp_path):
    server.status[FILE], server.headers[FILE] = 302, {"Location": f"{server.url}/there"}
    server.files["there"] = CONTENT
    assert open(fetch(server, tmp_path), "rb").read() == CONTENT


def test_no_more_bytes_than_weights_can_have(server, tmp_path, monkeypatch):
    monkeypatch.setattr("clip.download.LARGEST", 100_000)
    with pytest.raises(clip.InputError, match=r"gave a wrong file \(more than 100,000 bytes\), which was thrown away"):
        fetch(server, tmp_path)
    assert not list(tmp_path.glob("*.part")) and len(server.requests) == 1


def test_a_size_that_nobody_states_is_bounded_too(tmp_path, monkeypatch):
    """An answer that goes on and on."""
    monkeypatch.setattr("clip.download.LARGEST", 1_000_000)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError):
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                while True:
                    connection.sendall(bytes(1 << 16))

        threading.Thread(target=serve, daemon=True).start()
        with pytest.raises(clip.InputError, match="more than 1,000,000 bytes"):
            _download(f"http://127.0.0.1:{listener.getsockname()[1]}/{SHA256}/weights.pt", str(tmp_path))
    assert not list(tmp_path.glob("*.part"))


def test_a_cache_folder_that_cannot_be(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("CLIP_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(clip.InputError, match="name another one in CLIP_CACHE"):
        _download(_MODELS["ViT-Embedded/8"])


def test_refused_connection(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(clip.InputError, match=r"by hand as .*weights\.pt"):
        _download(f"http://127.0.0.1:{port}/{SHA256}/weights.pt", str(tmp_path))


def test_names():
    assert {"RN50", "ViT-B/32", "ViT-B/16", "ViT-L/14", "ViT-Embedded/8"} <= set(available_models())
    with pytest.raises(clip.InputError, match="^CLIP 'ViT-B/15' is unknown; the nearest name is 'ViT-B/16'"):
        _MODELS["ViT-B/15"]
    with pytest.raises(KeyError):  # as code that looks a name up in a dict expects
        _MODELS["ViT-B/15"]
    with pytest.raises(clip.InputError, match=r"nowhere\.pt' is unknown.*path of an existing file"):
        clip.load("nowhere.pt")
    for name, url in _MODELS.items():
        assert name == "ViT-Embedded/8" or len(url.split("/")[-2]) == 64
