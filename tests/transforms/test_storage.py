"""What every storage promises, and what only one kind can suffer."""

from __future__ import annotations

import errno
import os
import sys
import threading
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from transforms import ranged
from transforms.parts import PartFooter, commit_part, part_footer, part_name
from transforms.records import Shard
from transforms.storage import TOP, LocalStorage, Storage, open_storage


@pytest.fixture(params=["local", "s3", "google"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "local":
        return LocalStorage(str(tmp_path / "out"))
    return request.getfixturevalue(request.param).storage


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


def test_files_are_uploaded_and_moved(storage: Storage, tmp_path: Path) -> None:
    data = os.urandom(9 << 20)  # more than goes in one piece to S3
    (tmp_path / "plan").write_bytes(data)
    storage.prepare()
    storage.replace("plan/plan-00000.parquet", b"old")
    storage.upload("made/0", str(tmp_path / "plan"))
    assert list(storage.list("made")) == ["made/0"]
    storage.move("made/0", "plan/plan-00000.parquet")
    assert storage.read("plan/plan-00000.parquet") == data
    assert list(storage.list("made")) == []
    assert list(storage.list("plan")) == ["plan/plan-00000.parquet"]


def test_what_is_not_there_is_not_found(storage: Storage) -> None:
    for look in (storage.read, storage.open):
        with pytest.raises(FileNotFoundError):
            look("p/x")


def test_list_tells_what_lies_directly_in_a_folder(storage: Storage) -> None:
    for name in ("p/x", "p/.tmp-y", "p/folder/z", "p2/x", "run.yaml"):
        storage.replace(name, b"x")
    assert sorted(storage.list("p")) == ["p/.tmp-y", "p/folder", "p/x"]
    assert list(storage.list("nowhere")) == []
    assert sorted(storage.list(TOP)) == ["p", "p2", "run.yaml"]


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
    with pytest.raises(OSError, match="the disk is full; what is committed stays"):
        storage.put_if_absent("a", b"data")
    assert os.listdir(tmp_path) == []


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
