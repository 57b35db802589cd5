"""JSON lines: pyarrow reads block by block; a block it refuses is looked at line by line."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO

from pipeline.inputs.carried import clash, has_null, times_as_text
from pipeline.inputs.manifest import MAX_LINE_BYTES, Manifest, checked_start, make_batch
from pipeline.inputs.records import TOO_LONG
from transforms.uris import resolve_uris

if TYPE_CHECKING:
    import pyarrow as pa

BLOCK_BYTES = 4 << 20
_TOP_LEVEL_NULL = re.compile(rb"\}\s*null")  # in place of an object: pyarrow 25 dies of it
_NAMES = {list: "a list", str: "a text", int: "a number", float: "a number", bool: "true or false", dict: "an object"}


def read_json_lines(manifest: Manifest, left_out: Counter[str]) -> Iterator[pa.RecordBatch]:
    """The rows of a file with one JSON object a line.

    A column's type is that of its values, as pyarrow infers it, except that texts which look like times stay texts. It
    may widen from block to block, so batches differ in their types.

    Args:
        left_out: counts `blank_line`.

    Raises:
        UsageError: the file cannot be read, has no such column, has a bad line, or values without a common type.
    """
    with manifest.open() as (file, folder):
        lines = _Lines(manifest, folder)
        for number, block in _line_blocks(file, manifest.name):
            batch = lines.at_once(block)
            if batch is None:
                batch = lines.one_by_one(block, number, left_out)
            if batch.num_rows:
                yield batch
        if lines.other_columns and not lines.has_uris:
            manifest.check_uri_column(lines.other_columns)


def _line_blocks(file: BinaryIO, name: str) -> Iterator[tuple[int, bytes]]:
    """Whole lines, with the number of the first. Of a line that is too long some of its beginning."""
    rest, number, first = b"", 1, True
    while data := file.read(BLOCK_BYTES):
        if first:
            data, first = checked_start(data, name, "one JSON object a line"), False
        head, newline, tail = data.rpartition(b"\n")
        if newline:
            block = rest + head + newline
            yield number, block
            number += block.count(b"\n")
            rest = tail
        else:
            rest = (rest + tail)[: 2 * MAX_LINE_BYTES]
    if rest:
        yield number, rest


@dataclass
class _Lines:
    """A file, and what some of its blocks have told about it.

    Attributes:
        types: of the carried columns so far.
        has_uris: the URI column was there in some line.
        other_columns: of a line without it.
    """

    manifest: Manifest
    folder: bytes
    types: dict[str, pa.DataType] = field(default_factory=dict)
    has_uris: bool = False
    other_columns: list[str] = field(default_factory=list)

    def at_once(self, block: bytes) -> pa.RecordBatch | None:
        """The rows of a block, when all of its lines are good ones; else None."""
        import pyarrow as pa
        import pyarrow.compute as pc

        try:
            block.decode("utf-8")
            if block[:64].lstrip()[:4] in (b"null", b"") or _TOP_LEVEL_NULL.search(block):
                return None
            if len(block) > MAX_LINE_BYTES and max(map(len, block.split(b"\n"))) > MAX_LINE_BYTES:
                return None
            table = self._parsed(block)
        except (UnicodeDecodeError, pa.ArrowInvalid):
            return None
        uris = table.column(self.manifest.reading.uri_column).combine_chunks()
        lines = block.count(b"\n") + (not block.endswith(b"\n"))
        is_blank = pc.equal(pc.binary_length(pc.ascii_trim_whitespace(uris)), 0)
        if len(uris) != lines or uris.null_count or pc.any(is_blank).as_py() or self._clashing(table.schema):
            return None
        self._widen(table.schema, "")
        self.has_uris = True
        return make_batch(resolve_uris(uris, self.folder), self._carried(table))

    def _parsed(self, block: bytes) -> pa.Table:
        """Raises ArrowInvalid."""
        import pyarrow as pa

        reading = self.manifest.reading
        known = {name: type for name, type in self.types.items() if not has_null(type)}
        # With the types known, all other columns need not be parsed; new fields of a struct must be.
        is_known = all(name in known and not pa.types.is_nested(known[name]) for name in reading.columns)
        try:
            table = self._read(block, known, "ignore" if is_known else "infer")
        except pa.ArrowInvalid:
            if not known:
                raise
            known = {}
            table = self._read(block, known, "infer")
        found = dict(self._known(table.schema))
        if all(times_as_text(type) == type and _is_given(type, known.get(name)) for name, type in found.items()):
            return table
        texts = {name: times_as_text(type) for name, type in found.items()}
        table = self._read(block, {name: type for name, type in texts.items() if not has_null(type)}, "infer")
        return table if _is_sound(table) else self._by_python(block, table.schema)

    def _read(self, block: bytes, types: dict[str, pa.DataType], unexpected: str) -> pa.Table:
        import pyarrow as pa
        from pyarrow import json as pa_json

        explicit = pa.schema({**types, self.manifest.reading.uri_column: pa.string()})
        return pa_json.read_json(
            pa.BufferReader(block),
            pa_json.ReadOptions(use_threads=False, block_size=len(block) + 1),
            pa_json.ParseOptions(explicit_schema=explicit, unexpected_field_behavior=unexpected),
        )

    def _by_python(self, block: bytes, schema: pa.Schema) -> pa.Table:
        import pyarrow as pa

        wanted = (self.manifest.reading.uri_column, *self.manifest.reading.columns)
        rows = [json.loads(line) for line in block.split(b"\n") if line.strip()]
        return pa.table({name: pa.array([row.get(name) for row in rows]) for name in wanted if name in schema.names})

    def _carried(self, table: pa.Table) -> dict[str, pa.Array]:
        names = [name for name in self.manifest.reading.columns if name in table.column_names]
        return {name: table.column(name).combine_chunks() for name in names}

    def _clashing(self, schema: pa.Schema) -> bool:
        import pyarrow as pa

        try:
            for name, type in self._known(schema):
                _common(name, self.types.get(name, type), type)
        except (pa.ArrowTypeError, pa.ArrowInvalid):
            return True
        return False

    def _widen(self, schema: pa.Schema, place: str) -> None:
        """Take up types; UsageError when one does not go with what was there before."""
        import pyarrow as pa

        for name, type in self._known(schema):
            before = self.types.get(name, type)
            try:
                self.types[name] = _common(name, before, type)
            except (pa.ArrowTypeError, pa.ArrowInvalid):
                raise clash(name, f"{self.manifest.name}{place}", type, f"{before} before") from None

    def _known(self, schema: pa.Schema) -> list[tuple[str, pa.DataType]]:
        return [(found.name, found.type) for found in schema if found.name in self.manifest.reading.columns]

    def one_by_one(self, block: bytes, number: int, left_out: Counter[str]) -> pa.RecordBatch:
        """The rows of a block, bad lines as rows of their own."""
        import pyarrow as pa
        import pyarrow.compute as pc

        raw = block.split(b"\n")
        if not raw[-1]:
            raw.pop()
        lines = [(number + index, line) for index, line in enumerate(raw) if line.strip()]
        if len(lines) < len(raw):
            left_out["blank_line"] += len(raw) - len(lines)
        reasons = [self._reason(line) for _, line in lines]
        good = [line for line, reason in zip(lines, reasons, strict=True) if not reason]
        table, refused = self._parsed_lines(good)
        uris: list[str | None] = []
        errors: list[str | None] = []
        sources: list[int | None] = []  # which row of the table
        used = 0
        for (line_number, _), reason in zip(lines, reasons, strict=True):
            reason = reason or refused.get(line_number, "")
            uri, error = self.manifest.bad(line_number, reason) if reason else (None, None)
            uris.append(uri)
            errors.append(error)
            sources.append(None if reason else used)
            used += not reason
        indices = pa.array(sources, pa.int64())
        found = resolve_uris(table.column(self.manifest.reading.uri_column).combine_chunks(), self.folder)
        all_uris = pc.coalesce(found.take(indices), pa.array(uris, pa.string()))
        carried = {name: array.take(indices) for name, array in self._carried(table).items()}
        return make_batch(all_uris, carried, errors)

    def _reason(self, line: bytes) -> str:
        """What is wrong with a line; empty when nothing is."""
        if len(line) > MAX_LINE_BYTES:
            return TOO_LONG
        try:
            values = json.loads(line.decode("utf-8"))
        except UnicodeDecodeError:
            return "it is not UTF-8"
        except json.JSONDecodeError as error:
            return f"it is not JSON ({error.msg} at column {error.colno})"
        except RecursionError:
            return "it is nested too deeply"
        if not isinstance(values, dict):
            return f"it is {_name(values)}, not an object"
        column = self.manifest.reading.uri_column
        if column not in values:
            self.other_columns = self.other_columns or list(values)
            return f"it has no {column!r} (input.uri_column), only: {', '.join(values)[:200] or 'nothing'}"
        self.has_uris = True
        uri = values[column]
        if uri is None or (isinstance(uri, str) and not uri.strip()):
            return f"{column!r} is empty"
        return "" if isinstance(uri, str) else f"{column!r} is {_name(uri)}, not a text"

    def _parsed_lines(self, lines: list[tuple[int, bytes]]) -> tuple[pa.Table, dict[int, str]]:
        """Lines that are JSON as a table, and what is wrong with those that pyarrow refuses nevertheless."""
        import pyarrow as pa

        empty = pa.table({self.manifest.reading.uri_column: pa.array([], pa.string())})
        if not lines:
            return empty, {}
        try:
            table = self._parsed(b"\n".join(line for _, line in lines))
            if len(table) == len(lines) and not self._clashing(table.schema):
                self._widen(table.schema, "")
                return table, {}
        except pa.ArrowInvalid:
            pass
        tables, refused = [empty], {}
        for number, line in lines:
            try:
                table = self._parsed(line)
            except pa.ArrowInvalid as error:
                refused[number] = " ".join(str(error).removesuffix(" in row 0").split())
            else:
                self._widen(table.schema, f", line {number}")
                tables.append(table)
        return pa.concat_tables(tables, promote_options="permissive"), refused


def _is_given(type: pa.DataType, known: pa.DataType | None) -> bool:
    """Whether pyarrow had not to find a type out: it loses nulls at the beginning of lists where it does."""
    import pyarrow as pa

    return type == known or not pa.types.is_nested(type)


def _is_sound(table: pa.Table) -> bool:
    import pyarrow as pa

    try:
        table.validate()
    except pa.ArrowInvalid:
        return False
    return True


def _common(name: str, first: pa.DataType, second: pa.DataType) -> pa.DataType:
    import pyarrow as pa

    schemas = [pa.schema([pa.field(name, type)]) for type in (first, second)]
    return pa.unify_schemas(schemas, promote_options="permissive").field(0).type


def _name(value: Any) -> str:
    return "null" if value is None else _NAMES[type(value)]
