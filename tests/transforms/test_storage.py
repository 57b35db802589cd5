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

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.object_store import BUCKET, Answer, ObjectStore
from transforms import storage_s3
from transforms.parts import PartFooter, commit_part, part_footer, part_name
from transforms.records import Shard
from transforms.storage import LocalStorage, Storage, StorageError, open_storage
from transforms.storage_s3 import S3Storage


@pytest.fixture
def s3(object_store: ObjectStore) -> S3Storage:
    """A folder of its own in the bucket."""
    object_store.well()
    return S3Storage(f"s3://{BUCKET}/{uuid.uuid4().hex}/out")


@pytest.fixture(params=["local", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    return LocalStorage(str(tmp_path / "out")) if request.param == "local" else request.getfixturevalue("s3")


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
    data = os.urandom(storage_s3.TAIL + 5000)
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


def test_a_part_that_cannot_be_read_now_is_not_damaged(
    s3: S3Storage, object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Damaged parts are removed and made again: an outage must not do that."""
    footer = PartFooter("plan", 0, 0, 0, rows=3, failed=0, run="run")
    name = part_name(Shard(0, 0, 3))
    commit_part(s3, Shard(0, 0, 3), pa.table({"row": [0, 1, 2]}), footer)
    object_store.refuse = lambda *_: (403, "AccessDenied")
    with pytest.raises(StorageError):
        part_footer(s3, name)
    object_store.well()
    monkeypatch.setattr(storage_s3, "TAIL", 100)  # less than the footer: pyarrow must ask for the rest
    gets: list[str] = []
    object_store.refuse = lambda *request: (403, "AccessDenied") if gets or gets.append(request[0]) else None
    with pytest.raises(StorageError):
        part_footer(s3, name)
    object_store.well()
    assert part_footer(s3, name) == footer
    assert len(object_store.requests) > 1


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


# S3.


@pytest.mark.usefixtures("without_pauses")
def test_a_lost_answer_is_no_lost_race(s3: S3Storage, object_store: ObjectStore) -> None:
    answers: list[Answer] = [(500, "InternalError"), (409, "ConditionalRequestConflict")]
    object_store.lose = lambda method, *_: answers.pop() if method == "PUT" and answers else None
    assert s3.put_if_absent("part", b"mine")  # carried out, answered 409, and asked for again
    assert s3.put_if_absent("part2", b"mine")
    assert answers == []
    assert s3.read("part") == s3.read("part2") == b"mine"


@pytest.mark.usefixtures("without_pauses")
def test_a_repeated_put_that_another_won_is_lost(s3: S3Storage, object_store: ObjectStore) -> None:
    s3.replace("part", b"another's")
    answers: list[Answer] = [(503, "SlowDown")]
    object_store.refuse = lambda method, *_: answers.pop() if method == "PUT" and answers else None
    assert not s3.put_if_absent("part", b"mine")
    assert s3.read("part") == b"another's"


def test_a_store_without_conditions_is_asked_first(s3: S3Storage, object_store: ObjectStore) -> None:
    conditions = {"if-match", "if-none-match"}
    object_store.refuse = lambda *request: (501, "NotImplemented") if conditions & set(request[2]) else None
    assert s3.put_if_absent("part", b"first")
    assert not s3.put_if_absent("part", b"second")
    assert s3.read("part") == b"first"
    tag = s3.put_if("lease", b"1", None)
    assert tag is not None
    assert s3.put_if("lease", b"2", "another") is None
    assert s3.put_if("lease", b"2", tag) == s3.tag("lease")
    s3.delete_if("lease", s3.tag("lease"))
    assert not s3.exists("lease")


def test_conditional_puts_follow_the_tag(s3: S3Storage) -> None:
    first = s3.put_if("lease", b"1", None)
    assert first is not None
    assert s3.put_if("lease", b"2", None) is None
    assert s3.read_tagged("lease") == (b"1", first)
    second = s3.put_if("lease", b"2", first)
    assert second == s3.tag("lease") != first
    assert s3.put_if("lease", b"3", first) is None
    s3.delete_if("lease", first)
    assert s3.read("lease") == b"2"
    assert second is not None
    s3.delete_if("lease", second)
    assert not s3.exists("lease")
    assert s3.put_if("lease", b"3", second) is None


def test_a_footer_costs_one_request(s3: S3Storage, object_store: ObjectStore) -> None:
    s3.replace("x", bytes(10 * storage_s3.TAIL))
    object_store.well()
    with s3.open("x") as file:
        file.seek(-8, os.SEEK_END)
        assert file.read() == bytes(8)
    assert len(object_store.requests) == 1


def test_an_object_that_changes_under_its_reader_is_an_error(s3: S3Storage) -> None:
    s3.replace("x", bytes(10 * storage_s3.TAIL))
    with s3.open("x") as file:
        s3.replace("x", bytes([1]) * 10 * storage_s3.TAIL)
        with pytest.raises(StorageError, match="x: changed while it was read"):
            file.read(10)


def test_lists_are_longer_than_a_page(
    s3: S3Storage, object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"many/{number}" for number in range(5)]
    for name in names:
        s3.replace(name, b"")
    monkeypatch.setattr(storage_s3, "PAGE", 2)
    object_store.well()
    assert list(s3.list("many")) == names
    assert len(object_store.requests) == 3


@pytest.mark.usefixtures("without_pauses")
def test_errors_name_the_object_and_the_reason(s3: S3Storage, object_store: ObjectStore) -> None:
    with pytest.raises(FileNotFoundError, match=r"^s3://no-such-bucket-here: there is no such bucket$"):
        S3Storage("s3://no-such-bucket-here/x").prepare()
    with pytest.raises(StorageError, match="NoSuchBucket"):
        S3Storage("s3://no-such-bucket-here/x").replace("a", b"")
    object_store.refuse = lambda *_: (403, "AccessDenied")
    with pytest.raises(StorageError, match=rf"^{s3.root}/a: access denied \(AccessDenied\)$"):
        s3.read("a")
    object_store.refuse = lambda *_: (500, "InternalError")
    for write in (s3.put_if_absent, s3.replace):
        with pytest.raises(StorageError, match=f"^{s3.root}/a: InternalError: by request of the test"):
            write("a", b"")
    assert len(object_store.requests) == 2 + 1 + 2 * 6


def test_s3_storages_pickle_small(s3: S3Storage) -> None:
    s3.replace("a", b"x")
    copy = pickle.loads(pickle.dumps(s3))
    assert copy.read("a") == b"x"
    assert len(pickle.dumps(s3)) < 300


# Schemes.


def test_schemes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert open_storage("file:///tmp/x").root == "/tmp/x"
    assert open_storage("s3://bucket/a/b/").root == "s3://bucket/a/b"
    assert open_storage("S3://bucket").root == "s3://bucket"
    with pytest.raises(ValueError, match=r"^ftp://bucket/x: .*; ftp:// is not supported$"):
        open_storage("ftp://bucket/x")
    with pytest.raises(ValueError, match=r"^s3:///x: no bucket is named"):
        open_storage("s3:///x")
    monkeypatch.setitem(sys.modules, "boto3", None)
    monkeypatch.delitem(sys.modules, "transforms.storage_s3")
    with pytest.raises(ValueError, match=r"^s3://bucket/x: boto3 is not installed; .*'hublabel\[aws\]'"):
        open_storage("s3://bucket/x")
