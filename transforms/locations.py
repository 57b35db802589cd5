"""Files that list images, by location: a local path, or the URI of an object. Told apart by the scheme, as bytes.

A name stands for itself: nothing in it is decoded. The stores' clients are those of the outputs; they are loaded when
they are needed.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from transforms.storage import ObjectStorage

SCHEMES = ("gs", "s3")
_PREFIXES = tuple(f"{scheme}://".encode() for scheme in SCHEMES)


def is_store(location: bytes) -> bool:
    """Whether a location is an object, or a folder of objects, and not a local path."""
    return location.startswith(_PREFIXES)


def open_file(location: bytes, *, streamed: bool = True) -> BinaryIO:
    """A local file or an object. Raises OSError, as reading does.

    Args:
        streamed: it is read from front to back, if with gaps.
    """
    if not is_store(location):
        return open(location, "rb")
    storage, key = opened(location)
    return storage.stream(key) if streamed else storage.open(key)


def size_of(location: bytes) -> int:
    """Bytes of a local file or an object. Raises OSError."""
    if not is_store(location):
        return os.path.getsize(location)
    with open_file(location, streamed=False) as file:
        return file.seek(0, os.SEEK_END)


def version_of(location: bytes) -> str:
    """Differs between two files at this location, one after the other. Raises OSError."""
    if is_store(location):
        storage, key = opened(location)
        return storage.tag(key)
    status = os.stat(location)
    return f"{status.st_size}-{status.st_mtime_ns}"


def opened(location: bytes) -> tuple[ObjectStorage, str]:
    """The bucket, and the name in it."""
    from transforms.storage import open_object_storage

    scheme, _, place = location.decode().partition("://")
    bucket, _, key = place.partition("/")
    return open_object_storage(f"{scheme}://{bucket}"), key
