"""Reading through Beam's file systems: the real libraries of HDFS and Azure, against servers that speak like theirs."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from tests.http_server import Exchange, ImageServer
from transforms.errors import ImageError
from transforms.read import ReadBytes

FILES = {
    "/photos/a.jpg": b"12345",
    "/photos/b [1]*.jpg.gz": b"\x1f\x8bpacked",
    "/photos/empty": b"",
    "/photos/private": b"1",
}
ACCOUNT = "devstoreaccount1"


def webhdfs(exchange: Exchange) -> None:
    """The part of WebHDFS that reading takes."""
    url = urlsplit(exchange.path)
    query = {name: values[0] for name, values in parse_qs(url.query).items()}
    path = unquote(url.path).removeprefix("/webhdfs/v1")
    if path not in FILES:
        missing = {"exception": "FileNotFoundException", "message": f"File does not exist: {path}"}
        exchange.answer(json.dumps({"RemoteException": missing}).encode(), 404)
    elif query["op"] == "GETFILESTATUS":
        status = {"length": len(FILES[path]), "type": "FILE", "modificationTime": 0, "pathSuffix": ""}
        exchange.answer(json.dumps({"FileStatus": status}).encode())
    elif path == "/photos/private":
        denied = {"exception": "AccessControlException", "message": "Permission denied: user=ann"}
        exchange.answer(json.dumps({"RemoteException": denied}).encode(), 403)
    else:
        start = int(query.get("offset", 0))
        exchange.answer(FILES[path][start : start + int(query.get("length", 10**9))])


def blob_storage(exchange: Exchange) -> None:
    """The part of Azure's blob storage that reading takes."""
    path = unquote(urlsplit(exchange.path).path).removeprefix(f"/{ACCOUNT}")
    if path == "/photos/private":
        exchange.answer(b"", 403, x_ms_error_code="AuthorizationPermissionMismatch")
        return
    if path not in FILES:
        exchange.answer(b"", 404, x_ms_error_code="BlobNotFound")
        return
    data, said = FILES[path], exchange.headers.get("x-ms-range") or exchange.headers.get("Range")
    known = {"ETag": '"1"', "Last_Modified": "Sun, 22 Nov 2026 10:00:00 GMT", "x_ms_blob_type": "BlockBlob"}
    if exchange.command == "HEAD" or said is None:
        exchange.answer(data, **known)
        return
    first, _, last = said.removeprefix("bytes=").partition("-")
    if int(first) >= len(data):
        exchange.answer(b"", 416, x_ms_error_code="InvalidRange")
        return
    part = data[int(first) : int(last) + 1]
    exchange.answer(part, 206, **known, Content_Range=f"bytes {first}-{int(first) + len(part) - 1}/{len(data)}")


@pytest.fixture
def server() -> Iterator[ImageServer]:
    with ImageServer().running() as running:
        yield running


@pytest.fixture(params=["hdfs", "azfs"])
def reader(request: pytest.FixtureRequest, server: ImageServer) -> tuple[ReadBytes, str]:
    """What reads, and the folder it reads from; as workers get it."""
    if request.param == "hdfs":
        server.every = webhdfs
        options = {"hdfs_host": "127.0.0.1", "hdfs_port": server.port, "hdfs_user": "ann"}
        folder = "hdfs://photos"
    else:
        server.every = blob_storage
        place = f"BlobEndpoint=http://127.0.0.1:{server.port}/{ACCOUNT}"
        options = {"azure_connection_string": f"AccountName={ACCOUNT};AccountKey=c2VjcmV0;{place}"}
        folder = f"azfs://{ACCOUNT}/photos"
    return pickle.loads(pickle.dumps(ReadBytes(options=tuple(options.items())))), folder


def failure(reader: ReadBytes, uri: str, max_bytes: int = 1000) -> tuple[str, str]:
    with pytest.raises(ImageError) as caught:
        reader(uri, max_bytes)
    assert caught.value.stage == "read"
    return caught.value.type, caught.value.message


def test_reads_files_as_they_are_stored(reader: tuple[ReadBytes, str]) -> None:
    read, folder = reader
    assert read(f"{folder}/a.jpg", 5) == b"12345"
    assert read(f"{folder}/b [1]*.jpg.gz", 100) == b"\x1f\x8bpacked"
    assert read(f"{folder}/empty", 100) == b""


def test_says_why_it_cannot_read(reader: tuple[ReadBytes, str]) -> None:
    read, folder = reader
    assert failure(read, f"{folder}/a.jpg", 4) == ("too_large", "5 bytes; image.max_bytes is 4")
    assert failure(read, f"{folder}/none.jpg") == ("not_found", "no such file")
    assert failure(read, f"{folder}/private") == ("permission_denied", "no permission to read the file")


def test_an_option_that_is_missing_is_named() -> None:
    assert failure(ReadBytes(), "hdfs://photos/a.jpg") == ("io_error", "hdfs_host is not set")
