"""Where a run's output lives, and the few operations on it that resume and exactly-once rest on."""

from __future__ import annotations

import contextlib
import errno
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

TEMPORARY = ".tmp-"  # in the name of everything not committed yet; readers of Parquet folders skip dot files
NO_HARD_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}  # exFAT, some FUSE mounts


class Storage(Protocol):
    """A folder of small immutable objects, named by relative paths with forward slashes."""

    root: str

    def put_if_absent(self, name: str, data: bytes) -> bool:
        """Commit `data` as `name`, whole or not at all and for good; False when `name` is there already."""

    def replace(self, name: str, data: bytes) -> None:
        """Commit `data` as `name`, in place of what was there."""

    def read(self, name: str) -> bytes:
        """The bytes of `name`. Raises FileNotFoundError."""

    def exists(self, name: str) -> bool:
        """Whether `name` was committed."""

    def list(self, folder: str) -> Iterator[str]:
        """Names of what lies directly in `folder` (temporary ones too), as relative paths; none if it is not there."""

    def delete(self, name: str) -> None:
        """Remove `name`; nothing happens when it is gone already."""


def open_storage(root: str) -> Storage:
    """The storage of an output path. Raises ValueError for a scheme that cannot be written to."""
    scheme, separator, _ = root.partition("://")
    if separator and scheme != "file":
        raise ValueError(f"{root}: outputs can be written to local folders; {scheme}:// is not supported")
    return LocalStorage(root.removeprefix("file://"))


class LocalStorage:
    """A folder of a POSIX file system.

    A commit is a temporary file, fsync, `os.link` to the final name (it fails when the name exists, so the first
    commit wins, which a rename would not give), fsync of the folder.
    """

    def __init__(self, root: str) -> None:
        self.root = os.path.abspath(root)

    def path(self, name: str) -> str:
        """Absolute path of `name`."""
        return os.path.join(self.root, name)

    def put_if_absent(self, name: str, data: bytes) -> bool:
        with self._written(name, data) as temporary:
            try:
                os.link(temporary, self.path(name))
            except FileExistsError:
                return False
            except OSError as error:
                if error.errno not in NO_HARD_LINKS:
                    raise
                if self.exists(name):
                    return False
                os.rename(temporary, self.path(name))
            _sync_folder(os.path.dirname(self.path(name)))
            return True

    def replace(self, name: str, data: bytes) -> None:
        with self._written(name, data) as temporary:
            os.replace(temporary, self.path(name))
            _sync_folder(os.path.dirname(self.path(name)))

    @contextlib.contextmanager
    def _written(self, name: str, data: bytes) -> Iterator[str]:
        """A synced temporary file beside `name`, removed if the body does not use it up."""
        folder, base = os.path.split(self.path(name))
        os.makedirs(folder, exist_ok=True)
        temporary = os.path.join(folder, f"{TEMPORARY}{base}-{uuid.uuid4().hex}")
        try:
            with open(temporary, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            yield temporary
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)

    def read(self, name: str) -> bytes:
        return Path(self.path(name)).read_bytes()

    def exists(self, name: str) -> bool:
        return os.path.exists(self.path(name))

    def list(self, folder: str) -> Iterator[str]:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(self.path(folder)) as entries:
            for entry in entries:
                yield f"{folder}/{entry.name}"

    def delete(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path(name))


def _sync_folder(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
