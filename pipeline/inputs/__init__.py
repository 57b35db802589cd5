"""What `input.path` takes: each kind of input becomes record batches with a `uri` column, in order and streaming."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from pipeline.errors import UsageError
from pipeline.inputs.folders import match_glob, walk_folder
from pipeline.inputs.suffixes import IMAGE_SUFFIXES, UNSUPPORTED_SUFFIXES, suffix_of
from pipeline.inputs.text import read_lines
from pipeline.inputs.uris import SCHEME, path_of_file_uri, uri_array

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["IMAGE_SUFFIXES", "TAKES", "Input", "find_inputs", "read_input"]

TAKES = (
    "a folder of images, a glob such as 'photos/**/*.jpg', one image file, a text file with one URI a line, "
    "or a list of these, all on local disks"
)
BATCH_ROWS = 8192


@dataclass(frozen=True)
class Input:
    """One entry of `input.path`, found on disk but not yet read.

    Attributes:
        key: where it stands in the config, such as `input.path` or `input.path[2]`.
        path: as the user wrote it.
        kind: `folder`, `glob`, `image` or `text`.
        location: absolute local path, or pattern of a glob; bytes, because file names need not be UTF-8.
    """

    key: str
    path: str
    kind: str
    location: bytes


def find_inputs(paths: str | Sequence[str], key: str = "input.path") -> list[Input]:
    """What each path is, without reading it.

    Raises:
        UsageError: a path is empty, does not exist, or is of a kind that is not supported.
    """
    if isinstance(paths, str):
        return [_find_input(paths, key)]
    if not paths:
        raise UsageError(f"{key} is an empty list; it takes {TAKES}")
    return [_find_input(path, f"{key}[{index}]") for index, path in enumerate(paths)]


def read_input(source: Input, left_out: Counter[str], skip: str | None = None) -> Iterator[pa.RecordBatch]:
    """The rows of one input, in order, in batches of some thousand.

    Args:
        left_out: counts by reason what is not a row; filled while the batches are drawn.
        skip: a folder that is not entered when it lies inside a folder of images (a run's own output).

    Yields:
        Record batches with the column `uri: string`: an absolute local path, or a URI with its scheme.

    Raises:
        UsageError: a folder cannot be listed, or a text file is no text.
    """
    import pyarrow as pa

    schema = pa.schema([pa.field("uri", pa.string(), nullable=False)])
    if source.kind == "text":
        arrays = read_lines(source.location, f"{source.key}: {source.path!r}", left_out)
    else:
        arrays = map(uri_array, _chunks(_image_paths(source, left_out, skip)))
    for array in arrays:
        yield pa.RecordBatch.from_arrays([array], schema=schema)


def _image_paths(source: Input, left_out: Counter[str], skip: str | None) -> Iterable[bytes]:
    if source.kind == "folder":
        return walk_folder(source.location, left_out, None if skip is None else os.fsencode(skip))
    if source.kind == "glob":
        return match_glob(source.location, left_out)
    return [source.location]


def _chunks(paths: Iterable[bytes]) -> Iterator[list[bytes]]:
    remaining = iter(paths)
    while chunk := list(islice(remaining, BATCH_ROWS)):
        yield chunk


def _find_input(path: str, key: str) -> Input:
    local = _local_path(path, key)
    location = os.path.abspath(os.fsencode(local))
    if os.path.isdir(location):
        return Input(key, path, "folder", location)
    if os.path.lexists(location):
        return Input(key, path, _kind_of_file(location, path, key), location)
    if glob.has_magic(local):
        return Input(key, path, _kind_of_glob(local, path, key), location)
    raise UsageError(f"{key}: {path!r} does not exist; {key} takes {TAKES}")


def _local_path(path: str, key: str) -> str:
    if not path or "\0" in path:
        raise UsageError(f"{key}: {path!r} names nothing; {key} takes {TAKES}")
    if not SCHEME.match(path):
        return path
    local = path_of_file_uri(os.fsencode(path))
    if local is None:
        scheme = path.partition("://")[0]
        raise UsageError(
            f"{key}: {path!r}: {scheme}:// is not supported here; {key} takes {TAKES} "
            "(single URIs of other schemes can stand in a text file)"
        )
    return os.fsdecode(local)


def _kind_of_file(location: bytes, path: str, key: str) -> str:
    suffix = suffix_of(location)
    if suffix in IMAGE_SUFFIXES:
        return "image"
    if suffix in UNSUPPORTED_SUFFIXES:
        raise _unsupported(suffix, path, key)
    return "text"


def _kind_of_glob(pattern: str, path: str, key: str) -> str:
    suffix = suffix_of(os.fsencode(pattern))
    if suffix in UNSUPPORTED_SUFFIXES or suffix == ".txt":
        raise _unsupported(suffix, path, key)
    return "glob"


def _unsupported(suffix: str, path: str, key: str) -> UsageError:
    if suffix == ".txt":
        return UsageError(f"{key}: {path!r}: a glob names images; give text files one by one in a list")
    return UsageError(f"{key}: {path!r}: {suffix} files are not supported; {key} takes {TAKES}")
