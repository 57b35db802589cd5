"""CSV and TSV: pyarrow reads block by block; a block with anything odd in it is read again record by record."""

from __future__ import annotations

import csv
import io
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.errors import UsageError
from pipeline.inputs.manifest import Manifest, make_batch
from pipeline.inputs.records import Block, quoted_field, record_blocks
from transforms.uris import resolve_uris, uri_of_line

if TYPE_CHECKING:
    import pyarrow as pa

DELIMITERS = {"csv": b",", "tsv": b"\t"}


def read_delimited(manifest: Manifest, delimiter: bytes, left_out: Counter[str]) -> Iterator[pa.RecordBatch]:
    """The rows of a file whose first line names the columns; fields may be quoted, and hold newlines then.

    All carried columns are text here; `carried.CarriedTypes` finds out what they look like.

    Args:
        left_out: counts `blank_line`.

    Raises:
        UsageError: the file cannot be read, has no such column, or has a bad line.
    """
    csv.field_size_limit(sys.maxsize)
    with manifest.open() as (file, folder):
        table: _Table | None = None
        for block in record_blocks(file, manifest.name, delimiter):
            if table is None:
                header, block = _take_header(block, delimiter, left_out)
                if header is None:
                    continue
                table = _Table(manifest, delimiter, folder, len(header), *manifest.column_indices(header))
            if block.data:
                batch = table.rows(block, left_out)
                if batch.num_rows:
                    yield batch
        if table is None:
            raise UsageError(f"{manifest.name} is empty; its first line must name the columns")


def _take_header(block: Block, delimiter: bytes, left_out: Counter[str]) -> tuple[list[str] | None, Block]:
    """The first record that is not blank, and the rest of the block."""
    lines = _Lines(block.data)
    for record in csv.reader(lines, delimiter=delimiter.decode()):
        if record:
            used = "".join(lines.lines[: lines.used]).encode("utf-8", "surrogateescape")
            return record, Block(block.data[len(used) :], block.line + lines.used)
        left_out["blank_line"] += 1
    return None, block


class _Lines:
    """The lines of a block, with a place to go back to."""

    def __init__(self, data: bytes) -> None:
        self.lines = list(io.StringIO(data.decode("utf-8", "surrogateescape"), newline=""))
        self.used = 0

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        if self.used == len(self.lines):
            raise StopIteration
        self.used += 1
        return self.lines[self.used - 1]


@dataclass
class _Table:
    """A file whose header has been read.

    Attributes:
        width: fields of the header.
        uri_index: where the URI column stands.
        indices: where the carried columns stand, by name.
    """

    manifest: Manifest
    delimiter: bytes
    folder: bytes
    width: int
    uri_index: int
    indices: dict[str, int]

    def rows(self, block: Block, left_out: Counter[str]) -> pa.RecordBatch:
        """The rows of a block, bad lines as rows of their own."""
        batch = None if block.bad else self._at_once(block.data)
        return self._one_by_one(block, left_out) if batch is None else batch

    def _at_once(self, data: bytes) -> pa.RecordBatch | None:
        """The rows of a block, when all of its lines are good ones; else None."""
        import pyarrow as pa
        import pyarrow.compute as pc
        from pyarrow import csv as pa_csv

        if data[:1] in (b"\n", b"\r") or any(blank in data for blank in (b"\n\n", b"\n\r", b"\r\r")):
            return None  # blank lines, which are counted
        names = [str(index) for index in range(self.width)]
        wanted = [str(index) for index in dict.fromkeys([self.uri_index, *self.indices.values()])]
        try:
            table = pa_csv.read_csv(
                pa.BufferReader(data),
                pa_csv.ReadOptions(use_threads=False, block_size=len(data) + 1, column_names=names),
                pa_csv.ParseOptions(delimiter=self.delimiter.decode(), newlines_in_values=True),
                pa_csv.ConvertOptions(
                    include_columns=wanted,
                    column_types={name: pa.string() for name in wanted},
                    strings_can_be_null=False,
                ),
            )
        except pa.ArrowInvalid:
            return None
        uris = table.column(str(self.uri_index)).combine_chunks()
        if pc.any(pc.equal(pc.binary_length(pc.ascii_trim_whitespace(uris)), 0)).as_py():
            return None
        columns = {name: table.column(str(index)).combine_chunks() for name, index in self.indices.items()}
        return make_batch(resolve_uris(uris, self.folder), columns, texts=self.indices)

    def _one_by_one(self, block: Block, left_out: Counter[str]) -> pa.RecordBatch:
        import pyarrow as pa

        uris: list[str] = []
        errors: list[str | None] = []
        columns: dict[str, list[str | None]] = {name: [] for name in self.indices}
        for line, record, reason in self._records(block):
            if not record and not reason:
                left_out["blank_line"] += 1
                continue
            error = None
            if reason:
                uri, error = self.manifest.bad(line, reason)
            else:
                uri = uri_of_line(record[self.uri_index].encode("utf-8", "surrogateescape"), self.folder)
            uris.append(uri)
            errors.append(error)
            for name, index in self.indices.items():
                columns[name].append(None if reason else record[index])
        arrays = {name: pa.array(values, pa.string()) for name, values in columns.items()}
        return make_batch(pa.array(uris, pa.string()), arrays, errors, texts=self.indices)

    def _records(self, block: Block) -> Iterator[tuple[int, list[str], str]]:
        """Number of the first line, fields, and what is wrong with them."""
        if block.bad:
            yield block.line, [], block.bad
            return
        lines = _Lines(block.data)
        reader = csv.reader(lines, delimiter=self.delimiter.decode())
        while True:
            first = lines.used
            try:
                record = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield block.line + first, [], str(error)
                continue
            reason = self._reason(record) if record else ""
            if reason and lines.used - first > 1:
                reason += f" (a quote goes on to line {block.line + lines.used - 1})"
                if self._is_record(lines.lines[first + 1]):  # the quote was never to be closed there
                    lines.used = first + 1
                    reader = csv.reader(lines, delimiter=self.delimiter.decode())
            yield block.line + first, record, reason

    def _is_record(self, line: str) -> bool:
        """Whether a line on its own is a good record, and not the end of a field that began before."""
        if b'"' in quoted_field(self.delimiter).sub(b"", line.encode("utf-8", "surrogateescape")):
            return False
        return not self._reason(next(csv.reader([line], delimiter=self.delimiter.decode()), []))

    def _reason(self, record: Sequence[str]) -> str:
        if len(record) != self.width:
            return f"it has {_fields(len(record))}, and the first line has {self.width}"
        if not record[self.uri_index].strip():
            return f"column {self.manifest.reading.uri_column!r} is empty"
        for name, index in self.indices.items():
            if not _is_text(record[index]):
                return f"column {name!r} is not UTF-8"
        return ""


def _fields(count: int) -> str:
    return "1 field" if count == 1 else f"{count} fields"


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
