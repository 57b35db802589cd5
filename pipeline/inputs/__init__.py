"""What `input.path` takes: each kind of input becomes record batches with a `uri` column, in order and streaming.

Inputs lie on local disks or on object stores; `stores` and `folders` know which, and nothing else needs to.
"""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from pipeline.errors import UsageError
from pipeline.inputs.delimited import DELIMITERS, read_delimited
from pipeline.inputs.folders import match_glob, walk_folder
from pipeline.inputs.json_lines import read_json_lines
from pipeline.inputs.manifest import Manifest, Reading, make_batch
from pipeline.inputs.parquet import is_parquet_folder, parquet_files, read_parquet
from pipeline.inputs.stores import location_of, what_is_at
from pipeline.inputs.suffixes import IMAGE_SUFFIXES, kind_of
from pipeline.inputs.tar import read_tar
from pipeline.inputs.text import read_lines
from transforms.read import uri_scheme, why_unreadable
from transforms.uris import SCHEME, path_of_file_uri, uri_array

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "IMAGE_SUFFIXES",
    "TAKES",
    "Input",
    "Reading",
    "find_inputs",
    "list_files",
    "lists_images",
    "manifest_of",
    "read_file",
    "read_input",
]

TAKES = (
    "a folder of images, a glob such as 'photos/**/*.jpg', one image file, a text file with one URI a line, "
    "a CSV, TSV, JSON lines (.jsonl) or Parquet file with a column of URIs, a folder of Parquet files, "
    "a WebDataset tar, a glob of these such as 'shards/*.tar', or a list of these; on local disks, s3:// or gs://"
)
BATCH_ROWS = 8192
KINDS = frozenset({"image", "text", "csv", "tsv", "jsonl", "parquet", "tar"})  # besides folders


@dataclass(frozen=True)
class Input:
    """One entry of `input.path`, found but not yet read.

    Attributes:
        key: where it stands in the config, such as `input.path` or `input.path[2]`.
        path: as the user wrote it.
        kind: `folder`, `image`, `text`, `csv`, `tsv`, `jsonl`, `parquet`, `tar`; of a glob, that of its files.
        location: absolute local path, or URI on an object store; of a glob the pattern. Bytes, because file names need
            not be UTF-8.
        is_glob: `location` is a pattern.
    """

    key: str
    path: str
    kind: str
    location: bytes
    is_glob: bool = False

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"{self.key}: {self.path!r}"

    @property
    def has_header(self) -> bool:
        """Whether it is one file whose beginning tells all of its columns."""
        return self.kind in ("csv", "tsv", "parquet") and not self.is_glob


def find_inputs(paths: str | Sequence[str], key: str = "input.path") -> list[Input]:
    """What each path is, without reading it.

    Raises:
        UsageError: a path is empty, does not exist, or is of a kind that is not supported; a store cannot be read.
    """
    if isinstance(paths, str):
        return [_find_input(paths, key)]
    if not paths:
        raise UsageError(f"{key} is an empty list; it takes {TAKES}")
    return [_find_input(path, f"{key}[{index}]") for index, path in enumerate(paths)]


def read_input(
    source: Input, left_out: Counter[str], skip: str | None = None, reading: Reading | None = None
) -> Iterator[pa.RecordBatch]:
    """The rows of one input, in order, in batches of some thousand.

    Args:
        left_out: counts by reason what is not a row; filled while the batches are drawn.
        skip: a folder, or a store's, that is not entered when it lies inside a folder of images (a run's own output).
        reading: how tables are read.

    Yields:
        Record batches with the column `uri: string`: an absolute local path, or a URI with its scheme; then those of
        `reading.columns` that the input has, and `plan_reader.ERROR` where bad lines are rows. Types may differ from
        batch to batch.

    Raises:
        UsageError: a folder or a file cannot be read, has no such column or has a bad line.
    """
    reading = reading or Reading()
    if lists_images(source):
        for path in list_files(source, left_out):
            yield from read_file(source, path, reading, left_out)
    else:
        for paths in _chunks(_image_paths(source, left_out, skip)):
            yield make_batch(uri_array(paths), {})


def lists_images(source: Input) -> bool:
    """Whether it is one or several files that list images, rather than images."""
    return source.kind not in ("folder", "image") or (source.kind == "folder" and is_parquet_folder(source.location))


def list_files(source: Input, left_out: Counter[str]) -> Iterable[bytes]:
    """The files that list the images of an input, in order; see `lists_images`."""
    if source.kind == "folder":
        return parquet_files(source.location)
    return match_glob(source.location, left_out) if source.is_glob else [source.location]


def read_file(source: Input, path: bytes, reading: Reading, left_out: Counter[str]) -> Iterator[pa.RecordBatch]:
    """The rows of one of the files of `list_files`, as `read_input` yields them."""
    manifest = manifest_of(source, path, reading)
    if source.kind == "folder":
        return read_parquet(manifest, source.location)
    return _read_list(source.kind, manifest, left_out)


def manifest_of(source: Input, path: bytes, reading: Reading) -> Manifest:
    """One of the files of `list_files`."""
    name = source.name if path == source.location else f"{source.name}: {os.fsdecode(path)!r}"
    return Manifest(name, path, kind_of(path)[1], reading)


def _read_list(kind: str, manifest: Manifest, left_out: Counter[str]) -> Iterator[pa.RecordBatch]:
    if kind == "parquet":
        return read_parquet(manifest)
    if kind == "tar":
        return read_tar(manifest, left_out)
    if kind == "jsonl":
        return read_json_lines(manifest, left_out)
    if kind in DELIMITERS:
        return read_delimited(manifest, DELIMITERS[kind], left_out)
    return (make_batch(uris, {}) for uris in read_lines(manifest, left_out))


def _image_paths(source: Input, left_out: Counter[str], skip: str | None) -> Iterable[bytes]:
    if source.is_glob:
        return match_glob(source.location, left_out)
    if source.kind == "folder":
        return walk_folder(source.location, left_out, None if skip is None else os.fsencode(skip))
    return [source.location]


def _chunks(paths: Iterable[bytes]) -> Iterator[list[bytes]]:
    remaining = iter(paths)
    while chunk := list(islice(remaining, BATCH_ROWS)):
        yield chunk


def _find_input(path: str, key: str) -> Input:
    location, found = _looked_up(path, key)
    if found == "folder":
        return Input(key, path, "folder", location)
    is_glob = found == "glob"
    if found is None:
        raise UsageError(f"{key}: {path!r} does not exist; {key} takes {TAKES}")
    kind, _ = kind_of(location)
    if is_glob and kind == "text" and not _names_lists(location):
        kind = "image"
    if kind not in KINDS:
        raise UsageError(f"{key}: {path!r}: {kind} files are not supported; {key} takes {TAKES}")
    return Input(key, path, kind, location, is_glob)


def _looked_up(path: str, key: str) -> tuple[bytes, str | None]:
    """The location that a path names, and what is there: `folder`, `file`, perhaps matches of a `glob`, or None."""
    if (location := location_of(path)) is None:
        local = _local_path(path, key)
        location = os.path.abspath(os.fsencode(local))
        if os.path.isdir(location):
            return location, "folder"
        return location, "file" if os.path.lexists(location) else _glob_or_none(local)
    if (why := why_unreadable(uri_scheme(path))) is not None:
        raise UsageError(f"{key}: {path!r}: {why}")
    bucket = location.split(b"/")[2]
    if not bucket or glob.has_magic(bucket):
        raise UsageError(f"{key}: {path!r} must name a bucket, without wildcards: {uri_scheme(path)}://BUCKET/...")
    try:
        return location, what_is_at(location, only_folder=path.endswith("/")) or _glob_or_none(path)
    except (OSError, ValueError) as error:
        raise UsageError(f"{key}: {path!r} cannot be read: {error}") from error


def _glob_or_none(path: str) -> str | None:
    return "glob" if glob.has_magic(path) else None


def _names_lists(pattern: bytes) -> bool:
    """Whether a glob is for text files of URIs; any other takes its matches for images."""
    return pattern.lower().endswith((b".txt", b".txt.gz", b".txt.zst"))


def _local_path(path: str, key: str) -> str:
    if not path or "\0" in path:
        raise UsageError(f"{key}: {path!r} names nothing; {key} takes {TAKES}")
    if not SCHEME.match(path):
        return path
    local = path_of_file_uri(os.fsencode(path))
    if local is None:
        scheme = path.partition("://")[0]
        raise UsageError(
            f"{key}: {path!r}: {scheme}:// is not supported here: list its images in a text file, one URI a line, "
            f"and name that file; {key} takes {TAKES}"
        )
    return os.fsdecode(local)
