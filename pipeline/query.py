"""SQL over the predictions of an output: DuckDB on its newest parts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pipeline.errors import UsageError
from pipeline.record import NAME, RunRecord, load_record
from transforms.parts import newest_parts
from transforms.storage import LocalStorage, Storage, open_storage

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa


def open_output(output: str) -> tuple[Storage, RunRecord]:
    """The storage and the record of the run in `output`.

    Raises:
        UsageError: there is no run.
    """
    try:
        storage = open_storage(output)
    except ValueError as error:
        raise UsageError(str(error)) from None
    record = load_record(storage, storage.root)
    if record is None:
        raise UsageError(f"{output}: no run here (no {NAME})")
    return storage, record


def part_names(storage: Storage, record: RunRecord) -> list[str]:
    """Names of the newest parts, in the plan's order."""
    return [
        name
        for number in range(len(record.plan.files))
        for _, (_, name) in sorted(newest_parts(storage, number).items())
    ]


def connect(output: str) -> duckdb.DuckDBPyConnection:
    """A DuckDB connection with one view, `predictions`; it reads nothing else of this machine and writes nothing.

    Raises:
        UsageError: there is no run in `output`, or it has no part yet.
    """
    import duckdb

    storage, record = open_output(output)
    names = part_names(storage, record)
    if not names:
        raise UsageError(f"{output}: no image has been labelled yet")
    connection = duckdb.connect()
    if isinstance(storage, LocalStorage):
        paths = [storage.path(name) for name in names]
        connection.read_parquet(paths, hive_partitioning=False).create_view("predictions")
        connection.execute("SET allowed_paths = ?", [paths])
    else:
        connection.register("predictions", _reader(storage, names))
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
    return connection


def _reader(storage: Storage, names: list[str]) -> pa.RecordBatchReader:
    """All parts as one stream of record batches, for outputs that DuckDB cannot open itself."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    def batches() -> Iterator[pa.RecordBatch]:
        for name in names:
            with storage.open(name) as source, pq.ParquetFile(source) as file:
                yield from file.iter_batches()

    with storage.open(names[0]) as source:
        schema = pq.read_schema(source).remove_metadata()
    return pa.RecordBatchReader.from_batches(schema, batches())
