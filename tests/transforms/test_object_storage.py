"""What object stores promise beyond every storage, and the errors of their servers and of the way there."""

from __future__ import annotations

import os
import pickle

import pyarrow as pa
import pytest

from tests.object_store import Answer
from tests.transforms.conftest import Bucket
from transforms import ranged, storage_s3
from transforms.parts import PartFooter, commit_part, part_footer, part_name
from transforms.records import Shard
from transforms.storage import TOP, StorageError
from transforms.storage_gcs import GoogleStorage
from transforms.storage_s3 import S3Storage


@pytest.mark.usefixtures("without_pauses")
@pytest.mark.parametrize("status", [500, 503, 409])
def test_a_lost_answer_is_no_lost_race(bucket: Bucket, status: int) -> None:
    """The put was carried out, was answered with an error, and is asked for again."""
    if status == 409 and isinstance(bucket.storage, GoogleStorage):
        status = 429  # 409 is S3's own
    answers: list[Answer] = [(status, "Error")]
    writes = ("PUT", "POST")
    bucket.server.lose = lambda *request: answers.pop() if request[0] in writes and answers else None
    assert bucket.storage.put_if_absent("part", b"mine")
    assert answers == []
    assert bucket.storage.read("part") == b"mine"


@pytest.mark.usefixtures("without_pauses")
def test_a_repeated_put_that_another_won_is_lost(bucket: Bucket) -> None:
    bucket.storage.replace("part", b"another's")
    answers: list[Answer] = [(503, "SlowDown")]
    writes = ("PUT", "POST")
    bucket.server.refuse = lambda *request: answers.pop() if request[0] in writes and answers else None
    assert not bucket.storage.put_if_absent("part", b"mine")
    assert answers == []
    assert bucket.storage.read("part") == b"another's"


def test_the_same_bytes_again_are_another_commit(bucket: Bucket) -> None:
    assert bucket.storage.put_if_absent("mark", b"begun")
    assert not bucket.storage.put_if_absent("mark", b"begun")


def test_conditional_puts_follow_the_tag(bucket: Bucket) -> None:
    storage = bucket.storage
    first = storage.put_if("lease", b"1", None)
    assert first is not None
    assert storage.put_if("lease", b"2", None) is None
    assert storage.read_tagged("lease") == (b"1", first)
    second = storage.put_if("lease", b"2", first)
    assert second is not None
    assert second == storage.tag("lease") != first
    assert storage.put_if("lease", b"3", first) is None
    assert storage.read("lease") == b"2"
    storage.delete_if("lease", second)
    assert not storage.exists("lease")
    storage.delete_if("lease", second)
    assert storage.put_if("lease", b"3", second) is None
    with pytest.raises(FileNotFoundError):
        storage.tag("lease")


def test_an_object_of_another_tag_is_not_deleted(s3: Bucket) -> None:
    first = s3.storage.put_if("lease", b"1", None)
    assert first is not None
    s3.storage.replace("lease", b"2")
    s3.storage.delete_if("lease", first)
    assert s3.storage.read("lease") == b"2"


def test_a_footer_costs_few_requests(bucket: Bucket) -> None:
    bucket.storage.replace("x", bytes(10 * ranged.TAIL))
    bucket.server.well()
    with bucket.storage.open("x") as file:
        file.seek(-8, os.SEEK_END)
        assert file.read() == bytes(8)
    assert len(bucket.server.requests) == (1 if isinstance(bucket.storage, S3Storage) else 2)


def test_an_object_that_changes_under_its_reader_is_an_error(bucket: Bucket) -> None:
    bucket.storage.replace("x", bytes(10 * ranged.TAIL))
    with bucket.storage.open("x") as file:
        bucket.storage.replace("x", bytes([1]) * 10 * ranged.TAIL)
        with pytest.raises(StorageError, match="x: changed while it was read"):
            file.read(10)


def test_a_walk_goes_all_the_way_down(bucket: Bucket) -> None:
    for name in ("a/b/c", "a/b/d", "a/e", "a-b", "b", "a/f/"):
        bucket.storage.replace(name, b"x")
    assert list(bucket.storage.walk("a")) == ["a-b", "a/b/c", "a/b/d", "a/e", "a/f/"]
    assert list(bucket.storage.walk("a/")) == ["a/b/c", "a/b/d", "a/e", "a/f/"]
    assert sorted(bucket.storage.walk("a/", deep=False)) == ["a/b/", "a/e", "a/f/"]
    assert sorted(bucket.storage.walk("", deep=False)) == ["a-b", "a/", "b"]
    assert list(bucket.storage.walk("none/")) == []
    assert sorted(bucket.storage.list("a")) == ["a/b", "a/e", "a/f"]
    bucket.storage.replace("", b"the marker of the folder itself")
    assert sorted(bucket.storage.list(TOP)) == ["a", "a-b", "b"]


def test_storages_pickle_small(bucket: Bucket) -> None:
    bucket.storage.replace("a", b"x")
    data = pickle.dumps(bucket.storage)
    assert len(data) < 300
    assert pickle.loads(data).read("a") == b"x"


# S3.


def test_a_store_without_conditions_is_asked_first(s3: Bucket) -> None:
    storage = s3.storage
    conditions = {"if-match", "if-none-match"}
    s3.server.refuse = lambda *request: (501, "NotImplemented") if conditions & set(request[2]) else None
    assert storage.put_if_absent("part", b"first")
    assert not storage.put_if_absent("part", b"second")
    assert storage.read("part") == b"first"
    tag = storage.put_if("lease", b"1", None)
    assert tag is not None
    assert storage.put_if("lease", b"2", "another") is None
    assert storage.put_if("lease", b"2", tag) == storage.tag("lease")
    storage.delete_if("lease", storage.tag("lease"))
    assert not storage.exists("lease")


def test_lists_are_longer_than_a_page(s3: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"many/{number}" for number in range(5)]
    for name in names:
        s3.storage.replace(name, b"")
    monkeypatch.setattr(storage_s3, "PAGE", 2)
    s3.server.well()
    assert list(s3.storage.list("many")) == names
    assert len(s3.server.requests) == 3


def test_dates_of_objects_are_not_parsed(s3: Bucket) -> None:
    """They were three quarters of the work of listing."""
    s3.storage.replace("a", b"")
    bucket, _, prefix = s3.storage.root.removeprefix("s3://").partition("/")
    (found,) = storage_s3.client().list_objects_v2(Bucket=bucket, Prefix=prefix)["Contents"]
    assert found["Key"] == f"{prefix}/a"
    assert isinstance(found["LastModified"], str)


@pytest.mark.usefixtures("without_pauses")
def test_errors_of_s3_name_the_object_and_the_reason(s3: Bucket) -> None:
    with pytest.raises(FileNotFoundError, match=r"^s3://no-such-bucket-here: there is no such bucket$"):
        S3Storage("s3://no-such-bucket-here/x").prepare()
    with pytest.raises(StorageError, match="NoSuchBucket"):
        S3Storage("s3://no-such-bucket-here/x").replace("a", b"")
    root = s3.storage.root
    s3.server.refuse = lambda *_: (403, "AccessDenied")
    with pytest.raises(StorageError, match=rf"^{root}/a: access denied \(AccessDenied\)$"):
        s3.storage.read("a")
    s3.server.well()
    s3.server.refuse = lambda *_: (500, "InternalError")
    for write in (s3.storage.put_if_absent, s3.storage.replace):
        with pytest.raises(StorageError, match=f"^{root}/a: InternalError: by request of the test"):
            write("a", b"")
    assert len(s3.server.requests) == 2 * 6


# Google Cloud Storage.


@pytest.mark.usefixtures("without_pauses")
def test_errors_of_google_name_the_object_and_the_reason(google: Bucket) -> None:
    with pytest.raises(FileNotFoundError, match=r"^gs://no-such-bucket-here/x/: no such object or bucket$"):
        GoogleStorage("gs://no-such-bucket-here/x").prepare()
    google.storage.prepare()
    google.server.refuse = lambda *_: (403, "Forbidden")
    with pytest.raises(StorageError, match=f"^{google.storage.root}/a: .*by request of the test"):
        google.storage.read("a")
    google.server.well()
    google.server.refuse = lambda *_: (500, "InternalError")
    with pytest.raises(StorageError, match=f"^{google.storage.root}/a: .*by request of the test"):
        google.storage.put_if_absent("a", b"")
    assert len(google.server.requests) == 6


# Parts.


def test_a_part_that_cannot_be_read_now_is_not_damaged(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """Damaged parts are removed and made again: an outage must not do that."""
    storage, server = bucket
    footer = PartFooter("plan", 0, 0, 0, rows=3, failed=0, run="run")
    name = part_name(Shard(0, 0, 3))
    commit_part(storage, Shard(0, 0, 3), pa.table({"row": [0, 1, 2]}), footer)
    monkeypatch.setattr(ranged, "TAIL", 100)  # less than the footer: pyarrow must ask for the rest
    server.well()
    assert part_footer(storage, name) == footer
    asked = len(server.requests)
    assert asked > 1
    for answered in range(asked):
        server.well()

        def refuse(*_: object, answered: int = answered) -> Answer | None:
            return (403, "AccessDenied") if len(server.requests) > answered else None

        server.refuse = refuse
        with pytest.raises(StorageError):
            part_footer(storage, name)
    server.well()
    assert part_footer(storage, name) == footer
