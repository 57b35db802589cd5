"""Shards as the plan has them: one row group of one plan file."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from transforms.storage import LocalStorage, ObjectStorage, Storage, StorageError, explain, is_remote, open_storage

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

FOLDER = "plan"
ERROR = "_hublabel_error"  # column: why a row cannot be read; null in all others
SOURCE = "_hublabel_source"  # column: what is read for a row, where that is not its URI
OPEN_FILES = 8  # a footer of 1,000 row groups takes about a megabyte


def plan_file(root: str, number: int) -> str:
    """Path of a plan file below a run's root."""
    return f"{root.rstrip('/')}/{FOLDER}/plan-{number:05d}.parquet"


def read_shard(path: str, row_group: int) -> pa.Table:
    """The rows of one shard.

    Plan files stay open, the last few used, since parsing a footer of 1,000 row groups costs more than reading one.
    Of a file in an object store a process fetches the footer once, and then the shards it reads and no others.
    Safe to call from several threads.

    Args:
        path: of a plan file, as `plan_file` gives it.
        row_group: 0 .. the file's row groups - 1.

    Returns:
        Columns `row: int64` (position in the plan), `uri: string`, then the carried ones.

    Raises:
        IndexError: the file has no such row group.
        StorageError: the file cannot be read, or is damaged.
    """
    import pyarrow as pa

    try:
        file = _open_file(path)
        with file.lock:
            reader = file.reader()
            if not 0 <= row_group < reader.num_row_groups:
                raise IndexError(f"{path} has row groups 0 to {reader.num_row_groups - 1}, not {row_group}")
            return reader.read_row_group(row_group, use_threads=False)
    except StorageError:  # of the object store, which says nothing of the plan
        raise
    except (pa.ArrowException, OSError) as error:
        reason = " ".join((explain(error) if isinstance(error, OSError) else str(error)).split())
        raise StorageError(
            f"{path}: the plan cannot be read ({reason}); restore it from a copy, or begin anew in another output.path"
        ) from error


def carried_columns(storage: Storage, names: Sequence[str]) -> bytes:
    """The types of the columns a plan carries, as a serialised Arrow schema; empty for none.

    Args:
        names: `input.columns`; the plan has them all.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not names:
        return b""
    with storage.open(f"{FOLDER}/plan-00000.parquet") as file:
        schema = pq.read_schema(file)
    return pa.schema([schema.field(name) for name in names]).serialize().to_pybytes()


@dataclass
class _OpenFile:
    """A plan file and its reader, made by the first thread that needs it; `ParquetFile` is not thread-safe."""

    storage: Storage
    name: str
    lock: threading.Lock = field(default_factory=threading.Lock)
    _reader: pq.ParquetFile | None = None

    def reader(self) -> pq.ParquetFile:
        import pyarrow.parquet as pq

        if self._reader is None:
            # pre_buffer: the columns of a row group lie side by side and come in one request
            self._reader = pq.ParquetFile(
                self.storage.open(self.name),
                pre_buffer=is_remote(self.storage.root),
                page_checksum_verification=True,
            )
        return self._reader


_files: OrderedDict[tuple[str, str], _OpenFile] = OrderedDict()
_files_lock = threading.Lock()


def _open_file(path: str) -> _OpenFile:
    root, _, base = path.rpartition(f"/{FOLDER}/")
    storage = open_storage(root)
    key = (path, _version(storage, f"{FOLDER}/{base}"))
    with _files_lock:
        file = _files.pop(key, None) or _OpenFile(storage, f"{FOLDER}/{base}")
        _files[key] = file
        # a thread that still reads an evicted file holds it; its handle closes with the last reference
        while len(_files) > OPEN_FILES:
            _files.popitem(last=False)
    return file


def _version(storage: Storage, name: str) -> str:
    """Differs between two files of the same name: another run's plan at the same path is never taken for this one."""
    if isinstance(storage, LocalStorage):
        status = os.stat(storage.path(name))
        return f"{status.st_ino}-{status.st_mtime_ns}"
    return cast(ObjectStorage, storage).tag(name)
