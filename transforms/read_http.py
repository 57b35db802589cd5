"""Images behind `http(s)://`: every server answers in the end, or is given up with a reason."""

from __future__ import annotations

import functools
import http.client
import os
import random
import socket
import ssl
import threading
import time
import zlib
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import unquote_to_bytes, urljoin
from weakref import WeakValueDictionary

import urllib3
from urllib3 import exceptions
from urllib3.util import Retry, Timeout, Url, parse_url

from transforms.errors import ImageError
from transforms.http_connections import connections, until
from transforms.pools import Budget
from transforms.read import HttpSettings, too_large

REDIRECTS = (301, 302, 303, 307, 308)
TEMPORARY = (408, 425, 429)  # and everything from 500 on
BLOCK = 64 * 1024
LONGEST_PAUSE = 30.0  # seconds of our own choice between two attempts; a server may ask for more


def read_http(uri: str, max_bytes: int, settings: HttpSettings, sleep: Callable[[float], None] = time.sleep) -> bytes:
    """The body that `uri` leads to.

    Args:
        uri: `http://` or `https://`; user and password before `@` become basic authorization for that host alone.
        max_bytes: a longer body is not read to its end.
        settings: limits and manners.
        sleep: waits so many seconds before another attempt.

    Raises:
        ImageError: stage `read`; `http_404` and the like (the last answer, after retries where another could help),
            `timeout`, `too_many_redirects`, `too_large`, `connection_error`, `incomplete_read`, `forbidden_address`,
            `bad_uri`, `unsupported_scheme` (of a redirect), `bad_response`.
    """
    return _Fetch(max_bytes, settings, sleep).read(uri)


class _TryAgainError(Exception):
    """Another attempt may succeed; if none is made, `error` is the outcome."""

    def __init__(self, error: ImageError, after: float | None = None) -> None:
        super().__init__(str(error))
        self.error, self.after = error, after


class _Fetch:
    """One image's attempts."""

    def __init__(self, max_bytes: int, settings: HttpSettings, sleep: Callable[[float], None]) -> None:
        self._max_bytes, self._settings, self._sleep = max_bytes, settings, sleep
        self._end = time.monotonic() + settings.deadline

    def read(self, uri: str) -> bytes:
        for attempt in range(self._settings.retries + 1):
            try:
                return self._follow(uri)
            except _TryAgainError as failure:
                backoff = min(LONGEST_PAUSE, self._settings.backoff * 2**attempt) * random.uniform(0.5, 1.0)
                pause = max(backoff, failure.after or 0.0)
                if attempt == self._settings.retries:
                    raise failure.error from None
                if pause >= self._end - time.monotonic():
                    raise self._too_late(failure) from None
                self._sleep(pause)
        raise AssertionError("unreachable")

    def _too_late(self, failure: _TryAgainError) -> ImageError:
        error = failure.error
        if failure.after is None:
            return error
        return ImageError(
            error.stage, error.type, f"{error.message}, to be asked again in {failure.after:,.0f} seconds"
        )

    def _follow(self, uri: str) -> bytes:
        seen: set[str] = set()
        while len(seen) <= self._settings.max_redirects:
            url = _parsed(uri)
            seen.add(url.url)
            answer = self._request(url)
            if isinstance(answer, bytes):
                return answer
            uri = urljoin(url.url, answer)
            if _parsed(uri).url in seen:
                raise ImageError("read", "too_many_redirects", "the server redirects in a circle")
        raise ImageError("read", "too_many_redirects", f"more than {self._settings.max_redirects} redirects")

    def _request(self, url: Url) -> bytes | str:
        """The body, or where the server redirects to."""
        with self._turn(url), self._time_limit():
            response = self._open(url)
            try:
                return self._answer(response)
            finally:
                response.close()  # the connection too, unless the body was read to its end

    @contextmanager
    def _turn(self, url: Url) -> Iterator[None]:
        """Wait for one of the host's turns; the wait is not the image's own time."""
        began = time.monotonic()
        with _turns(url.host or "", self._settings.per_host).hold(1):
            self._end += time.monotonic() - began
            yield

    @contextmanager
    def _time_limit(self) -> Iterator[None]:
        with until(self._end, self._settings.read_timeout):
            try:
                yield
            except _TryAgainError as failure:
                if time.monotonic() < self._end:
                    raise
                limit = self._settings.deadline
                raise ImageError("read", "timeout", f"gave up after {limit:g} seconds") from failure

    def _open(self, url: Url) -> urllib3.BaseHTTPResponse:
        settings = self._settings
        left = max(0.001, self._end - time.monotonic())
        headers = {"User-Agent": settings.user_agent, "Accept": "image/*,*/*;q=0.8", "Accept-Encoding": "identity"}
        if url.auth:
            headers["Authorization"] = "Basic " + b64encode(unquote_to_bytes(url.auth)).decode()
        try:
            return _manager(os.getpid(), settings.allow_private_hosts, settings.per_host).urlopen(
                "GET",
                url._replace(auth=None, fragment=None).url,
                headers=headers,
                redirect=False,
                retries=False,
                preload_content=False,
                decode_content=False,
                timeout=Timeout(min(settings.connect_timeout, left), min(settings.read_timeout, left)),
            )
        except exceptions.NewConnectionError as error:
            raise _connection_failure(error) from None
        except exceptions.ConnectTimeoutError:
            limit = settings.connect_timeout
            raise _TryAgainError(ImageError("read", "timeout", f"no connection within {limit:g} seconds")) from None
        except exceptions.TimeoutError:
            limit = settings.read_timeout
            raise _TryAgainError(ImageError("read", "timeout", f"no answer within {limit:g} seconds")) from None
        except exceptions.LocationValueError as error:
            raise _bad_uri(str(error)) from None
        except (exceptions.HTTPError, http.client.HTTPException) as error:
            raise _connection_failure(error) from None

    def _answer(self, response: urllib3.BaseHTTPResponse) -> bytes | str:
        status, location = response.status, response.headers.get("Location")
        if status in (200, 203):
            return self._decoded(self._body(response), response.headers.get("Content-Encoding", ""))
        if status in REDIRECTS and location:
            self._finish(response)
            return location
        self._finish(response)
        reason = http.client.responses.get(status, "").strip()
        error = ImageError("read", f"http_{status}", f"the server answered {status} {reason}".strip())
        if status in TEMPORARY or status >= 500:
            raise _TryAgainError(error, _retry_after(response))
        raise error

    @staticmethod
    def _finish(response: urllib3.BaseHTTPResponse) -> None:
        """Read a short body to its end, so that the connection can be used again."""
        try:
            while response.read(BLOCK) and response.tell() < BLOCK:
                pass
        except (exceptions.HTTPError, OSError):
            response.close()

    def _body(self, response: urllib3.BaseHTTPResponse) -> bytes:
        declared = response.length_remaining
        if declared is not None and declared > self._max_bytes:
            raise too_large(declared, self._max_bytes)
        body = bytearray()
        try:
            while block := response.read1(BLOCK):
                body += block
                if len(body) > self._max_bytes:
                    raise _endless(self._max_bytes)
        except exceptions.TimeoutError:
            limit = self._settings.read_timeout
            message = f"nothing more within {limit:g} seconds, after {len(body):,} bytes"
            raise _TryAgainError(ImageError("read", "timeout", message)) from None
        except (exceptions.HTTPError, OSError):
            expected = "" if declared is None else f" of {declared:,}"
            message = f"the connection broke after {len(body):,}{expected} bytes"
            raise _TryAgainError(ImageError("read", "incomplete_read", message)) from None
        return bytes(body)

    def _decoded(self, body: bytes, encoding: str) -> bytes:
        """The body of a server that compresses, though it was asked not to."""
        if encoding.strip().lower() in ("", "identity", "none", "utf-8"):
            return body
        if encoding.strip().lower() not in ("gzip", "x-gzip", "deflate"):
            raise ImageError("read", "bad_response", f"the server sent the content encoding {encoding!r}")
        unpack = zlib.decompressobj(47)  # gzip or zlib, as its header says
        try:
            data = unpack.decompress(body, self._max_bytes + 1)
        except zlib.error:
            raise ImageError("read", "bad_response", f"the server sent damaged {encoding} data") from None
        if len(data) > self._max_bytes:
            raise _endless(self._max_bytes)
        if not unpack.eof:
            raise _TryAgainError(ImageError("read", "incomplete_read", f"the {encoding} data is not complete"))
        return data


def _endless(limit: int) -> ImageError:
    return ImageError("read", "too_large", f"more than {limit:,} bytes; image.max_bytes is {limit:,}")


def _bad_uri(why: str) -> ImageError:
    return ImageError("read", "bad_uri", f"not a valid URL: {why}")


def _parsed(uri: str) -> Url:
    """`uri` with what needs it percent-encoded."""
    try:
        url = parse_url(uri.strip())
    except exceptions.LocationValueError as error:
        raise _bad_uri(str(error)) from None
    if url.scheme not in ("http", "https"):
        raise ImageError("read", "unsupported_scheme", f"the server redirects to a {url.scheme}:// URI")
    if not url.host:
        raise _bad_uri("it names no host")
    return url


def _retry_after(response: urllib3.BaseHTTPResponse) -> float | None:
    """Seconds of the header `Retry-After`, given as such or as a date (RFC 9110, 10.2.3)."""
    value = response.headers.get("Retry-After")
    try:
        return None if value is None else Retry().parse_retry_after(value)
    except (exceptions.InvalidHeader, ValueError, OverflowError):
        return None


def _connection_failure(error: Exception) -> _TryAgainError | ImageError:
    causes = [error.__cause__, *error.args]  # urllib3 keeps what happened in the one or the other
    cause = next((cause for cause in reversed(causes) if isinstance(cause, Exception)), error)
    if isinstance(cause, ssl.SSLCertVerificationError):
        why = cause.verify_message or "not valid"
        return ImageError("read", "connection_error", f"the server's certificate cannot be trusted: {why}")
    if isinstance(cause, socket.gaierror):
        failure = ImageError("read", "connection_error", "the host's name cannot be resolved")
        return _TryAgainError(failure) if cause.errno == socket.EAI_AGAIN else failure
    why = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
    return _TryAgainError(ImageError("read", "connection_error", f"the connection failed: {why[:1].lower()}{why[1:]}"))


# What a process shares.


_hosts: WeakValueDictionary[tuple[str, int], Budget] = WeakValueDictionary()  # those that somebody waits for or uses
_guard = threading.Lock()


def _turns(host: str, per_host: int) -> Budget:
    with _guard:
        budget = _hosts.get((host.lower(), per_host))
        if budget is None:
            budget = _hosts[host.lower(), per_host] = Budget(per_host)
        return budget


@functools.lru_cache(maxsize=4)
def _make_manager(process: int, allow_private: bool, per_host: int) -> urllib3.PoolManager:  # noqa: ARG001
    return connections(allow_private, per_host)


def _manager(process: int, allow_private: bool, per_host: int) -> urllib3.PoolManager:
    """This process's connections: they may be shared by threads, and not across a fork."""
    with _guard:
        return _make_manager(process, allow_private, per_host)
