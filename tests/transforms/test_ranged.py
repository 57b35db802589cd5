"""Objects as files: what is read is what is there, and what is fetched for it."""

from __future__ import annotations

import io
import random
import threading

import pytest

from transforms import ranged
from transforms.ranged import OpenObject, StreamedObject
from transforms.storage import StorageError

DATA = random.Random(0).randbytes(300_000)


class Object:
    """One object of a store.

    Attributes:
        fetched: the ranges asked for.
        short: bytes by which answers are too short.
    """

    def __init__(self, data: bytes = DATA) -> None:
        self.data = data
        self.fetched: list[tuple[int, int]] = []
        self.short = 0

    def get_tail(self, name: str, length: int) -> tuple[bytes, int, str]:
        tail = self.data[-length:] if length else b""
        return tail[: len(tail) - self.short], len(self.data), "1"

    def get_range(self, name: str, start: int, stop: int, tag: str) -> bytes:
        assert 0 <= start < stop <= len(self.data)
        assert tag == "1"
        self.fetched.append((start, stop))
        return self.data[start : stop - self.short]


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"TAIL": 100, "FIRST_AHEAD": 1_000, "MOST_AHEAD": 8_000, "NEAR": 500, "AT_A_TIME": 3}.items():
        monkeypatch.setattr(ranged, name, value)


@pytest.mark.parametrize("kind", [OpenObject, StreamedObject])
@pytest.mark.parametrize("seed", range(20))
def test_reading_here_and_there(kind: type[OpenObject], seed: int) -> None:
    chance = random.Random(seed)
    data = DATA[: chance.choice([0, 1, 99, 100, 101, 5_000, 300_000])]
    local = io.BytesIO(data)
    with kind(Object(data), "x") as file:
        for _ in range(300):
            place = chance.choice([file.tell(), file.tell() + chance.randint(-300, 900), chance.randint(0, len(data))])
            size = chance.choice([0, 1, 100, chance.randint(0, 3_000), chance.randint(0, 30_000), -1])
            assert file.seek(max(0, place)) == local.seek(max(0, place))
            assert file.read(size) == local.read(size)
    assert file.closed


def test_reading_on_fetches_each_byte_once_in_growing_pieces() -> None:
    stored = Object()
    with StreamedObject(stored, "x") as file:
        assert b"".join(iter(lambda: file.read(777), b"")) == DATA
    assert stored.fetched[:4] == [(0, 1_000), (1_000, 3_000), (3_000, 7_000), (7_000, 15_000)]
    rest = sorted(stored.fetched[4:])
    starts = range(15_000, 300_000, 8_000)
    assert rest == [(start, min(start + 8_000, 300_000)) for start in starts]


def test_pieces_are_fetched_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    together = threading.Barrier(3)
    stored = Object()
    fetch = stored.get_range

    def get_range(name: str, start: int, stop: int, tag: str) -> bytes:
        if 15_000 <= start < 39_000:
            together.wait(timeout=20)
        return fetch(name, start, stop, tag)

    monkeypatch.setattr(stored, "get_range", get_range)
    with StreamedObject(stored, "x") as file:
        assert b"".join(file.read(1_000) for _ in range(50)) == DATA[:50_000]


def test_what_was_under_way_is_not_taken_for_what_is_elsewhere() -> None:
    with StreamedObject(Object(), "x") as file:
        for start in (0, 200_000, 50_000):
            file.seek(start)
            assert b"".join(file.read(1_000) for _ in range(60)) == DATA[start : start + 60_000]


def test_reads_elsewhere_fetch_nothing_else() -> None:
    stored = Object()
    with StreamedObject(stored, "x") as file:
        for start in (200_000, 5_000, 100_000, 50_000):
            file.seek(start)
            assert file.read(10) == DATA[start : start + 10]
        file.seek(50_400)
        assert file.read(10) == DATA[50_400:50_410]
    starts = [200_000, 5_000, 100_000, 50_000]
    assert stored.fetched == [*((start, start + 10) for start in starts), (50_010, 51_010)]


@pytest.mark.parametrize("kind", [OpenObject, StreamedObject])
@pytest.mark.parametrize("position", [0, 20_000])
def test_an_answer_that_is_too_short_is_no_end(kind: type[OpenObject], position: int) -> None:
    stored = Object()
    with kind(stored, "x") as file:
        assert file.read(position) == DATA[:position]
        stored.short = 1
        with pytest.raises(StorageError, match=r"^x: [\d,]+ of [\d,]+ bytes came$"):
            file.read(100_000)
    with pytest.raises(StorageError, match=r"^x: 99 of 100 bytes came$"):
        kind(stored, "x")
