"""The rows of a plan in the making, on disk: the size of shards and the types are known only when all are there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.inputs.carried import CarriedTypes, conform, is_text
from transforms.plan_files import UriFingerprint

if TYPE_CHECKING:
    import pyarrow as pa


class Spool:
    """All rows in the order they came, counted and fingerprinted on the way.

    A file holds batches of one schema; the next is begun when a batch has a column that the schema has not, or has it
    with another type.

    Args:
        folder: where the files go.
        types: what tells the types of the columns in the end; None when all batches have one schema.
    """

    def __init__(self, folder: Path, types: CarriedTypes | None = None) -> None:
        self.rows = 0
        self._folder = folder
        self._types = types
        self._paths: list[Path] = []
        self._fingerprint = UriFingerprint()

    @property
    def fingerprint(self) -> str:
        """Of the URIs of all rows, see `UriFingerprint`."""
        return self._fingerprint.hexdigest()

    def fill(self, batches: Iterator[pa.RecordBatch], progress: Callable[[int], None] | None) -> None:
        """Take up all rows; `progress` is called with their number so far."""
        writer: pa.ipc.RecordBatchStreamWriter | None = None
        schema: pa.Schema | None = None
        try:
            for batch in batches:
                if schema is None or not _fits(batch.schema, schema):
                    if writer is not None:
                        writer.close()
                    schema = batch.schema
                    writer = self._begin(schema)
                assert writer is not None
                writer.write_batch(batch if batch.schema.equals(schema) else conform(batch, schema))
                self._fingerprint.add(batch.column("uri"))
                self.rows += batch.num_rows
                if progress is not None:
                    progress(self.rows)
        finally:
            if writer is not None:
                writer.close()

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The rows, with the columns and types that all of them have in the end.

        Raises:
            UsageError: values of a column do not have its type.
        """
        import pyarrow as pa

        schema = None if self._types is None else self._types.schema()
        for path in self._paths:
            # not memory-mapped: pages of the file would count as memory of the process
            with pa.OSFile(str(path)) as file, pa.ipc.open_stream(file) as reader:
                for batch in reader:
                    yield batch if schema is None else conform(batch, schema)

    def _begin(self, schema: pa.Schema) -> pa.ipc.RecordBatchStreamWriter:
        import pyarrow as pa

        self._paths.append(self._folder / f"spool-{len(self._paths):05d}.arrow")
        return pa.ipc.new_stream(str(self._paths[-1]), schema, options=pa.ipc.IpcWriteOptions(compression="lz4"))


def _fits(found: pa.Schema, schema: pa.Schema) -> bool:
    """Whether a batch needs nothing but columns of nulls to have `schema`."""
    for column in found:
        index = schema.get_field_index(column.name)
        if index < 0 or schema.field(index).type != column.type or is_text(schema.field(index)) != is_text(column):
            return False
    return True
