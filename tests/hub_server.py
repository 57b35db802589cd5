"""A server on loopback that answers as TensorFlow Hub does, and as badly as a test wants it to."""

from __future__ import annotations

import contextlib
import io
import tarfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit


def archive_bytes(folder: Path, name: str = ".") -> bytes:
    """A .tar.gz of a folder, its files under `name`."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        tar.add(folder, name)
    return stream.getvalue()


@dataclass
class Answer:
    """What the server sends: all of `body`, or only `cut` bytes of it and then no more."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None
    ranges: bool = True  # whether it serves parts, to those who know the tag


@dataclass
class HubServer:
    """Serves `files`, by path; a module's path only with `?tf-hub-format=compressed`, as Hub does.

    Attributes:
        files: what is at a path.
        first: answers that come before, one a request.
        asked: path with query and headers of every request.
        before: called at every request.
    """

    files: dict[str, Answer] = field(default_factory=dict)
    first: list[Answer] = field(default_factory=list)
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    before: Callable[[], None] = lambda: None
    url: str = ""

    def module(self, path: str, folder: Path) -> str:
        """Publish the SavedModel in `folder`; returns its handle."""
        self.files[path] = Answer(archive_bytes(folder), headers={"ETag": '"1"'})
        return self.url + path

    @contextlib.contextmanager
    def running(self) -> Iterator[HubServer]:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                hub.asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
                hub.before()
                self._send(hub.first.pop(0) if hub.first else hub._found(self.path))

            def _send(self, answer: Answer) -> None:
                body, status, headers = answer.body, answer.status, dict(answer.headers)
                wanted = self.headers.get("Range")
                if wanted and answer.ranges and self.headers.get("If-Range") == headers.get("ETag"):
                    start = int(wanted.removeprefix("bytes=").removesuffix("-"))
                    headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
                    body, status = body[start:], 206
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                with contextlib.suppress(ConnectionError):  # the client has had enough
                    self.wfile.write(body if answer.cut is None else body[: answer.cut])

            def log_message(self, *_: object) -> None:
                pass

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            self.url = f"http://127.0.0.1:{server.server_address[1]}"
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
            thread.start()
            try:
                yield self
            finally:
                server.shutdown()
                thread.join()

    def _found(self, target: str) -> Answer:
        parts = urlsplit(target)
        answer = self.files.get(parts.path)
        if answer is None:
            return Answer(b"<html>no such page</html>", 404, {"Content-Type": "text/html"})
        plain = parts.path.endswith((".tar.gz", ".jpg"))
        if not plain and parse_qs(parts.query).get("tf-hub-format") != ["compressed"]:
            return Answer(b"<html>the module's page</html>", 200, {"Content-Type": "text/html"})
        return answer
