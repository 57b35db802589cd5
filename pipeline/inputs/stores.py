"""Inputs on object stores: what lies where, and objects as files. Told apart from local paths by their scheme.

A name stands for itself: nothing in it is decoded, and `.` and `..` are names like others. The clients are those of the
outputs; they are loaded when they are needed.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from dataclasses import dataclass

from transforms.locations import SCHEMES, is_store, opened, size_of


@dataclass(frozen=True, slots=True)
class Entry:
    """What stands directly in a folder; of `os.DirEntry` as much as is needed."""

    name: bytes
    is_folder: bool

    def is_dir(self) -> bool:
        return self.is_folder


def location_of(uri: str) -> bytes | None:
    """The location that `uri` names: scheme in lower case, a folder's without the last slash; None for no store."""
    scheme, separator, place = uri.partition("://")
    if not separator or scheme.lower() not in SCHEMES:
        return None
    return f"{scheme.lower()}://{place.removesuffix('/')}".encode("utf-8", "surrogateescape")


def what_is_at(location: bytes, *, only_folder: bool = False) -> str | None:
    """`file` for an object, `folder` for what stands before a slash in the names of objects, None for neither.

    Args:
        only_folder: an object of this very name is not meant.

    Raises:
        OSError: it cannot be told: no such bucket, no permission, no answer.
        ValueError: no bucket is named, or it cannot be the name of one.
    """
    storage, key = opened(location)
    refused: OSError | None = None
    if key and not only_folder:
        try:
            storage.tag(key)
            return "file"
        except FileNotFoundError:
            pass
        except OSError as error:  # who may not list is not told that there is no such object
            refused = error
    if next(storage.walk(f"{key}/" if key else ""), None) is not None:
        return "folder"
    if refused is not None:
        raise refused
    return None


def walk_objects(start: bytes) -> Iterator[bytes]:
    """Locations of all objects that begin with `start`, in the store's order: that of their names as bytes.

    Raises:
        OSError: the store does not tell them, or not all of them.
    """
    storage, key = opened(start)
    for name in storage.walk(key):
        yield f"{storage.root}/{name}".encode()


def entries(folder: bytes) -> Generator[Entry, None, None]:
    """What stands directly in a folder. Raises OSError."""
    storage, key = opened(folder)
    start = f"{key}/" if key else ""
    for name in storage.walk(start, deep=False):
        base = name[len(start) :]
        if base:
            yield Entry(base.removesuffix("/").encode(), base.endswith("/"))


def file_size(path: bytes) -> int:
    """Bytes of a regular file or an object; 0 where that cannot be told."""
    try:
        return size_of(path) if is_store(path) or os.path.isfile(path) else 0
    except OSError:
        return 0
