"""What all files that list images have in common: how they are opened, their bad lines, the batches they become."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from pipeline.errors import UsageError
from transforms.locations import is_store, open_file
from transforms.manifest_lines import UTF8_BOM
from transforms.plan_reader import ERROR, SOURCE
from transforms.uris import uri_of_path

if TYPE_CHECKING:
    import pyarrow as pa

UTF16_BOMS = (b"\xff\xfe", b"\xfe\xff")
MAX_LINE_BYTES = 16 << 20  # of a line, or of a record whose quoted fields span lines

TEXT = {b"hublabel": b"text"}  # metadata of a column whose values have no type but what they look like


@dataclass(frozen=True)
class Reading:
    """How tables are read: `input.uri_column`, `input.columns`, `input.on_bad_line`.

    Attributes:
        excerpt: what is read of an uncompressed text file in place of all of it; None for all.
        row_groups: those of a Parquet file that are read; None for all.
    """

    uri_column: str = "uri"
    columns: tuple[str, ...] = ()
    on_bad_line: str = "fail"
    excerpt: Callable[[BinaryIO], BinaryIO] | None = None
    row_groups: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Manifest:
    """A file that lists images.

    Attributes:
        name: what messages call it, with the key of the config.
        path: absolute and local, or the location of an object.
        compression: `gzip`, `zstd` or None.
    """

    name: str
    path: bytes
    compression: str | None = None
    reading: Reading = Reading()

    @contextmanager
    def open(self) -> Iterator[tuple[BinaryIO, bytes]]:
        """The file's bytes as a stream, decompressed, and the folder that relative URIs in it are joined to.

        Raises:
            UsageError: it cannot be read, also in the body.
        """
        import pyarrow as pa

        try:
            with open_file(self.path) as file:
                is_regular = is_store(self.path) or stat.S_ISREG(os.fstat(file.fileno()).st_mode)
                folder = self.folder if is_regular else os.getcwdb().rstrip(b"/")
                stream = pa.CompressedInputStream(file, self.compression) if self.compression else file
                if self.reading.excerpt is not None and is_regular and not self.compression:
                    stream = self.reading.excerpt(file)
                yield cast(BinaryIO, stream), folder
        except OSError as error:
            raise UsageError(f"{self.name} cannot be read: {error.strerror or error}") from error

    @property
    def folder(self) -> bytes:
        """What it stands in, without a slash at its end."""
        return self.path.rpartition(b"/")[0]

    def bad(self, number: int, reason: str, place: str = "line") -> tuple[str, str]:
        """The URI and the error of the row that stands for a bad line.

        Raises:
            UsageError: `input.on_bad_line` says so.
        """
        if self.reading.on_bad_line == "fail":
            raise UsageError(
                f"{self.name}: {place} {number}: {reason} (input.on_bad_line: row goes on, with a failed row for it)"
            )
        path = os.fsdecode(self.path).encode("utf-8", "replace").decode()
        return f"{uri_of_path(self.path)}#{place}={number}", f"{place} {number} of {path}: {reason}"

    def column_indices(self, names: Sequence[str]) -> tuple[int, dict[str, int]]:
        """Where the URI column stands, and those of the carried columns that are there, by name.

        Raises:
            UsageError: there is no URI column, or one of a wanted name stands there twice.
        """
        wanted = (self.reading.uri_column, *self.reading.columns)
        if doubles := sorted({name for name in wanted if names.count(name) > 1}):
            raise UsageError(f"{self.name}: it has two columns {doubles[0]!r}")
        self.check_uri_column(names)
        carried = {name: names.index(name) for name in self.reading.columns if name in names}
        return names.index(self.reading.uri_column), carried

    def check_uri_column(self, names: Sequence[str]) -> None:
        """Raises UsageError when the URI column is not among the columns."""
        if self.reading.uri_column not in names:
            shown = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
            raise UsageError(
                f"{self.name}: no column {self.reading.uri_column!r} (input.uri_column); its columns are: {shown}"
            )


def checked_start(data: bytes, name: str, holds: str) -> bytes:
    """The first block of a text file without its byte order mark.

    Raises:
        UsageError: it is no UTF-8 text.
    """
    if data.startswith(UTF16_BOMS):
        raise UsageError(f"{name} is UTF-16; save the list as UTF-8")
    if b"\0" in data[:4096]:
        raise UsageError(f"{name} is neither text with {holds} nor named like an image (.jpg, .png, ...)")
    return data.removeprefix(UTF8_BOM)


def make_batch(
    uris: pa.StringArray,
    columns: Mapping[str, Any],
    errors: Sequence[str | None] = (),
    sources: Sequence[str | None] = (),
    *,
    texts: Collection[str] = (),
) -> pa.RecordBatch:
    """Rows of a plan.

    Args:
        columns: those carried.
        errors: of rows that cannot be read; no column when there are none.
        sources: what is read for a row, where that is not its URI; no column when there are none.
        texts: columns whose values have no type but what they look like.
    """
    import pyarrow as pa

    fields = [pa.field("uri", pa.string(), nullable=False)]
    arrays = [uris]
    for name, array in columns.items():
        fields.append(pa.field(name, array.type, metadata=TEXT if name in texts else None))
        arrays.append(array)
    for name, values in ((ERROR, errors), (SOURCE, sources)):
        if any(value is not None for value in values):
            fields.append(pa.field(name, pa.string()))
            arrays.append(pa.array(values, pa.string()))
    return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))
