"""A web server on the loopback address that misbehaves as told."""

import http.server
import threading
from dataclasses import dataclass, field

import pytest


@dataclass
class Served:
    """One file of the server and how it is served. `cuts`: after how many bytes of the body each answer breaks off."""

    content: bytes
    status: int = 200
    kind: str = "application/octet-stream"
    etag: str | None = '"one"'
    ranges: bool = True
    length: bool = True
    chunked: bool = False
    heeds_if_range: bool = True
    redirect: str | None = None
    cuts: list[int] = field(default_factory=list)
    failures: list[int] = field(default_factory=list)  # statuses of the next answers
    asked: list[str | None] = field(default_factory=list)  # Range headers seen


class Server:
    def __init__(self):
        self.files: dict[str, Served] = {}
        files = self.files

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                _answer(self, files)

            def log_message(self, *args):
                """Keep the test output clean."""

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.address = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    def serve(self, path: str, content: bytes, **how) -> Served:
        self.files[path] = Served(content, **how)
        return self.files[path]

    def stop(self):
        self.http.shutdown()
        self.http.server_close()


def _answer(request, files: dict[str, Served]) -> None:
    file = files.get(request.path)
    if file is None:
        return request.send_error(404)
    asked = request.headers.get("Range")
    file.asked.append(asked)
    if file.redirect:
        request.send_response(302)
        request.send_header("Location", file.redirect)
        return request.end_headers()
    if file.failures:
        return request.send_error(file.failures.pop(0))
    if file.status != 200:
        return request.send_error(file.status)
    same = not file.heeds_if_range or request.headers.get("If-Range") == file.etag
    start = int(asked.removeprefix("bytes=").split("-")[0]) if asked and file.ranges and same else 0
    if start >= len(file.content) > 0:
        return request.send_error(416)
    request.send_response(206 if start else 200)
    request.send_header("Content-Type", file.kind)
    if file.etag:
        request.send_header("ETag", file.etag)
    if start:
        request.send_header("Content-Range", f"bytes {start}-{len(file.content) - 1}/{len(file.content)}")
    body = file.content[start:]
    if file.chunked:
        request.send_header("Transfer-Encoding", "chunked")
        body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    elif file.length:
        request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    request.wfile.write(body[: file.cuts.pop(0)] if file.cuts else body)
    request.wfile.flush()


@pytest.fixture
def server():
    running = Server()
    yield running
    running.stop()
