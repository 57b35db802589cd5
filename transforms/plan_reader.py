"""Shards as the plan has them: one row group of one plan file."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

OPEN_FILES = 8  # a footer of 1,000 row groups takes about a megabyte


def plan_file(root: str, number: int) -> str:
    """Path of a plan file below a run's root."""
    return f"{root.rstrip('/')}/plan/plan-{number:05d}.parquet"


def read_shard(path: str, row_group: int) -> pa.Table:
    """The rows of one shard.

    Plan files stay open, the last few used, since parsing a footer of 1,000 row groups costs more than reading one.
    Safe to call from several threads.

    Args:
        path: local path of a plan file.
        row_group: 0 .. the file's row groups - 1.

    Returns:
        Columns `row: int64` (position in the plan), `uri: string`, then the carried ones.

    Raises:
        IndexError: the file has no such row group.
        OSError: the file cannot be read.
    """
    file = _open_file(path)
    with file.lock:
        reader = file.reader()
        if not 0 <= row_group < reader.num_row_groups:
            raise IndexError(f"{path} has row groups 0 to {reader.num_row_groups - 1}, not {row_group}")
        return reader.read_row_group(row_group, use_threads=False)


@dataclass
class _OpenFile:
    """A plan file and its reader, made by the first thread that needs it; `ParquetFile` is not thread-safe."""

    path: str
    lock: threading.Lock = field(default_factory=threading.Lock)
    _reader: pq.ParquetFile | None = None

    def reader(self) -> pq.ParquetFile:
        import pyarrow.parquet as pq

        if self._reader is None:
            self._reader = pq.ParquetFile(self.path)
        return self._reader


_files: OrderedDict[tuple[str, int, int], _OpenFile] = OrderedDict()
_files_lock = threading.Lock()


def _open_file(path: str) -> _OpenFile:
    # part of the key, so that another run's plan at the same path is never taken for this one
    status = os.stat(path)
    key = (path, status.st_ino, status.st_mtime_ns)
    with _files_lock:
        file = _files.pop(key, None) or _OpenFile(path)
        _files[key] = file
        # a thread that still reads an evicted file holds it; its handle closes with the last reference
        while len(_files) > OPEN_FILES:
            _files.popitem(last=False)
    return file
