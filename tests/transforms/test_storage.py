import errno
import os
import threading
from pathlib import Path

import pytest

from transforms.storage import LocalStorage, open_storage


def test_first_commit_wins_and_nothing_temporary_remains(tmp_path: Path) -> None:
    storage = LocalStorage(str(tmp_path))
    assert storage.put_if_absent("a/b.bin", b"first")
    inode = os.stat(tmp_path / "a/b.bin").st_ino
    assert not storage.put_if_absent("a/b.bin", b"second")
    assert storage.read("a/b.bin") == b"first"
    assert os.stat(tmp_path / "a/b.bin").st_ino == inode
    assert os.listdir(tmp_path / "a") == ["b.bin"]


def test_racing_writers_agree_on_one_winner(tmp_path: Path) -> None:
    storage = LocalStorage(str(tmp_path))
    for round_number in range(20):
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


def test_without_hard_links_the_first_commit_still_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: str, target: str) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    storage = LocalStorage(str(tmp_path))
    assert storage.put_if_absent("a", b"first")
    assert not storage.put_if_absent("a", b"second")
    assert storage.read("a") == b"first"
    assert os.listdir(tmp_path) == ["a"]


def test_a_failing_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    storage = LocalStorage(str(tmp_path))
    with pytest.raises(OSError, match="No space left"):
        storage.put_if_absent("a", b"data")
    assert os.listdir(tmp_path) == []


def test_replace_list_delete(tmp_path: Path) -> None:
    storage = LocalStorage(str(tmp_path))
    storage.replace("run.yaml", b"1")
    storage.replace("run.yaml", b"2")
    assert storage.read("run.yaml") == b"2"
    storage.put_if_absent("p/x", b"")
    assert list(storage.list("p")) == ["p/x"]
    assert list(storage.list("nowhere")) == []
    storage.delete("p/x")
    storage.delete("p/x")
    assert not storage.exists("p/x")
    with pytest.raises(FileNotFoundError):
        storage.read("p/x")


def test_schemes() -> None:
    assert open_storage("file:///tmp/x").root == "/tmp/x"
    with pytest.raises(ValueError, match="s3://"):
        open_storage("s3://bucket/x")
