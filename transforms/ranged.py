"""An object of an object store as a file to seek in."""

from __future__ import annotations

import io
from typing import Any, Protocol

TAIL = 64 * 1024  # bytes that opening fetches: the footer of any part, and the whole of most small ones


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
        if start >= tail_start:
            data = self._tail[start - tail_start : stop - tail_start]
        else:
            data = self._storage.get_range(self._name, start, stop, self._tag)
        self._position = start + len(data)
        return data

    def readall(self) -> bytes:
        return self.read()

    def readinto(self, buffer: Any) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)
