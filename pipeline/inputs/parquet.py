"""Parquet: a file, or a folder of files, `key=value` folders included."""

from __future__ import annotations

import contextlib
import glob
import os
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from pipeline.errors import UsageError
from pipeline.inputs.folders import match_glob
from pipeline.inputs.manifest import Manifest, make_batch
from pipeline.inputs.stores import entries
from pipeline.inputs.suffixes import IMAGE_SUFFIXES, suffix_of
from transforms.locations import is_store, open_file
from transforms.uris import resolve_uris, uri_of_line

if TYPE_CHECKING:
    import pyarrow as pa

SUFFIXES = (".parquet", ".pq")
BATCH_ROWS = 65_536
BUFFER_BYTES = 1 << 20
STORE_BUFFER_BYTES = 4 << 20  # a request each


def is_parquet_folder(folder: bytes) -> bool:
    """Whether a folder is a table: it holds Parquet files and no image, or folders named `key=value` that do.

    False as well for a folder that cannot be listed.
    """
    has_files = False
    keyed: list[bytes] = []
    try:
        with contextlib.closing(entries(folder) if is_store(folder) else os.scandir(folder)) as found:
            for entry in found:
                if entry.name.startswith((b".", b"_")):
                    continue
                suffix = suffix_of(entry.name)
                if suffix in IMAGE_SUFFIXES:
                    return False
                has_files = has_files or suffix in SUFFIXES
                if b"=" in entry.name and not suffix and entry.is_dir():
                    keyed.append(entry.name)
    except OSError:
        return False
    return has_files or (bool(keyed) and is_parquet_folder(os.path.join(folder, min(keyed))))


def parquet_files(folder: bytes) -> Iterator[bytes]:
    """The files of a table, sorted by path components; none below a name that begins with a dot or an underscore."""
    for path in match_glob(os.path.join(glob.escape(folder), b"**"), Counter()):
        inner = path[len(folder) :].strip(b"/").split(b"/")
        if suffix_of(path) in SUFFIXES and not any(name.startswith(b"_") for name in inner):
            yield path


def read_parquet(manifest: Manifest, folder: bytes | None = None) -> Iterator[pa.RecordBatch]:
    """The rows of one Parquet file, with the types they have there.

    Args:
        folder: the table that the file is part of: relative URIs are joined to it, and `key=value` folders below it are
            columns of text. None for a single file.

    Raises:
        UsageError: it cannot be read, has no such column, or has a bad row.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    base = manifest.folder if folder is None else folder.rstrip(b"/")
    keys = {} if folder is None else _keys(manifest.path[len(folder) :])
    # buffered: a column of a row group may be larger than memory
    with (
        _readable(manifest),
        open_file(manifest.path, streamed=False) as stream,
        pq.ParquetFile(stream, buffer_size=STORE_BUFFER_BYTES if is_store(manifest.path) else BUFFER_BYTES) as file,
    ):
        schema = file.schema_arrow
        manifest.column_indices(schema.names)
        _check_is_text(manifest, schema.field(manifest.reading.uri_column).type)
        names = [name for name in (manifest.reading.uri_column, *manifest.reading.columns) if name in schema.names]
        texts = [name for name in manifest.reading.columns if name in keys and name not in names]
        first = 0
        wanted = list(dict.fromkeys(names))
        groups = manifest.reading.row_groups
        for batch in file.iter_batches(BATCH_ROWS, row_groups=groups, columns=wanted, use_threads=False):
            batch.validate(full=True)  # a damaged page without a checksum
            columns: dict[str, Any] = {name: batch.column(name) for name in names[1:]}
            columns |= {name: pa.array([keys[name]] * batch.num_rows, pa.string()) for name in texts}
            uris, errors = _uris(manifest, batch.column(names[0]), first, base)
            first += batch.num_rows
            yield make_batch(uris, columns, errors, texts=texts)


@contextlib.contextmanager
def _readable(manifest: Manifest) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError, ValueError) as error:  # ValueError: names that are not UTF-8
        reason = (error.strerror if isinstance(error, OSError) else None) or " ".join(str(error).split())
        raise UsageError(f"{manifest.name} cannot be read as Parquet: {reason}") from error


def _keys(path: bytes) -> dict[str, str | None]:
    """Names and values of the folders of a path that are named `key=value`."""
    parts = [unquote(os.fsdecode(name)).partition("=") for name in path.split(b"/")[:-1] if b"=" in name]
    return {name: None if value == "__HIVE_DEFAULT_PARTITION__" else value for name, _, value in parts}


def _check_is_text(manifest: Manifest, type: pa.DataType) -> None:
    import pyarrow as pa

    if pa.types.is_dictionary(type):
        type = type.value_type
    is_text = pa.types.is_string(type) or pa.types.is_large_string(type) or pa.types.is_string_view(type)
    if not is_text and not pa.types.is_binary(type) and not pa.types.is_large_binary(type):
        raise UsageError(f"{manifest.name}: column {manifest.reading.uri_column!r} is {type}, not text")


def _uris(manifest: Manifest, uris: pa.Array, first: int, base: bytes) -> tuple[pa.StringArray, list[str | None]]:
    """The resolved URIs of a batch, and the errors of those that are empty."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_dictionary(uris.type):
        uris = uris.cast(uris.type.value_type)
    try:
        texts = uris.cast(pa.string())
    except pa.ArrowInvalid:
        texts = None
    if texts is not None and not texts.null_count:
        is_blank = pc.equal(pc.binary_length(pc.ascii_trim_whitespace(texts)), 0)
        if not pc.any(is_blank).as_py():
            return resolve_uris(texts, base), []
    found: list[str] = []
    errors: list[str | None] = []
    for index, value in enumerate(uris.cast(pa.binary()).to_pylist()):
        error = None
        if value is None or not value.strip():
            reason = f"column {manifest.reading.uri_column!r} is {'null' if value is None else 'empty'}"
            uri, error = manifest.bad(first + index, reason, "row")
        else:
            uri = uri_of_line(value, base)
        found.append(uri)
        errors.append(error)
    return pa.array(found, pa.string()), errors
