from __future__ import annotations

from pathlib import Path

import pytest

from transforms.attempts import attempt, forget_deaths, mark_name, withdraw_marks
from transforms.records import Shard
from transforms.storage import LocalStorage

SHARD = Shard(1, 2, 10)


def marks(storage: LocalStorage) -> list[str]:
    return sorted(storage.list("attempts/00001"))


def test_only_a_death_leaves_its_mark(tmp_path: Path) -> None:
    storage = LocalStorage(str(tmp_path))
    with attempt(storage, SHARD) as deaths:
        assert deaths == 0
        assert marks(storage) == [mark_name(SHARD, 1)]
    assert marks(storage) == []
    with pytest.raises(ValueError, match="orderly"), attempt(storage, SHARD):
        raise ValueError("orderly failure")
    assert marks(storage) == []
    storage.put_if_absent(mark_name(SHARD, 1), b"")  # two dead processes' marks
    storage.put_if_absent(mark_name(SHARD, 2), b"")
    with attempt(storage, SHARD) as deaths:
        assert deaths == 2
        forget_deaths(storage, SHARD, deaths)
    assert marks(storage) == []


def test_a_process_that_is_told_to_end_withdraws_its_marks(tmp_path: Path) -> None:
    storage = LocalStorage(str(tmp_path))
    storage.put_if_absent(mark_name(SHARD, 1), b"")
    with attempt(storage, SHARD) as deaths:
        assert deaths == 1
        withdraw_marks()
        assert marks(storage) == [mark_name(SHARD, 1)]
