"""An object of an object store as a file to seek in."""

from __future__ import annotations

import io
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

from transforms.storage import StorageError

TAIL = 64 * 1024  # bytes that opening fetches: the footer of any part, and the whole of most small ones
FIRST_AHEAD, MOST_AHEAD = 256 << 10, 8 << 20  # bytes that are read on beyond what is asked for
AT_A_TIME = 6  # pieces: one connection to S3 gives some 80 MB/s
NEAR = 2 << 20  # bytes that are not worth a request of their own: some 30 ms of a fast connection


class RangedObject(Protocol):
    """What reading an object here and there takes."""

    def get_tail(self, name: str, length: int) -> tuple[bytes, int, str]:
        """The last `length` bytes of `name` or all of them, its size in bytes, its tag. Raises FileNotFoundError."""

    def get_range(self, name: str, start: int, stop: int, tag: str) -> bytes:
        """Bytes `start` to `stop` of `name`. Raises StorageError when it is no longer the one of `tag`."""


class OpenObject(io.RawIOBase):
    """Opening fetches the end, where Parquet keeps its footer; a read elsewhere is one request."""

    def __init__(self, storage: RangedObject, name: str) -> None:
        self._storage, self._name = storage, name
        self._tail, self._size, self._tag = storage.get_tail(name, TAIL)
        self._check(len(self._tail), min(TAIL, self._size))
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._position = max(0, offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence])
        return self._position

    def read(self, size: int | None = -1) -> bytes:
        start = min(self._position, self._size)
        stop = self._size if size is None or size < 0 else min(self._size, start + size)
        tail_start = self._size - len(self._tail)
        if start >= min(stop, tail_start):
            data = self._tail[start - tail_start : stop - tail_start]
        else:
            data = self._fetch(start, stop)
        self._position = start + len(data)
        return data

    def _fetch(self, start: int, stop: int) -> bytes:
        """Bytes `start` to `stop`, all of them."""
        data = self._storage.get_range(self._name, start, stop, self._tag)
        self._check(len(data), stop - start)
        return data

    def _check(self, came: int, wanted: int) -> None:
        if came < wanted:  # not to be taken for the end of the object
            raise StorageError(f"{self._name}: {came:,} of {wanted:,} bytes came")

    def readall(self) -> bytes:
        return self.read()

    def readinto(self, buffer: Any) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


class StreamedObject(OpenObject):
    """Made for reading from front to back, with gaps: reads on, twice as far each time, while that is what is done.

    When it has gone on for long, several pieces are fetched at a time. Reads elsewhere fetch what is asked for and
    nothing else.
    """

    def __init__(self, storage: RangedObject, name: str) -> None:
        self._piece, self._piece_start = b"", 0
        self._ahead = 0
        self._threads: ThreadPoolExecutor | None = None
        self._coming: deque[Future[bytes]] = deque()  # the pieces behind this one
        self._coming_end = 0
        super().__init__(storage, name)

    @property
    def _piece_end(self) -> int:
        return self._piece_start + len(self._piece)

    def _fetch(self, start: int, stop: int) -> bytes:
        if not self._piece_start <= start <= self._piece_end + NEAR:
            self._ahead = 0
            self._give_up_coming()
            self._piece, self._piece_start = super()._fetch(start, stop), start
        elif stop > self._piece_end:
            self._ahead = min(max(FIRST_AHEAD, 2 * self._ahead), MOST_AHEAD)
            kept = min(start, self._piece_end)
            self._piece, self._piece_start = self._piece[kept - self._piece_start :], kept
            while self._piece_end < stop:
                self._piece += self._next_piece(stop)
        at = start - self._piece_start
        return self._piece[at : at + stop - start]

    def _next_piece(self, stop: int) -> bytes:
        if self._ahead < MOST_AHEAD:
            return super()._fetch(self._piece_end, min(self._size, max(stop, self._piece_end + self._ahead)))
        self._threads = self._threads or ThreadPoolExecutor(AT_A_TIME)
        start = self._coming_end if self._coming else self._piece_end
        while len(self._coming) < AT_A_TIME and start < self._size:
            end = min(self._size, start + MOST_AHEAD)
            self._coming.append(self._threads.submit(super()._fetch, start, end))
            start = self._coming_end = end
        return self._coming.popleft().result()

    def _give_up_coming(self) -> None:
        for piece in self._coming:
            piece.cancel()
        self._coming.clear()

    def close(self) -> None:
        self._give_up_coming()
        if self._threads is not None:
            self._threads.shutdown(wait=False)
        super().close()
