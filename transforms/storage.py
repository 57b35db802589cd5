"""Where a run's output lives, and the few operations on it that resume and exactly-once rest on."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

TOP = "."  # the folder of a storage in which everything lies
TEMPORARY = ".tmp-"  # in the name of everything not committed yet; readers of Parquet folders skip dot files
NO_HARD_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}  # exFAT, some FUSE mounts
COPY_BYTES = 8 << 20  # at a time
EXTRAS = {"s3": "aws", "gs": "gcp"}  # scheme of an object store -> our extra with its client


class StorageError(OSError):
    """A disk or object store could not do it; the message names the object and says why. What is stored is sound."""


# What people can do something about; the rest is told in the system's own words.
_REASONS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "no permission",
    errno.EPERM: "no permission",
    errno.ENOENT: "it is no longer there",
    errno.ENOTDIR: "a file is in the place of its folder",
    errno.EIO: "the disk reports an error",
    errno.ESTALE: "the network file system has lost it",
}


def explain(error: OSError) -> str:
    """An error of a disk in words, with its path where that is known: `/out/run.log: the disk is full`."""
    if isinstance(error, StorageError) or error.errno is None:
        return str(error)
    reason = _REASONS.get(error.errno) or (error.strerror or str(error)).lower()
    return f"{error.filename}: {reason}" if error.filename else reason


class Storage(Protocol):
    """A folder of small immutable objects, named by relative paths with forward slashes."""

    root: str

    def prepare(self) -> None:
        """Make the place ready for writing. Raises OSError when there can be none."""

    def put_if_absent(self, name: str, data: bytes) -> bool:
        """Commit `data` as `name`, whole or not at all and for good; False when `name` is there already."""

    def replace(self, name: str, data: bytes) -> None:
        """Commit `data` as `name`, in place of what was there."""

    def read(self, name: str) -> bytes:
        """The bytes of `name`. Raises FileNotFoundError."""

    def open(self, name: str) -> BinaryIO:
        """`name` for reading here and there, as pyarrow reads Parquet. Raises FileNotFoundError."""

    def exists(self, name: str) -> bool:
        """Whether `name` was committed."""

    def list(self, folder: str) -> Iterator[str]:
        """Names of what lies directly in `folder` (temporary ones too), as relative paths; none if it is not there.

        Args:
            folder: a name, or `TOP`.
        """

    def upload(self, name: str, path: str) -> None:
        """Commit the file at `path`, of any size, as `name`, in place of what was there."""

    def move(self, name: str, target: str) -> None:
        """Commit what is `name` as `target`, in place of what was there.

        In an object store it is at both places for a moment.
        """

    def delete(self, name: str) -> None:
        """Remove `name`; nothing happens when it is gone already."""


class ObjectStorage(Storage, Protocol):
    """An object store. A tag changes whenever an object does: its ETag or generation."""

    def tag(self, name: str) -> str:
        """The tag of `name`. Raises FileNotFoundError."""

    def read_tagged(self, name: str) -> tuple[bytes, str]:
        """The bytes and the tag of `name`, of one moment. Raises FileNotFoundError."""

    def put_if(self, name: str, data: bytes, tag: str | None) -> str | None:
        """Put `data` where the tag is still this one (None: where nothing is); the new tag, None if it is another."""

    def delete_if(self, name: str, tag: str) -> None:
        """Remove `name` if its tag is still this one."""

    def stream(self, name: str) -> BinaryIO:
        """`name` for reading from front to back, with gaps. Raises FileNotFoundError."""

    def walk(self, start: str, *, deep: bool = True) -> Iterator[str]:
        """Names that begin with `start`, 1,000 a request, in the order of their UTF-8 bytes.

        If not `deep`, those with a slash behind `start` are shortened to end with it, and come once.
        """


def is_remote(root: str) -> bool:
    """Whether the output path names an object store, which `open_object_storage` opens."""
    scheme, separator, _ = root.partition("://")
    return bool(separator) and scheme.lower() != "file"


def open_storage(root: str) -> Storage:
    """The storage of an output path.

    Raises:
        ValueError: the scheme cannot be written to, its client library is not installed, or no bucket is named.
    """
    return open_object_storage(root) if is_remote(root) else LocalStorage(root.removeprefix("file://"))


def open_object_storage(root: str) -> ObjectStorage:
    """The object store of an output URI. Raises ValueError as `open_storage`."""
    scheme = root.partition("://")[0].lower()
    if scheme not in EXTRAS:
        known = ", ".join(f"{name}://" for name in EXTRAS)
        raise ValueError(f"{root}: outputs can be written to local folders, {known}; {scheme}:// is not supported")
    try:
        if scheme == "gs":
            from transforms.storage_gcs import GoogleStorage

            return GoogleStorage(root)
        from transforms.storage_s3 import S3Storage

        return S3Storage(root)
    except ModuleNotFoundError as error:
        raise ValueError(
            f"{root}: {error.name} is not installed; {scheme}:// needs an extra: "
            f"pip install 'hublabel[{EXTRAS[scheme]}]'"
        ) from None


class LocalStorage:
    """A folder of a POSIX file system.

    A commit is a temporary file, fsync, `os.link` to the final name (it fails when the name exists, so the first
    commit wins, which a rename would not give), fsync of the folder.
    """

    def __init__(self, root: str) -> None:
        self.root = os.path.abspath(root)
        self._disk = self._found_disk()

    def path(self, name: str) -> str:
        """Absolute path of `name`."""
        return os.path.join(self.root, name)

    def prepare(self) -> None:
        os.makedirs(self.root, exist_ok=True)
        self._disk = self._found_disk()

    def _found_disk(self) -> int | None:
        """The device that the folder is on; None when there is no folder."""
        with contextlib.suppress(OSError):
            return os.stat(self.root).st_dev
        return None

    @contextlib.contextmanager
    def _errors(self, name: str) -> Iterator[None]:
        """Turns what keeps `name` from being changed into a StorageError, which says what to do."""
        try:
            yield
        except StorageError:
            raise
        except OSError as error:
            told = explain(OSError(error.errno, error.strerror))
            raise StorageError(
                f"{self.path(name)}: {told}; what is committed stays: mend it, and run the same command again to go on"
            ) from error

    def put_if_absent(self, name: str, data: bytes) -> bool:
        with self._errors(name), self._written(name, io.BytesIO(data)) as temporary:
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
        self._replace(name, io.BytesIO(data))

    def upload(self, name: str, path: str) -> None:
        with open(path, "rb") as source:
            self._replace(name, source)

    def _replace(self, name: str, source: BinaryIO) -> None:
        with self._errors(name), self._written(name, source) as temporary:
            os.replace(temporary, self.path(name))
            _sync_folder(os.path.dirname(self.path(name)))

    def move(self, name: str, target: str) -> None:
        with self._errors(target):
            os.makedirs(os.path.dirname(self.path(target)), exist_ok=True)
            os.replace(self.path(name), self.path(target))
            _sync_folder(os.path.dirname(self.path(target)))

    @contextlib.contextmanager
    def _written(self, name: str, source: BinaryIO) -> Iterator[str]:
        """A synced temporary file beside `name`, removed if the body does not use it up."""
        folder, base = os.path.split(self.path(name))
        if self._disk is not None and self._disk != self._found_disk():
            # Not made anew: it was moved, or its disk is no longer mounted and this would fill the one below it.
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self.root)
        os.makedirs(folder, exist_ok=True)
        self._disk = self._found_disk()
        temporary = os.path.join(folder, f"{TEMPORARY}{base}-{uuid.uuid4().hex}")
        try:
            with open(temporary, "xb") as file:
                shutil.copyfileobj(source, file, COPY_BYTES)
                file.flush()
                os.fsync(file.fileno())
            yield temporary
        finally:
            with contextlib.suppress(OSError):  # gone with its folder, or the disk will not have it changed
                os.unlink(temporary)

    def read(self, name: str) -> bytes:
        return Path(self.path(name)).read_bytes()

    def open(self, name: str) -> BinaryIO:
        return open(self.path(name), "rb")

    def exists(self, name: str) -> bool:
        return os.path.exists(self.path(name))

    def list(self, folder: str) -> Iterator[str]:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(self.path(folder)) as entries:
            for entry in entries:
                yield entry.name if folder == TOP else f"{folder}/{entry.name}"

    def delete(self, name: str) -> None:
        with self._errors(name), contextlib.suppress(FileNotFoundError):
            os.unlink(self.path(name))


def _sync_folder(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
