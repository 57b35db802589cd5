"""Reading from object stores: moto's S3 and fake-gcs-server, real servers on loopback."""

from __future__ import annotations

import boto3
import pytest

from tests.http_server import Exchange, ImageServer
from tests.object_store import BUCKET, ObjectStore
from transforms import read as read_module
from transforms import read_s3, storage_s3
from transforms.errors import ImageError
from transforms.read import SCHEMES, ReadBytes, read_bytes, why_unreadable
from transforms.storage import open_object_storage

BOTH = pytest.mark.parametrize("store", ["s3", "gs"], indirect=True)


@pytest.fixture
def store(request: pytest.FixtureRequest) -> ObjectStore:
    return request.getfixturevalue({"s3": "object_store", "gs": "google_store"}[request.param])


def put(store: ObjectStore, name: str, data: bytes) -> str:
    """Its URI."""
    open_object_storage(f"{store.scheme}://{BUCKET}").replace(name, data)
    store.well()
    return f"{store.scheme}://{BUCKET}/{name}"


def failure(uri: str, max_bytes: int = 1000) -> tuple[str, str]:
    with pytest.raises(ImageError) as caught:
        read_bytes(uri, max_bytes)
    assert caught.value.stage == "read"
    return caught.value.type, caught.value.message


@BOTH
@pytest.mark.parametrize("name", ["a.jpg", "folder/b c.jpg", "[1]*?#.jpg", "50%20.jpg", "café.jpg", "picture.jpg.gz"])
def test_names_stand_for_themselves_and_bytes_come_as_stored(store: ObjectStore, name: str) -> None:
    uri = put(store, f"photos/{name}", b"\x1f\x8b" + name.encode())
    assert read_bytes(uri, 100) == b"\x1f\x8b" + name.encode()
    assert len(store.requests) == 1
    assert read_bytes(uri.replace(f"{store.scheme}:", f"{store.scheme.upper()}:"), 100).startswith(b"\x1f\x8b")


@BOTH
def test_sizes(store: ObjectStore) -> None:
    assert read_bytes(put(store, "five", b"12345"), 5) == b"12345"
    assert read_bytes(put(store, "none", b""), 5) == b""
    uri = put(store, "six", b"123456")
    said = "6 bytes" if store.scheme == "s3" else "more than 5 bytes"
    assert failure(uri, 5) == ("too_large", f"{said}; image.max_bytes is 5")
    large = put(store, "large", bytes(3_000_000))
    assert failure(large, 1_000_000)[0] == "too_large"
    assert len(read_bytes(large, 3_000_000)) == 3_000_000


@BOTH
def test_what_is_not_there(store: ObjectStore) -> None:
    assert failure(f"{store.scheme}://{BUCKET}/none.jpg")[0] == "not_found"
    assert failure(f"{store.scheme}://no-such-bucket/none.jpg")[0] == "not_found"
    for uri in (f"{store.scheme}://{BUCKET}", f"{store.scheme}://{BUCKET}/", f"{store.scheme}:///a"):
        assert failure(uri)[0] == "bad_uri"


@BOTH
def test_a_refusal(store: ObjectStore) -> None:
    uri = put(store, "private", b"12345")
    store.refuse = lambda method, path, headers: (403, "AccessDenied")
    kind, message = failure(uri)
    assert kind == "permission_denied"
    assert message.startswith("no permission to read the object")


@BOTH
@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_store_that_is_busy_is_asked_again(store: ObjectStore, status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # of the clients between two attempts
    uri = put(store, "busy", b"12345")
    left = [(status, "SlowDown"), (status, "SlowDown")]
    store.refuse = lambda method, path, headers: left.pop() if left else None
    assert read_bytes(uri, 100) == b"12345"
    assert len(store.requests) == 3


def test_an_s3_body_that_breaks_off_is_fetched_again(
    object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_s3, "PAUSE", 0)

    def broken(exchange: Exchange) -> None:
        exchange.answer(b"123", length=5)
        exchange.hang_up()

    with ImageServer().running() as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        server.answers = {"/photos/a.jpg": server.in_turn(broken, broken, b"12345"), "/photos/b.jpg": broken}
        assert read_bytes("s3://photos/a.jpg", 100) == b"12345"
        assert failure("s3://photos/b.jpg")[0] == "incomplete_read"
        assert len(server.requests) == 3 + read_s3.ATTEMPTS


def test_s3_without_credentials(object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    client = boto3.session.Session().client("s3", config=storage_s3.CONFIG)
    monkeypatch.setattr(read_s3, "client", lambda: client)
    assert failure("s3://bucket/key") == ("permission_denied", "no AWS credentials were found")


@pytest.mark.parametrize(
    ("scheme", "module", "extra"),
    [
        ("s3", "boto3", "aws"),
        ("gs", "google.cloud.storage", "gcp"),
        ("azfs", "azure.storage.blob", "azure"),
        ("hdfs", "hdfs", "hadoop"),
    ],
)
def test_a_library_that_is_missing_is_named(
    scheme: str, module: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_module, "_is_installed", lambda found: found != module)
    message = f"{scheme}:// needs an extra that is not installed: pip install 'hublabel[{extra}]'"
    assert failure(f"{scheme}://a/b") == ("unsupported_scheme", message)
    assert why_unreadable(scheme) == message
    assert [other for other in SCHEMES if why_unreadable(other)] == [scheme]


def test_whether_a_library_is_there_is_found_out_without_loading_it() -> None:
    assert read_module._is_installed("boto3")
    assert not read_module._is_installed("no_such_package.module")
    assert not read_module._is_installed("boto3.no_such_module")
    assert ReadBytes() == ReadBytes(options=())
