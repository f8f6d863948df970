"""A server on this machine that misbehaves as asked, for whatever downloads."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Server:
    def __init__(self, url: str):
        self.url = url
        self.files: dict[str, bytes] = {}  # by path, without the first /
        self.status: dict[str, int] = {}  # of paths that are refused
        self.breaks = 0  # answers that end half-way
        self.ranges = True  # whether it can begin in the middle
        self.headers: dict[str, dict[str, str]] = {}  # more of an answer's head, by path
        self.slow = 0.0  # seconds between pieces
        self.requests: list[tuple[str, str | None]] = []  # path, Range


@contextmanager
def serving() -> Iterator[Server]:
    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.do_GET()

        def do_GET(self):
            path, wanted = self.path.lstrip("/"), self.headers.get("Range")
            server.requests.append((path, wanted))
            status = server.status.get(path, 200 if path in server.files else 404)
            if status in (301, 302):
                self.send_response(status)
                self.send_header("Location", server.headers[path]["Location"])
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            if status != 200 and path in server.headers:
                self.send_response(status)
                for name, value in {"Content-Length": "0", **server.headers[path]}.items():
                    self.send_header(name, value)
                self.end_headers()
                return
            if status != 200:
                self.send_error(status)
                return
            start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and server.ranges else 0
            body = server.files[path][start:]
            self.send_response(206 if start else 200)
            for name, value in {"Content-Length": str(len(body)), **server.headers.get(path, {})}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "HEAD":
                return
            if server.breaks:
                server.breaks -= 1
                body = body[: len(body) // 2]
            for at in range(0, len(body), 1 << 15):
                self.wfile.write(body[at : at + (1 << 15)])
                time.sleep(server.slow)

        def log_message(self, *args):
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server = Server(f"http://127.0.0.1:{httpd.server_port}")
    threading.Thread(target=httpd.serve_forever, args=[0.01], daemon=True).start()
    yield server
    httpd.shutdown()
    httpd.server_close()
