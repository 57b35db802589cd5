"""An HTTP server on loopback that misbehaves as it is told."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Exchange(BaseHTTPRequestHandler):
    """One request being answered."""

    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        owner = self.server.owner
        with owner.guard:
            owner.requests.append((self.path, dict(self.headers.items())))
            answer = owner.answers.get(self.path.partition("?")[0], owner.every)
        if answer is None:
            self.answer(b"<html>no such page</html>", status=404)
        elif isinstance(answer, bytes):
            self.answer(answer)
        else:
            answer(self)

    do_HEAD = do_PATCH = do_GET

    def answer(self, body: bytes = b"", status: int = 200, length: int | None = None, **headers: str) -> None:
        """Answer; `length` is what Content-Length claims. Underscores in names of headers become hyphens."""
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def redirect(self, location: str, status: int = 302) -> None:
        self.answer(b"moved", status, Location=location)

    def hang_up(self) -> None:
        """Close the connection as a server does that has sent all."""
        self.close_connection = True

    def reset(self) -> None:
        """Break the connection off."""
        self.wfile.flush()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True

    def stall(self, seconds: float = 60) -> None:
        """Do nothing until the test is over."""
        self.server.owner.over.wait(seconds)

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing: the log would drown the tests' own output."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    owner: ImageServer

    def handle_error(self, request: object, client_address: object) -> None:
        """Nothing: clients that hang up are part of the tests."""


Answer = bytes | Callable[[Exchange], None]


class ImageServer:
    """Answers by path.

    Attributes:
        answers: path without query -> the body, or what to do with the exchange.
        every: the answer for other paths; None is 404.
        requests: path with query and headers of each request, in order.
        over: set when the test is over.
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        self.answers: dict[str, Answer] = {}
        self.every: Answer | None = None
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.over, self.guard = threading.Event(), threading.Lock()
        self._server = _Server((host, port), Exchange)
        self._server.owner = self
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_port
        self.url = f"{'http' if tls is None else 'https'}://{host}:{self.port}"

    def in_turn(self, *answers: Answer) -> Callable[[Exchange], None]:
        """An answer that is another for each request; the last one stays."""
        left = list(answers)

        def answer(exchange: Exchange) -> None:
            with self.guard:
                chosen = left.pop(0) if len(left) > 1 else left[0]
            exchange.answer(chosen) if isinstance(chosen, bytes) else chosen(exchange)

        return answer

    @contextmanager
    def running(self) -> Iterator[ImageServer]:
        """Serve while the body runs."""
        thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self.over.set()
            self._server.shutdown()
            thread.join()
            self._server.server_close()
