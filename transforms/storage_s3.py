"""Outputs on S3 and on stores that speak its protocol (MinIO, Ceph, R2), the commit being one conditional put.

The endpoint, region and credentials come from where boto3 takes them: AWS_ENDPOINT_URL, AWS_REGION, AWS_PROFILE, ...
"""

from __future__ import annotations

import contextlib
import functools
import os
import threading
import time
from collections.abc import Iterator
from typing import Any, BinaryIO, cast

import boto3  # type: ignore[import-untyped]
import botocore.session  # type: ignore[import-untyped]
from botocore.config import Config  # type: ignore[import-untyped]
from botocore.exceptions import BotoCoreError, ClientError  # type: ignore[import-untyped]

from transforms.ranged import OpenObject, StreamedObject
from transforms.storage import TOP, StorageError

PAGE = 1000  # objects a request lists, the most there can be
ATTEMPTS = 5  # of a body that breaks off, and of a put that another request to the same key is in the way of
PAUSE = 0.2  # seconds before the second attempt, doubled for each one after
CONFIG = Config(
    retries={"mode": "standard", "total_max_attempts": 6},
    connect_timeout=10,
    read_timeout=60,
    max_pool_connections=64,
    user_agent_extra="hublabel",
)
_clients_lock = threading.Lock()


def client() -> Any:
    """This process's client: clients may be shared by threads, and not across a fork."""
    with _clients_lock:
        return _make_client(os.getpid(), os.environ.get("AWS_ENDPOINT_URL_S3"), os.environ.get("AWS_ENDPOINT_URL"))


@functools.lru_cache(maxsize=4)
def _make_client(process: int, *endpoints: str | None) -> Any:  # noqa: ARG001
    session = botocore.session.get_session()
    # Nothing here reads a date, and to parse those of objects would be three quarters of the work of listing them.
    session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=_unparsed)
    return boto3.session.Session(botocore_session=session).client("s3", config=CONFIG)


def _unparsed(date: Any) -> Any:
    return date


class S3Storage:
    """A folder in a bucket. Pickles: it holds names only.

    A commit is one `PutObject` with `If-None-Match: *`, so an object is there whole or not at all and the first
    commit wins. Stores that refuse the condition (501) are asked first whether the object exists.

    Args:
        root: `s3://BUCKET` or `s3://BUCKET/PREFIX`.

    Raises:
        ValueError: no bucket is named.
    """

    def __init__(self, root: str) -> None:
        self._bucket, _, prefix = root.partition("://")[2].partition("/")
        if not self._bucket:
            raise ValueError(f"{root}: no bucket is named; it must be s3://BUCKET/FOLDER")
        self._prefix = prefix.strip("/")
        self.root = f"s3://{self._bucket}/{self._prefix}".rstrip("/")

    def _at(self, name: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": f"{self._prefix}/{name}" if self._prefix else name}

    @contextlib.contextmanager
    def _errors(self, name: str) -> Iterator[None]:
        """Turns the client's errors about `name` into OSErrors."""
        try:
            yield
        except ClientError as error:
            raise _as_os_error(error, f"{self.root}/{name}") from None
        except (BotoCoreError, boto3.exceptions.Boto3Error) as error:
            raise StorageError(f"{self.root}/{name}: {error}") from None

    def prepare(self) -> None:
        """See that the bucket is there. Raises FileNotFoundError or StorageError."""
        try:
            client().head_bucket(Bucket=self._bucket)
        except ClientError as error:
            if _status(error) == 404:
                raise FileNotFoundError(f"s3://{self._bucket}: there is no such bucket") from None
            raise _as_os_error(error, f"s3://{self._bucket}") from None
        except BotoCoreError as error:
            raise StorageError(f"s3://{self._bucket}: {error}") from None

    # Writing.

    def put_if_absent(self, name: str, data: bytes) -> bool:
        return self.put_if(name, data, None) is not None

    def put_if(self, name: str, data: bytes, tag: str | None) -> str | None:
        with self._errors(name):
            try:
                return self._put(name, data, {"IfNoneMatch": "*"} if tag is None else {"IfMatch": tag})
            except ClientError as error:
                if _status(error) == 501:
                    return self._look_and_put(name, data, tag)
                gone = tag is not None and _code(error) == "NoSuchKey"
                if _status(error) != 412 and not gone:
                    raise
                return self._own_tag(name, data) if error.response["ResponseMetadata"]["RetryAttempts"] else None

    def _put(self, name: str, data: bytes, conditions: dict[str, str]) -> str:
        """Put and return the tag, again when S3 answers 409: another request to this key is being carried out."""
        repeated = 0
        while True:
            try:
                return client().put_object(**self._at(name), Body=data, **conditions)["ETag"]
            except ClientError as error:
                error.response["ResponseMetadata"]["RetryAttempts"] = repeated + _retries(error)
                if _status(error) != 409 or repeated == ATTEMPTS - 1:
                    raise
            time.sleep(PAUSE * 2**repeated)
            repeated += 1

    def _own_tag(self, name: str, data: bytes) -> str | None:
        """The tag of `name` if it holds `data`: an attempt whose answer was lost has put it there."""
        try:
            found, tag = self.read_tagged(name)
        except FileNotFoundError:
            return None
        return tag if found == data else None

    def _look_and_put(self, name: str, data: bytes, tag: str | None) -> str | None:
        try:
            found = self.tag(name)
        except FileNotFoundError:
            found = None
        return self._put(name, data, {}) if found == tag else None

    def replace(self, name: str, data: bytes) -> None:
        with self._errors(name):
            self._put(name, data, {})

    def upload(self, name: str, path: str) -> None:
        at = self._at(name)
        with self._errors(name):
            client().upload_file(path, at["Bucket"], at["Key"])

    def move(self, name: str, target: str) -> None:
        with self._errors(name):
            client().copy(self._at(name), **self._at(target))  # by the store, in several parts if it is large
        self.delete(name)

    def delete(self, name: str) -> None:
        with self._errors(name):
            client().delete_object(**self._at(name))

    def delete_if(self, name: str, tag: str) -> None:
        with self._errors(name):
            try:
                client().delete_object(**self._at(name), IfMatch=tag)
            except ClientError as error:
                if _status(error) == 501:
                    client().delete_object(**self._at(name))
                elif _status(error) not in (404, 412):
                    raise

    # Reading.

    def read(self, name: str) -> bytes:
        return self.read_tagged(name)[0]

    def read_tagged(self, name: str) -> tuple[bytes, str]:
        data, response = self._get(name)
        return data, response["ETag"]

    def open(self, name: str) -> BinaryIO:
        return cast(BinaryIO, OpenObject(self, name))

    def stream(self, name: str) -> BinaryIO:
        return cast(BinaryIO, StreamedObject(self, name))

    def tag(self, name: str) -> str:
        with self._errors(name):
            return client().head_object(**self._at(name))["ETag"]

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
        at = self._at(start)
        options: dict[str, Any] = {} if deep else {"Delimiter": "/"}
        with self._errors(start):
            pages = client().get_paginator("list_objects_v2").paginate(
                Bucket=at["Bucket"], Prefix=at["Key"], PaginationConfig={"PageSize": PAGE}, **options
            )  # fmt: skip
            for page in pages:
                keys = [entry["Key"] for entry in page.get("Contents", ())]
                keys += [entry["Prefix"] for entry in page.get("CommonPrefixes", ())]
                for key in keys:
                    yield start + key[len(at["Key"]) :]
                if page.get("IsTruncated") and not page.get("NextContinuationToken"):
                    raise StorageError(f"{self.root}/{start}: the store broke off its list")

    def _get(self, name: str, **options: str) -> tuple[bytes, dict[str, Any]]:
        """A body, read whole, and its response: the client repeats requests, and not bodies that break off."""
        with self._errors(name):
            for repeated in range(ATTEMPTS):
                response = client().get_object(**self._at(name), **options)
                try:
                    return response["Body"].read(), response
                except BotoCoreError:
                    if repeated == ATTEMPTS - 1:
                        raise
                time.sleep(PAUSE * 2**repeated)
        raise AssertionError("unreachable")

    def get_tail(self, name: str, length: int) -> tuple[bytes, int, str]:
        try:
            data, response = self._get(name, Range=f"bytes=-{length}")
        except _EmptyObjectError:
            return b"", 0, ""
        size = response.get("ContentRange", "").rpartition("/")[2]
        return data, int(size) if size.isdigit() else len(data), response["ETag"]

    def get_range(self, name: str, start: int, stop: int, tag: str) -> bytes:
        return self._get(name, Range=f"bytes={start}-{stop - 1}", IfMatch=tag)[0]


class _EmptyObjectError(StorageError):
    """No range can be had of an object of no bytes."""


def _status(error: ClientError) -> int:
    return int(error.response["ResponseMetadata"]["HTTPStatusCode"])


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _retries(error: ClientError) -> int:
    return int(error.response["ResponseMetadata"].get("RetryAttempts", 0))


def _as_os_error(error: ClientError, uri: str) -> OSError:
    code, status = _code(error), _status(error)
    if status == 404 and code != "NoSuchBucket":
        return FileNotFoundError(f"{uri}: no such object")
    if code == "InvalidRange":
        return _EmptyObjectError(f"{uri}: empty")
    if status == 412:
        return StorageError(f"{uri}: changed while it was read")
    if status in (401, 403):
        return StorageError(f"{uri}: access denied ({code})")
    return StorageError(f"{uri}: {code}: {error.response.get('Error', {}).get('Message') or status}")
