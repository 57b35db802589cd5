"""SQL over the predictions of an output: DuckDB on its newest parts.

DuckDB looks for pandas whenever it is given a value from Python: 0.3 s, and 50 MB, so it is hidden meanwhile.
"""

from __future__ import annotations

import tempfile
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from pipeline.arrow import forgo_pandas
from pipeline.errors import HublabelError, UsageError
from pipeline.record import NAME, RunRecord, load_record
from transforms.lean import without
from transforms.parts import REQUESTS, newest_parts, read_parts, read_rows
from transforms.storage import LocalStorage, Storage, open_storage

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

MEMORY = "1GB"  # what DuckDB may take for `predictions` before it spills to disk


def open_output(output: str) -> tuple[Storage, RunRecord]:
    """The storage and the record of the run in `output`, for commands that go on without pandas.

    Raises:
        UsageError: there is no run.
    """
    forgo_pandas()
    try:
        storage = open_storage(output)
    except ValueError as error:
        raise UsageError(str(error)) from None
    record = load_record(storage, storage.root)
    if record is None:
        raise UsageError(f"{output}: no run here (no {NAME})")
    return storage, record


def rows_of(storage: Storage, record: RunRecord, numbers: Iterable[int], columns: Sequence[str]) -> dict[int, Any]:
    """Chosen rows by their number, each a mapping of those of `columns` that it has; only their parts are read.

    Rows whose part is not there (any more) are left out.
    """
    wanted: dict[tuple[int, int], list[int]] = {}
    starts = list(accumulate((file.rows for file in record.plan.files), initial=0))
    for number in sorted(set(numbers)):
        file = bisect_right(starts, number) - 1
        wanted.setdefault((file, (number - starts[file]) // record.plan.files[file].shard_size), []).append(number)
    names = {
        (file, row_group): name
        for file in sorted({file for file, _ in wanted})
        for row_group, (_, name) in newest_parts(storage, file).items()
    }
    there = [(names[shard], rows) for shard, rows in wanted.items() if shard in names]

    def read(name: str, rows: list[int]) -> list[dict[str, Any]]:
        try:
            table = read_rows(storage, name, ["row", *columns])
        except FileNotFoundError:  # superseded meanwhile
            return []
        first = table["row"][0].as_py()
        return table.take([row - first for row in rows]).to_pylist()

    with ThreadPoolExecutor(REQUESTS) as pool:
        found = pool.map(read, *zip(*there, strict=True)) if there else iter(())
        return {row["row"]: row for rows in found for row in rows}


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
    storage, record = open_output(output)
    names = part_names(storage, record)
    if not names:
        raise UsageError(f"{output}: no image has been labelled yet")
    connection = _connection()
    with without("pandas"):
        if isinstance(storage, LocalStorage):
            paths = [storage.path(name) for name in names]
            connection.read_parquet(paths, hive_partitioning=False).create_view("predictions")
            connection.execute("SET allowed_paths = ?", [paths])
        else:
            connection.register("predictions", _reader(storage, names))
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
    return connection


@contextmanager
def predictions(storage: Storage, record: RunRecord, columns: Sequence[str]) -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB connection whose view `predictions` has those of `columns` that the run has, for any number of queries.

    Memory does not grow with the rows. Of parts in an object store the columns are copied to a temporary file, once.

    Raises:
        UsageError: there is no part yet.
        HublabelError: the parts cannot be read, by us or by queries in the body.
    """
    import duckdb
    import pyarrow as pa

    try:
        with _predictions(storage, record, columns) as connection:
            yield connection
    except (duckdb.Error, pa.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise HublabelError(f"{storage.root}: cannot be read ({reason}); `hublabel verify` tells which part") from None


@contextmanager
def _predictions(storage: Storage, record: RunRecord, columns: Sequence[str]) -> Iterator[duckdb.DuckDBPyConnection]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = part_names(storage, record)
    if not names:
        raise UsageError(f"{storage.root}: no image has been labelled yet")
    with storage.open(names[0]) as source:
        stored = pq.read_schema(source).remove_metadata()
    schema = pa.schema([field for field in stored if field.name in columns])
    with without("pandas"), tempfile.TemporaryDirectory(prefix="hublabel-") as folder, _connection() as connection:
        connection.execute(f"SET memory_limit = '{MEMORY}'")
        connection.execute("SET temp_directory = ?", [folder])
        if isinstance(storage, LocalStorage):
            paths = [storage.path(name) for name in names]
        else:
            paths = [f"{folder}/predictions.parquet"]
            with pq.ParquetWriter(paths[0], schema) as writer:
                for table in read_parts(storage, names, schema.names):
                    writer.write_table(table)
        view = connection.read_parquet(paths, hive_partitioning=False)
        view.project(", ".join(map(quoted, schema.names))).create_view("predictions")
        yield connection


def quoted(name: str) -> str:
    """A column's name as SQL has it."""
    escaped = name.replace('"', '""')
    return f'"{escaped}"'


def _connection() -> duckdb.DuckDBPyConnection:
    import duckdb

    connection = duckdb.connect()
    # It would keep what it has read of the parts, as much as fits: memory for nothing, as each is read once a query.
    connection.execute("SET enable_external_file_cache = false")
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
