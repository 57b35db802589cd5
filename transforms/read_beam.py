"""Images on `hdfs://` and `azfs://`, through Beam's file systems."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from apache_beam.io.filesystem import BeamIOError, CompressionTypes, FileSystem
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions

from transforms.errors import ImageError
from transforms.read import too_large

assert FileSystems  # importing it makes every file system known whose library is installed
_opened = threading.local()  # of each thread: file systems by scheme; the libraries' sessions are not for sharing


def read_beam(uri: str, max_bytes: int, options: Mapping[str, Any]) -> bytes:
    """The file at `uri`.

    Args:
        uri: `hdfs://FOLDER/FILE` (`hdfs://SERVER/...` with the option `hdfs_full_urls`) or
            `azfs://ACCOUNT/CONTAINER/NAME`.
        max_bytes: a larger file is not read.
        options: Beam's pipeline options: `hdfs_host`, `hdfs_port`, `hdfs_user`, `azure_connection_string`, ...

    Raises:
        ImageError: stage `read`; `not_found`, `permission_denied`, `too_large`, `io_error`.
    """
    try:
        system = _system(uri.partition("://")[0].lower(), options)
        size = system.size(uri)
        if size > max_bytes:
            raise too_large(size, max_bytes)
        # By default Beam would unpack what is named .gz.
        with system.open(uri, compression_type=CompressionTypes.UNCOMPRESSED) as file:
            data = file.read(max_bytes + 1)
    except (ImageError, MemoryError):
        raise
    except Exception as error:  # each file system has its library's own
        raise _explained(error) from None
    if len(data) > max_bytes:
        raise too_large(len(data), max_bytes)
    if len(data) < size:
        raise ImageError("read", "incomplete_read", f"{len(data):,} of {size:,} bytes came")
    return data


def _system(scheme: str, options: Mapping[str, Any]) -> FileSystem:
    key = (scheme, tuple(sorted((name, str(value)) for name, value in options.items())))
    known: dict[Any, FileSystem] = _opened.__dict__
    if key not in known:
        kind = next(kind for kind in FileSystem.get_all_subclasses() if kind.scheme() == scheme)
        known[key] = kind(pipeline_options=PipelineOptions.from_dictionary(dict(options)))
    return known[key]


def _explained(error: Exception) -> ImageError:
    causes: list[Exception] = [error]
    if isinstance(error, BeamIOError):
        causes += [cause for cause in (error.exception_details or {}).values() if isinstance(cause, Exception)]
    cause = causes[-1]
    code = getattr(cause, "code", None) or getattr(cause, "status_code", None)
    words = str(getattr(cause, "message", None) or cause) or type(cause).__name__
    if code == 404 or "not found" in words.lower() or "does not exist" in words.lower():
        return ImageError("read", "not_found", "no such file")
    if code in (401, 403) or "permission denied" in words.lower():
        return ImageError("read", "permission_denied", "no permission to read the file")
    return ImageError("read", "io_error", words)
