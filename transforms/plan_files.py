"""Plan files: rows numbered, cut into shards, written as Parquet files of up to 1,000 of them, and fingerprinted."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from transforms.plan_reader import plan_file

if TYPE_CHECKING:
    import pyarrow as pa

SHARDS_PER_FILE = 1_000  # a footer costs 235 to 870 bytes a row group, and every worker opens the file
OPTIONS: dict[str, Any] = {
    "compression": "zstd",
    "write_statistics": False,
    "use_dictionary": False,
    "write_page_checksum": True,
}


class UriFingerprint:
    """sha256 of (sha256 of all URIs' bytes, sha256 of their lengths): no matter how the rows are cut in batches."""

    def __init__(self) -> None:
        self._texts, self._lengths = hashlib.sha256(), hashlib.sha256()

    def add(self, uris: pa.StringArray) -> None:
        """Take up the URIs of the next rows."""
        import pyarrow as pa
        import pyarrow.compute as pc

        self._lengths.update(pc.binary_length(uris).to_numpy(zero_copy_only=False).astype("<i4"))
        as_one_list = pa.ListArray.from_arrays([0, len(uris)], uris)
        self._texts.update(pc.binary_join(as_one_list, "").cast("binary")[0].as_buffer())

    def hexdigest(self) -> str:
        return hashlib.sha256(self._texts.digest() + self._lengths.digest()).hexdigest()


def auto_shard_size(rows: int, batch_size: int) -> int:
    """Images a shard: rows / 200 within 32 .. 1,024; above 20 million rows, rows / 20,000 up to 16,384.

    Rounded up to whole batches. A first commit comes early in small runs, and parts stay few in large ones.
    """
    fewest, most, shards = (32, 1_024, 200) if rows <= 20_000_000 else (1_024, 16_384, 20_000)
    size = min(max(ceil_div(rows, shards), fewest), most)
    return ceil_div(size, batch_size) * batch_size


def numbered_shards(batches: Iterable[pa.RecordBatch], size: int, first_row: int) -> Iterator[pa.Table]:
    """Tables of `size` rows, the last one shorter, with their row numbers before the other columns."""
    import pyarrow as pa

    held: list[pa.RecordBatch] = []
    held_rows = 0
    row = first_row
    for batch in batches:
        while batch.num_rows:
            head = batch.slice(0, size - held_rows)
            batch = batch.slice(head.num_rows)
            held.append(head)
            held_rows += head.num_rows
            if held_rows == size:
                yield _numbered(pa.Table.from_batches(held), row)
                row += size
                held, held_rows = [], 0
    if held:
        yield _numbered(pa.Table.from_batches(held), row)


def _numbered(table: pa.Table, first_row: int) -> pa.Table:
    import numpy as np
    import pyarrow as pa

    rows = pa.array(np.arange(first_row, first_row + table.num_rows, dtype=np.int64))
    return table.add_column(0, pa.field("row", pa.int64(), nullable=False), rows)


def write_plan_files(shards: Iterator[pa.Table], folder: str, size: int, first_file: int = 0) -> list[str]:
    """Write shards, each a row group, into local files numbered `first_file` and on; returns their names.

    Args:
        size: rows of every shard but the last.
    """
    import pyarrow.parquet as pq

    names: list[str] = []
    while (shard := next(shards, None)) is not None:
        names.append(os.path.basename(plan_file(folder, first_file + len(names))))
        with pq.ParquetWriter(os.path.join(folder, names[-1]), shard.schema, **OPTIONS) as writer:
            for table in chain([shard], islice(shards, SHARDS_PER_FILE - 1)):
                writer.write_table(table, row_group_size=size)
    return names


def ceil_div(dividend: int, divisor: int) -> int:
    return -(-dividend // divisor)
