"""Models over http(s): one file, with time-outs, retries that go on where they stopped, and progress."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import BinaryIO
from urllib.parse import parse_qsl, unquote, urlencode, urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3
from urllib3.exceptions import HTTPError, LocationValueError, ProtocolError, SSLError
from urllib3.util import Timeout, make_headers

from pipeline.handles.archive import MAX_BYTES
from pipeline.handles.meter import Meter

TIMEOUT = Timeout(connect=10, read=30)  # seconds; the read time-out is one of silence, not of the whole
ATTEMPTS = 5
PAUSE = 1.0  # seconds before the second attempt, doubled for each one after
LONGEST_PAUSE = 60.0  # that a server may ask for
REDIRECTS = 10
CHUNK = 1 << 20
ARCHIVES = (".tar", ".tar.gz", ".tgz")
LATER = {408, 425, 429, 500, 502, 503, 504}  # answers that may be others in a moment
SAID = {
    401: "it wants a user and password",
    403: "it refuses access",
    404: "there is no such file",
    410: "the file is gone",
}
Check = Callable[[], None]


class DownloadError(Exception):
    """The file cannot be had; the message says why."""


class _InterruptedError(Exception):
    """Worth another attempt, after so many seconds if the server said so."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


def archive_url(handle: str) -> str:
    """The URL of a handle's tar archive: TensorFlow Hub is asked for it as `tensorflow_hub` does.

    A URL that names an archive itself stays as it is, for a signed one allows no other query.
    """
    parts = urlsplit(handle)
    if parts.path.endswith(ARCHIVES):
        return handle
    return parts._replace(query=urlencode([*parse_qsl(parts.query), ("tf-hub-format", "compressed")])).geturl()


def download(url: str, target: Path, meter: Meter, check: Check = lambda: None) -> None:
    """Fetch `url` to the new file `target`.

    A connection that breaks off is taken up where it stopped, if the server can and has the same file still.

    Args:
        meter: shows how far it is.
        check: called between pieces; what it raises ends it.

    Raises:
        DownloadError: the server refuses, has no such file, or has not sent it whole in `ATTEMPTS` attempts.
        OSError: of `target`.
    """
    with target.open("xb") as file:
        body = _Body(file)
        for attempt in range(1, ATTEMPTS + 1):
            try:
                body.fetch(url, meter, check)
                return
            except _InterruptedError as error:
                reason, wait = str(error), error.wait
            if attempt < ATTEMPTS:
                wait = min(max(wait, PAUSE * 2 ** (attempt - 1)), LONGEST_PAUSE)
                meter.say(f"{reason}; attempt {attempt + 1} of {ATTEMPTS} in {wait:.0f} s")
                _sleep(wait, check)
    raise DownloadError(f"{reason} ({ATTEMPTS} attempts)")


def _sleep(seconds: float, check: Check) -> None:
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        check()
        time.sleep(min(left, 0.1))


class _Body:
    """What has come of a file so far, and the tag by which its server knows this version of it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._tag, self._done = file, "", 0

    def fetch(self, url: str, meter: Meter, check: Check) -> None:
        """One attempt at what is left. Raises _InterruptedError and what `download` does."""
        headers = {"User-Agent": "hublabel", "Accept-Encoding": "identity"}
        if self._done and self._tag:
            headers.update({"Range": f"bytes={self._done}-", "If-Range": self._tag})
        try:
            with closing(_get(url, headers)) as response:
                total = self._begin(response)
                for chunk in response.stream(CHUNK, decode_content=False):
                    check()
                    self._file.write(chunk)
                    self._done += len(chunk)
                    if self._done > MAX_BYTES:
                        raise DownloadError(f"it is larger than {MAX_BYTES:,} bytes")
                    meter.at(self._done, total)
        except (SSLError, LocationValueError) as error:
            raise DownloadError(_reason(error)) from None
        except HTTPError as error:
            raise _InterruptedError(_reason(error)) from None

    def _begin(self, response: urllib3.BaseHTTPResponse) -> int | None:
        """Look at the answer and get ready for its body; returns the size of the whole file if it is known."""
        _refuse(response)
        if response.status != 206:
            self._file.seek(0)
            self._file.truncate()
            self._done = 0
        tag = response.headers.get("ETag", "")
        self._tag = "" if tag.startswith("W/") else tag  # a weak one does not promise the same bytes
        length = response.headers.get("Content-Length", "")
        return self._done + int(length) if length.isdecimal() else None


def _refuse(response: urllib3.BaseHTTPResponse) -> None:
    status = f"{response.status} {response.reason or ''}".strip()
    if response.status in LATER:
        wait = response.headers.get("Retry-After", "")
        raise _InterruptedError(f"the server answers {status}", float(wait) if wait.isdecimal() else 0.0)
    if response.status not in (200, 206):
        said = SAID.get(response.status)
        raise DownloadError(f"the server answers {status}" + (f", {said}" if said else ""))
    if response.headers.get("Content-Type", "").startswith("text/html"):
        raise DownloadError("a web page came instead of a tar archive")


def _get(url: str, headers: dict[str, str]) -> urllib3.BaseHTTPResponse:
    """The answer to a GET behind all redirects, its body not read yet."""
    for _ in range(REDIRECTS + 1):
        parts = urlsplit(url)
        user = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
        own = make_headers(basic_auth=user) if parts.username else {}
        response = _pool(parts.scheme, parts.hostname or "").request(
            "GET", url, headers={**headers, **own}, preload_content=False, redirect=False, retries=False,
            timeout=TIMEOUT,
        )  # fmt: skip
        location = response.get_redirect_location()
        if not location:
            return response
        response.close()
        url = urljoin(url, location)
        if parts.scheme == "https" and not url.startswith("https://"):
            raise DownloadError("it redirects from https to a connection that anyone on the way can change")
    raise DownloadError(f"it redirects more than {REDIRECTS} times")


def _pool(scheme: str, host: str) -> urllib3.PoolManager:
    """Connections as the environment's proxy settings (HTTPS_PROXY, NO_PROXY, ...) want them."""
    proxies = getproxies()
    proxy = proxies.get(scheme) or proxies.get("all")
    if not proxy or proxy_bypass(host):
        return urllib3.PoolManager()
    parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    user = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
    return urllib3.ProxyManager(
        parts.geturl(), proxy_headers=make_headers(proxy_basic_auth=user) if parts.username else None
    )


def _reason(error: Exception) -> str:
    """urllib3's messages begin with the connection they are about, or with a tuple of reason and cause."""
    text = str(error.args[0]) if isinstance(error, ProtocolError) and error.args else str(error)
    return re.sub(r"^<?\w+(\(.*?\)| object at \w+>): ", "", text) or type(error).__name__
