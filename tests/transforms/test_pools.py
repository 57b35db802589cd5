"""Budgets and threads when a task hangs: it must not keep from others what it holds."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import pytest

from transforms import ahead
from transforms.ahead import FilledBatch, Timeouts, batches
from transforms.pools import Budget, Pool, Task
from transforms.preprocessing import Preprocessing
from transforms.records import Row

SPEC = Preprocessing(height=1, width=1, scale=1.0, mean=(0, 0, 0), std=(1, 1, 1))
PATIENCE = 60.0  # seconds until a test that waits for ever is a failed one


def on_threads(*works: Callable[[], None]) -> list[Task]:
    """Tasks of a pool with a thread for each."""
    pool = Pool("test", len(works))
    tasks = [Task(work) for work in works]
    for task in tasks:
        pool.submit(task)
    return tasks


def read(uri: str, max_bytes: int) -> bytes:
    return uri.encode()


def outcomes(found: list[FilledBatch]) -> list[tuple[int, str | None]]:
    """(position, error type) of every row, sorted."""
    return sorted((row.position, row.error_type) for batch in found for row in (*batch.rows, *batch.failed))


def test_a_decode_that_hangs_gives_back_its_pixels_and_costs_no_neighbour() -> None:
    budget, release, left = Budget(100), threading.Event(), threading.Event()

    def decode(data: bytes, row: Row, spec: Preprocessing) -> np.ndarray:
        with budget.hold(80 if data == b"0" else 50):
            if data == b"0":
                release.wait(PATIENCE)
        if data == b"0":
            left.set()
        return np.zeros((1, 1, 3), np.uint8)

    rows = [Row(n, n, str(n)) for n in range(12)]
    found = list(batches(rows, SPEC, 4, read, decode, 2, Timeouts(read=PATIENCE, decode=0.3)))
    assert outcomes(found) == [(0, "timeout"), *((n, None) for n in range(1, 12))]
    assert not budget.exhausted
    release.set()
    assert left.wait(PATIENCE)
    with budget.hold(100):  # it gave back once, not twice
        assert budget.exhausted


def test_an_image_in_a_batch_is_not_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    looked = threading.Event()
    normalize, give_up_hung = ahead.normalize, ahead._Ahead._give_up_hung

    def slow(pixels: np.ndarray, spec: Preprocessing, out: np.ndarray) -> None:
        assert looked.wait(PATIENCE)
        normalize(pixels, spec, out)

    def look(self: ahead._Ahead) -> None:
        give_up_hung(self)
        looked.set()

    monkeypatch.setattr(ahead, "normalize", slow)
    monkeypatch.setattr(ahead._Ahead, "_give_up_hung", look)

    def decode(data: bytes, row: Row, spec: Preprocessing) -> np.ndarray:
        return np.full((1, 1, 3), int(data), np.uint8)

    found = list(batches([Row(n, n, str(n)) for n in range(3)], SPEC, 4, read, decode, 2, Timeouts(decode=0.1)))
    assert outcomes(found) == [(0, None), (1, None), (2, None)]


def test_waiting_for_a_share_is_not_a_tasks_own_time() -> None:
    budget, release, waits, done = Budget(100), threading.Event(), threading.Event(), threading.Event()

    def first() -> None:
        with budget.hold(100):
            waits.set()
            release.wait(PATIENCE)

    def second() -> None:
        assert waits.wait(PATIENCE)
        with budget.hold(1):
            done.set()
            release.wait(PATIENCE)

    _, waiting = on_threads(first, second)
    assert waits.wait(PATIENCE)
    while waiting.started is not None and not done.wait(0.01):  # until it has come to its hold
        continue
    assert not done.is_set()
    release.set()
    assert done.wait(PATIENCE)
    assert waiting.started is not None
