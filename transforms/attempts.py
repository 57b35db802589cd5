"""Marks of attempts: how often a shard was begun and its worker died of it.

A mark is an object `attempts/<file>/<row group>-<attempt>`, made before the first image of a shard is touched and
removed when the shard is done or has failed in an orderly way. Only the death of a process leaves it behind, so the
marks of a shard count the processes that died with it in their hands, on every runner alike.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from transforms.records import Shard
from transforms.storage import Storage

FOLDER = "attempts"
DEATHS_BEFORE_ISOLATION = 2

_mine: dict[tuple[str, str], Storage] = {}  # marks this process has made and not removed
_guard = threading.Lock()


def mark_name(shard: Shard, attempt: int) -> str:
    """Name of the mark of the `attempt`-th death (from 1) of a shard."""
    return f"{FOLDER}/{shard.file:05d}/{shard.row_group:05d}-{attempt}"


@contextlib.contextmanager
def attempt(storage: Storage, shard: Shard) -> Iterator[int]:
    """Mark an attempt at `shard` for as long as the body runs; yields how many processes died of it before."""
    deaths = 0
    with _guard:  # no mark is made unseen while they are withdrawn
        while not storage.put_if_absent(mark_name(shard, deaths + 1), b"begun\n"):
            deaths += 1
        name = mark_name(shard, deaths + 1)
        _mine[storage.root, name] = storage
    try:
        yield deaths
    finally:
        with _guard:
            _mine.pop((storage.root, name), None)
        storage.delete(name)


def forget_deaths(storage: Storage, shard: Shard, deaths: int) -> None:
    """Remove the marks of earlier deaths: the shard is done."""
    for number in range(1, deaths + 1):
        storage.delete(mark_name(shard, number))


def withdraw_marks() -> None:
    """Remove this process's marks, when it is made to end and is not dying of an image."""
    with _guard:
        for (_, name), storage in _mine.items():
            storage.delete(name)
        _mine.clear()


def remove_marks(storage: Storage, file: int) -> None:
    """Remove all marks of plan file number `file`; nobody may be at work on it."""
    for name in list(storage.list(f"{FOLDER}/{file:05d}")):
        storage.delete(name)
