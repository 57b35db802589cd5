"""Outputs on Google Cloud Storage; the commit is one put on condition that there is no such object.

Credentials and project come from where Google's client takes them (application default credentials), and
STORAGE_EMULATOR_HOST leads it to another server.
"""

from __future__ import annotations

import contextlib
import functools
import os
import threading
import time
import warnings
from collections.abc import Iterator
from typing import Any, BinaryIO, cast

with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)  # of the day when Google will no longer support this Python
    from google.api_core.exceptions import (
        GoogleAPIError,
        NotFound,
        PreconditionFailed,
        RequestRangeNotSatisfiable,
        ServerError,
        TooManyRequests,
    )
    from google.auth.exceptions import GoogleAuthError
    from google.cloud import storage as gcs  # type: ignore[import-untyped]
    from requests import RequestException

from transforms.ranged import OpenObject, StreamedObject
from transforms.storage import TOP, StorageError

TIMEOUT = (10.0, 60.0)  # seconds to connect, and to wait for an answer
PAGE = 1000  # objects a request lists, the most there can be
ATTEMPTS = 6  # of a conditional put: the client's own repetition would not tell that there was any
PAUSE = 0.5  # seconds before the second attempt, doubled for each one after
TRANSIENT = (ServerError, TooManyRequests, RequestException)
ANYTHING = "application/octet-stream"
FIELDS = "items(name),prefixes,nextPageToken"  # of a list
_clients_lock = threading.Lock()


def client() -> gcs.Client:
    """This process's client: clients may be shared by threads, and not across a fork."""
    with _clients_lock:
        return _make_client(os.getpid(), os.environ.get("STORAGE_EMULATOR_HOST"))


@functools.lru_cache(maxsize=4)
def _make_client(process: int, emulator: str | None) -> gcs.Client:  # noqa: ARG001
    return gcs.Client()


class GoogleStorage:
    """A folder in a bucket. Pickles: it holds names only.

    The tag of an object is its generation, a number that no other object of the name has or will have.

    Args:
        root: `gs://BUCKET` or `gs://BUCKET/PREFIX`.

    Raises:
        ValueError: no bucket is named.
    """

    def __init__(self, root: str) -> None:
        self._bucket, _, prefix = root.partition("://")[2].partition("/")
        if not self._bucket:
            raise ValueError(f"{root}: no bucket is named; it must be gs://BUCKET/FOLDER")
        self._prefix = prefix.strip("/")
        self.root = f"gs://{self._bucket}/{self._prefix}".rstrip("/")

    def _key(self, name: str) -> str:
        return f"{self._prefix}/{name}" if self._prefix else name

    def _blob(self, name: str, tag: str | None = None) -> gcs.Blob:
        return client().bucket(self._bucket).blob(self._key(name), generation=None if tag is None else int(tag))

    @contextlib.contextmanager
    def _errors(self, name: str) -> Iterator[None]:
        """Turns the client's errors about `name` into OSErrors."""
        try:
            yield
        except NotFound:
            raise FileNotFoundError(f"{self.root}/{name}: no such object or bucket") from None
        except (GoogleAPIError, GoogleAuthError, RequestException) as error:
            raise StorageError(f"{self.root}/{name}: {getattr(error, 'message', None) or error}") from None

    def prepare(self) -> None:
        """See that the bucket is there. Raises FileNotFoundError or StorageError."""
        with self._errors(""):  # by listing, which runs need: asking for the bucket takes a permission they do not
            list(client().list_blobs(self._bucket, prefix=self._key(""), max_results=1, timeout=TIMEOUT))

    # Writing.

    def put_if_absent(self, name: str, data: bytes) -> bool:
        return self.put_if(name, data, None) is not None

    def put_if(self, name: str, data: bytes, tag: str | None) -> str | None:
        generation = 0 if tag is None else int(tag)
        with self._errors(name):
            for repeated in range(ATTEMPTS):
                blob = self._blob(name)
                try:
                    blob.upload_from_string(
                        data, ANYTHING, if_generation_match=generation, timeout=TIMEOUT, retry=None, checksum="crc32c"
                    )
                    return str(blob.generation)
                except PreconditionFailed:
                    return self._own_tag(name, data) if repeated else None
                except TRANSIENT:
                    if repeated == ATTEMPTS - 1:
                        raise
                time.sleep(PAUSE * 2**repeated)
        raise AssertionError("unreachable")

    def _own_tag(self, name: str, data: bytes) -> str | None:
        """The tag of `name` if it holds `data`: an attempt whose answer was lost has put it there."""
        try:
            found, tag = self.read_tagged(name)
        except FileNotFoundError:
            return None
        return tag if found == data else None

    def replace(self, name: str, data: bytes) -> None:
        with self._errors(name):
            self._blob(name).upload_from_string(data, ANYTHING, timeout=TIMEOUT, checksum="crc32c")

    def upload(self, name: str, path: str) -> None:
        with self._errors(name):
            self._blob(name).upload_from_filename(path, ANYTHING, timeout=TIMEOUT, checksum="crc32c")

    def move(self, name: str, target: str) -> None:
        with self._errors(name):
            source, copy, token = self._blob(name), self._blob(target), None
            while True:  # large objects take several calls
                token, _, _ = copy.rewrite(source, token=token, timeout=TIMEOUT)
                if token is None:
                    break
        self.delete(name)

    def delete(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError), self._errors(name):
            self._blob(name).delete(timeout=TIMEOUT)

    def delete_if(self, name: str, tag: str) -> None:
        with contextlib.suppress(FileNotFoundError), self._errors(name), contextlib.suppress(PreconditionFailed):
            self._blob(name).delete(if_generation_match=int(tag), timeout=TIMEOUT)

    # Reading.

    def read(self, name: str) -> bytes:
        return self.read_tagged(name)[0]

    def read_tagged(self, name: str) -> tuple[bytes, str]:
        while True:
            tag = self.tag(name)
            with contextlib.suppress(FileNotFoundError):  # replaced since; if it is gone, asking for the tag will tell
                return self._download(name, tag), tag

    def _download(self, name: str, tag: str, **span: int) -> bytes:
        with self._errors(name):
            try:
                return self._blob(name, tag).download_as_bytes(raw_download=True, timeout=TIMEOUT, **span)
            except RequestRangeNotSatisfiable:  # of an object of no bytes
                return b""

    def open(self, name: str) -> BinaryIO:
        return cast(BinaryIO, OpenObject(self, name))

    def stream(self, name: str) -> BinaryIO:
        return cast(BinaryIO, StreamedObject(self, name))

    def get_tail(self, name: str, length: int) -> tuple[bytes, int, str]:
        size, tag = self._look(name)
        return self._download(name, tag, start=max(0, size - length)), size, tag

    def get_range(self, name: str, start: int, stop: int, tag: str) -> bytes:
        try:
            return self._download(name, tag, start=start, end=stop - 1)
        except FileNotFoundError:
            raise StorageError(f"{self.root}/{name}: changed while it was read") from None

    def tag(self, name: str) -> str:
        return self._look(name)[1]

    def _look(self, name: str) -> tuple[int, str]:
        """Size in bytes and tag of `name`."""
        with self._errors(name):
            blob = self._blob(name)
            blob.reload(timeout=TIMEOUT)
            return int(blob.size), str(blob.generation)

    def exists(self, name: str) -> bool:
        try:
            self.tag(name)
        except FileNotFoundError:
            return False
        return True

    def list(self, folder: str) -> Iterator[str]:
        start = "" if folder == TOP else f"{folder}/"
        for name in self.walk(start, deep=False):
            if name != start:  # the marker that consoles make for an empty folder
                yield name.rstrip("/")

    def walk(self, start: str, *, deep: bool = True) -> Iterator[str]:
        prefix = self._key(start)
        with self._errors(start):
            found: Any = client().list_blobs(
                self._bucket,
                prefix=prefix,
                delimiter=None if deep else "/",
                fields=FIELDS,
                page_size=PAGE,
                timeout=TIMEOUT,
            )
            for blob in found:
                yield start + blob.name[len(prefix) :]
            for folder in sorted(found.prefixes):
                yield start + folder[len(prefix) :]
