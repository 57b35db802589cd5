"""What every storage promises, and what only one kind can suffer."""

from __future__ import annotations

import errno
import os
import pickle
import sys
import threading
import time
import uuid
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.object_store import BUCKET, Answer, ObjectStore
from transforms import ranged, storage_s3
from transforms.parts import PartFooter, commit_part, part_footer, part_name
from transforms.records import Shard
from transforms.storage import LocalStorage, ObjectStorage, Storage, StorageError, open_storage
from transforms.storage_gcs import GoogleStorage
from transforms.storage_s3 import S3Storage


class Bucket(NamedTuple):
    """A folder of its own in a bucket, and the server that has it."""

    storage: ObjectStorage
    server: ObjectStore


def folder() -> str:
    return f"{BUCKET}/{uuid.uuid4().hex}/out"


@pytest.fixture
def s3(object_store: ObjectStore) -> Bucket:
    return Bucket(S3Storage(f"s3://{folder()}"), object_store)


@pytest.fixture
def google(google_store: ObjectStore) -> Bucket:
    return Bucket(GoogleStorage(f"gs://{folder()}"), google_store)


@pytest.fixture(params=["s3", "google"])
def bucket(request: pytest.FixtureRequest) -> Bucket:
    return request.getfixturevalue(request.param)


@pytest.fixture(params=["local", "s3", "google"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "local":
        return LocalStorage(str(tmp_path / "out"))
    return request.getfixturevalue(request.param).storage


@pytest.fixture
def without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither we nor the client wait before asking again."""
    monkeypatch.setattr(time, "sleep", lambda *_: None)


# Every storage.


def test_first_commit_wins_and_nothing_temporary_remains(storage: Storage) -> None:
    storage.prepare()
    assert storage.put_if_absent("a/b.bin", b"first")
    assert not storage.put_if_absent("a/b.bin", b"second")
    assert storage.read("a/b.bin") == b"first"
    assert list(storage.list("a")) == ["a/b.bin"]


def test_racing_writers_agree_on_one_winner(storage: Storage) -> None:
    for round_number in range(10):
        wins: list[int] = []
        barrier = threading.Barrier(8)

        def write(writer: int, name: str, barrier: threading.Barrier = barrier, wins: list[int] = wins) -> None:
            barrier.wait()
            if storage.put_if_absent(name, bytes([writer]) * 1000):
                wins.append(writer)

        threads = [threading.Thread(target=write, args=(w, f"x/{round_number}")) for w in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(wins) == 1
        assert storage.read(f"x/{round_number}") == bytes(wins) * 1000


def test_replace_and_delete(storage: Storage) -> None:
    storage.replace("run.yaml", b"1")
    storage.replace("run.yaml", b"2")
    assert storage.read("run.yaml") == b"2"
    assert storage.exists("run.yaml")
    storage.delete("run.yaml")
    storage.delete("run.yaml")
    assert not storage.exists("run.yaml")
    assert storage.put_if_absent("run.yaml", b"3")


def test_what_is_not_there_is_not_found(storage: Storage) -> None:
    for look in (storage.read, storage.open):
        with pytest.raises(FileNotFoundError):
            look("p/x")


def test_list_tells_what_lies_directly_in_a_folder(storage: Storage) -> None:
    for name in ("p/x", "p/.tmp-y", "p/folder/z", "p2/x", "run.yaml"):
        storage.replace(name, b"x")
    assert sorted(storage.list("p")) == ["p/.tmp-y", "p/folder", "p/x"]
    assert list(storage.list("nowhere")) == []


def test_an_open_object_reads_like_a_file(storage: Storage) -> None:
    data = os.urandom(ranged.TAIL + 5000)
    storage.replace("big", data)
    with storage.open("big") as file:
        assert file.seek(0, os.SEEK_END) == len(data)
        assert file.read(10) == b""
        assert file.seek(4990) == 4990
        assert file.read(20) == data[4990:5010]
        assert file.tell() == 5010
        file.seek(-30, os.SEEK_CUR)
        assert file.read(10) == data[4980:4990]
        file.seek(0)
        assert file.read() == data
    storage.replace("empty", b"")
    with storage.open("empty") as file:
        assert file.read() == b""


def test_a_large_parquet_file_is_read_by_row_group(storage: Storage) -> None:
    table = pa.table({"x": [os.urandom(1000) for _ in range(1000)]})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, row_group_size=100, compression="none")
    storage.replace("table.parquet", sink.getvalue().to_pybytes())
    with storage.open("table.parquet") as source, pq.ParquetFile(source, pre_buffer=True) as file:
        assert file.read_row_group(3).equals(table.slice(300, 100))
        assert file.read().equals(table)


def test_of_two_attempts_at_a_shard_one_part_remains(storage: Storage) -> None:
    """Two attempts need not agree: a picture that answered the one may fail the other."""
    wins: list[int] = []
    for row_group in range(10):
        shard = Shard(0, row_group, 3)
        barrier = threading.Barrier(2)

        def attempt(failed: int, shard: Shard = shard, barrier: threading.Barrier = barrier) -> None:
            footer = PartFooter("plan", 0, shard.row_group, 0, rows=3, failed=failed, run="run", finished=time.time())
            table = pa.table({"row": [0, 1, 2], "attempt": [failed] * 3})
            barrier.wait()
            if commit_part(storage, shard, table, footer):
                wins.append(failed)

        threads = [threading.Thread(target=attempt, args=(failed,)) for failed in (0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(wins) == row_group + 1
        assert part_footer(storage, part_name(shard)).failed == wins[-1]
        with storage.open(part_name(shard)) as file:
            assert pq.read_table(file)["attempt"].to_pylist() == [wins[-1]] * 3
    assert sorted(storage.list("predictions/00000")) == [part_name(Shard(0, n, 3)) for n in range(10)]


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


# Local folders.


def test_a_losing_commit_touches_nothing(tmp_path: Path) -> None:
    storage = LocalStorage(str(tmp_path))
    storage.put_if_absent("a/b.bin", b"first")
    inode = os.stat(tmp_path / "a/b.bin").st_ino
    storage.put_if_absent("a/b.bin", b"second")
    assert os.stat(tmp_path / "a/b.bin").st_ino == inode
    assert os.listdir(tmp_path / "a") == ["b.bin"]


def test_without_hard_links_the_first_commit_still_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: str) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    storage = LocalStorage(str(tmp_path))
    assert storage.put_if_absent("a", b"first")
    assert not storage.put_if_absent("a", b"second")
    assert storage.read("a") == b"first"
    assert os.listdir(tmp_path) == ["a"]


def test_a_failing_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    storage = LocalStorage(str(tmp_path))
    with pytest.raises(OSError, match="No space left"):
        storage.put_if_absent("a", b"data")
    assert os.listdir(tmp_path) == []


# Object stores.


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


def test_files_are_uploaded(bucket: Bucket, tmp_path: Path) -> None:
    data = os.urandom(9 << 20)  # more than goes in one piece to S3
    (tmp_path / "plan").write_bytes(data)
    bucket.storage.upload("plan/plan-00000.parquet", str(tmp_path / "plan"))
    assert bucket.storage.read("plan/plan-00000.parquet") == data


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


# Schemes.


def test_schemes() -> None:
    assert open_storage("file:///tmp/x").root == "/tmp/x"
    assert open_storage("s3://bucket/a/b/").root == "s3://bucket/a/b"
    assert open_storage("S3://bucket").root == "s3://bucket"
    assert open_storage("gs://bucket/a/").root == "gs://bucket/a"
    with pytest.raises(ValueError, match=r"^ftp://bucket/x: .*; ftp:// is not supported$"):
        open_storage("ftp://bucket/x")
    for scheme in ("s3", "gs"):
        with pytest.raises(
            ValueError, match=f"^{scheme}:///x: no bucket is named; it must be {scheme}://BUCKET/FOLDER"
        ):
            open_storage(f"{scheme}:///x")


@pytest.mark.parametrize(
    ("scheme", "client", "module", "extra"),
    [("s3", "boto3", "storage_s3", "aws"), ("gs", "google.api_core.exceptions", "storage_gcs", "gcp")],
)
def test_a_client_that_is_not_installed(
    monkeypatch: pytest.MonkeyPatch, scheme: str, client: str, module: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, client, None)
    monkeypatch.delitem(sys.modules, f"transforms.{module}")
    with pytest.raises(
        ValueError, match=rf"^{scheme}://bucket/x: .*{client} is not installed; .*'hublabel\[{extra}\]'"
    ):
        open_storage(f"{scheme}://bucket/x")
