"""Reading ahead, with readers and decoders that obey the test."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from transforms.ahead import READ_AHEAD, FilledBatch, Patience, Timeouts, batches, batches_or_waits
from transforms.errors import ImageError
from transforms.pools import FETCHED_BYTES
from transforms.preprocessing import Preprocessing
from transforms.records import Row

SPEC = Preprocessing(height=1, width=1, scale=1.0, mean=(0, 0, 0), std=(1, 1, 1), max_bytes=1000)


def read_number(uri: str, max_bytes: int) -> bytes:
    """The bytes of image `n` are its number; every seventh is missing."""
    assert max_bytes == SPEC.max_bytes
    if int(uri) % 7 == 3:
        raise ImageError("read", "not_found", "no such file")
    return uri.encode()


def decode_number(data: bytes, row: Row, spec: Preprocessing) -> np.ndarray:
    """A pixel of the image's number; every eleventh is broken."""
    row.format, row.width, row.height = "number", 1, 1
    if int(data) % 11 == 5:
        raise ImageError("decode", "corrupt", "damaged")
    return np.full((1, 1, 3), int(data) % 256, np.uint8)


def rows_of(count: int) -> list[Row]:
    return [Row(100 + n, n, str(n)) for n in range(count)]


def run(
    count: int, batch_size: int = 4, read: Callable = read_number, decode: Callable = decode_number, threads: int = 2,
    timeouts: Timeouts | None = None,
) -> list[FilledBatch]:  # fmt: skip
    return list(batches(rows_of(count), SPEC, batch_size, read, decode, threads, timeouts))


@pytest.mark.parametrize("threads", [1, 8])
@pytest.mark.parametrize("batch_size", [1, 4, 32])
@pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 100, 1000])
def test_every_row_once_and_each_image_in_its_rows_slot(count: int, batch_size: int, threads: int) -> None:
    found = run(count, batch_size, threads=threads)
    rows = [row for batch in found for row in (*batch.rows, *batch.failed)]
    assert sorted(row.position for row in rows) == list(range(count))
    for batch in found:
        if batch.images is None:
            assert batch.rows == []
            continue
        assert batch.images.shape == (batch_size, 1, 1, 3)
        assert batch.images.dtype == np.float32
        assert 1 <= len(batch.rows) <= batch_size
        expected = [int(row.uri) % 256 for row in batch.rows] + [0] * (batch_size - len(batch.rows))
        assert batch.images[:, 0, 0, 0].tolist() == expected
        for row in batch.rows:
            assert row.status == "ok"
            assert row.sha256 == hashlib.sha256(row.uri.encode()).hexdigest()
            assert (row.bytes, row.format, row.width) == (len(row.uri), "number", 1)
    for row in rows:
        number = int(row.uri)
        reason = "not_found" if number % 7 == 3 else "corrupt" if number % 11 == 5 else None
        assert row.error_type == reason
        assert row.row == 100 + number
    partial = [len(b.rows) for b in found if b.images is not None and len(b.rows) < batch_size]
    assert len(partial) <= 1
    assert not FETCHED_BYTES.exhausted


def test_failed_rows_use_no_slots() -> None:
    def refuse(uri: str, max_bytes: int) -> bytes:
        raise ImageError("read", "not_found", "no such file")

    found = run(10, read=refuse)
    assert all(batch.images is None for batch in found)
    assert sum(len(batch.failed) for batch in found) == 10


def test_a_slow_image_holds_up_nobody() -> None:
    release = threading.Event()

    def read(uri: str, max_bytes: int) -> bytes:
        if uri == "0":
            assert release.wait(30)
        return uri.encode()

    def decode(data: bytes, row: Row, spec: Preprocessing) -> np.ndarray:
        return np.zeros((1, 1, 3), np.uint8)

    seen: list[str] = []
    for batch in batches(rows_of(41), SPEC, 4, read, decode, 2):
        seen += [row.uri for row in batch.rows]
        if len(seen) == 40:
            release.set()
    assert "0" not in seen[:40]
    assert sorted(map(int, seen)) == list(range(41))


def test_one_slow_read_in_a_hundred_holds_up_no_batch() -> None:
    release = threading.Event()

    def read(uri: str, max_bytes: int) -> bytes:
        if int(uri) % 100 == 7:
            assert release.wait(60)
        return uri.encode()

    def decode(data: bytes, row: Row, spec: Preprocessing) -> np.ndarray:
        return np.zeros((1, 1, 3), np.uint8)

    seen: list[int] = []
    for batch in batches(rows_of(1000), SPEC, 10, read, decode, 2):
        assert len(batch.rows) == 10
        seen += [int(row.uri) for row in batch.rows]
        if len(seen) == 990:  # all that is not slow came while nothing slow did
            assert not [number for number in seen if number % 100 == 7]
            release.set()
    assert sorted(seen) == list(range(1000))


def test_slow_reads_are_told_and_may_be_waited_for_later() -> None:
    release = threading.Event()

    def read(uri: str, max_bytes: int) -> bytes:
        if uri == "2":
            assert release.wait(60)
        return read_number(uri, max_bytes)

    patience = Patience(0.05)
    stream = batches_or_waits(rows_of(7), SPEC, 2, read, decode_number, 2, patience=patience)
    found = [next(stream) for _ in range(3)]
    assert [None if batch is None else len(batch.rows) for batch in found] == [2, 2, None]
    assert next(stream) is None
    release.set()
    patience.seconds = None
    (last,) = stream
    assert last is not None
    early = [row.uri for batch in found if batch is not None for row in (*batch.rows, *batch.failed)]
    assert sorted([*early, *(row.uri for row in (*last.rows, *last.failed))]) == list("0123456")
    assert "2" in [row.uri for row in last.rows]


def test_a_slow_read_that_hangs_is_given_up_though_nobody_waits_for_it() -> None:
    release = threading.Event()
    patience = Patience(0.05)
    stream = batches_or_waits(
        rows_of(1), SPEC, 2, lambda uri, limit: b"1" * release.wait(60), decode_number, 2, Timeouts(read=0.2), patience
    )
    found = [batch for batch in stream if batch is not None]
    release.set()
    assert [(row.uri, row.error_type) for batch in found for row in batch.failed] == [("0", "timeout")]


def test_reading_ahead_is_bounded() -> None:
    started: list[str] = []

    def read(uri: str, max_bytes: int) -> bytes:
        started.append(uri)
        return b"1"

    stream = batches(rows_of(10_000), SPEC, 4, read, decode_number, 2)
    next(stream)
    next(stream)
    assert len(started) <= READ_AHEAD + 2 * 4 + 2 * 4
    stream.close()


def test_what_hangs_is_given_up_and_the_rest_goes_on() -> None:
    release = threading.Event()

    def read(uri: str, max_bytes: int) -> bytes:
        if uri == "2":
            release.wait(60)
        return uri.encode()

    def decode(data: bytes, row: Row, spec: Preprocessing) -> np.ndarray:
        if data in (b"5", b"6", b"8"):  # more than there are threads
            release.wait(60)
            row.format = "too late"
        return np.full((1, 1, 3), int(data), np.uint8)

    rows = {}
    for batch in batches(rows_of(12), SPEC, 4, read, decode, 2, Timeouts(read=0.3, decode=0.3)):
        rows.update({row.uri: row for row in (*batch.rows, *batch.failed)})
    release.set()
    failed = {uri: (row.error_stage, row.error_type, row.error_message) for uri, row in rows.items() if row.error_type}
    assert failed == {
        "2": ("read", "timeout", "gave up after 0.3 seconds"),
        **dict.fromkeys(("5", "6", "8"), ("decode", "timeout", "gave up after 0.3 seconds")),
    }
    assert len(rows) == 12


def test_whatever_a_library_raises_is_a_failed_row() -> None:
    def decode(data: bytes, row: Row, spec: Preprocessing) -> np.ndarray:
        if data == b"1":
            raise KeyError("surprise")
        if data == b"2":
            raise MemoryError
        return np.zeros((1, 1, 3), np.uint8)

    def read(uri: str, max_bytes: int) -> bytes:
        return uri.encode()

    found = run(3, read=read, decode=decode)
    failed = {row.uri: (row.error_stage, row.error_type) for batch in found for row in batch.failed}
    assert failed == {"1": ("decode", "unexpected_error"), "2": ("decode", "out_of_memory")}


def test_rows_that_failed_in_the_plan_are_not_read() -> None:
    rows = rows_of(2)
    rows[0].fail(ImageError("read", "bad_line", "line 7 is broken"))
    found = list(batches(rows, SPEC, 4, read_number, decode_number, 2))
    assert [row.uri for batch in found for row in batch.failed] == ["0"]
    assert [row.uri for batch in found for row in batch.rows] == ["1"]


def test_closing_early_gives_everything_back(tmp_path: Path) -> None:
    before = FETCHED_BYTES._held
    stream = batches(rows_of(500), SPEC, 4, lambda uri, limit: b"1" * 1000, decode_number, 2)
    next(stream)
    stream.close()
    settled = threading.Event()
    for _ in range(100):
        if FETCHED_BYTES._held == before:
            break
        settled.wait(0.05)
    assert FETCHED_BYTES._held == before
