"""An S3 server on loopback that can be told to misbehave: moto behind a door of our own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

BUCKET = "predictions-bucket"
Answer = tuple[int, str]  # status, error code
ERROR = "<Error><Code>{}</Code><Message>by request of the test</Message></Error>"


class _QuietHandler(WSGIRequestHandler):
    def log_request(self, *arguments: Any) -> None:
        """Nothing: the log would drown the tests' own output."""


class ObjectStore:
    """moto, one request at a time.

    moto looks whether a key exists and puts it in two steps, with other requests in between; the lock makes it what
    S3 is, where the two are one.

    Attributes:
        refuse: asked before each request with its method, path and headers (names in lower case); an answer it gives
            takes the place of moto's.
        lose: asked after each request, likewise; an answer it gives is what the client hears of a request carried out.
        requests: method and path with query of each request, in order.
    """

    def __init__(self) -> None:
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._lock = threading.Lock()
        self._server = make_server("127.0.0.1", 0, self._serve, threaded=True, request_handler=_QuietHandler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.well()

    @property
    def environment(self) -> dict[str, str]:
        """What leads boto3 here, whatever the machine's own settings are."""
        nothing = {"AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null"}
        keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
        return {"AWS_ENDPOINT_URL": self.url, **keys, **nothing}

    def make_bucket(self) -> None:
        """Make the bucket `BUCKET`."""
        import boto3

        client = boto3.session.Session("test", "test", region_name="us-east-1").client("s3", endpoint_url=self.url)
        client.create_bucket(Bucket=BUCKET)

    def well(self) -> None:
        """Be a faultless server from now on, and forget the requests."""
        self.refuse: Callable[[str, str, dict[str, str]], Answer | None] = lambda *_: None
        self.lose: Callable[[str, str, dict[str, str]], Answer | None] = lambda *_: None
        self.requests: list[str] = []

    def _serve(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        headers = {key[5:].lower().replace("_", "-"): value for key, value in environ.items() if key[:5] == "HTTP_"}
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        query = f"?{environ['QUERY_STRING']}" if environ["QUERY_STRING"] else ""
        with self._lock:
            self.requests.append(f"{method} {path}{query}")
            answer = self.refuse(method, path, headers)
            if answer is None:
                heard: list[Any] = []
                body = b"".join(self._moto(environ, lambda *response: heard.extend(response)))
                answer = self.lose(method, path, headers)
                if answer is None:
                    start_response(*heard)
                    return [body]
        status, code = answer
        start_response(f"{status} {code}", [("Content-Type", "application/xml")])
        return [] if method == "HEAD" else [ERROR.format(code).encode()]

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
