"""Where workers elsewhere get the model's files from: a folder they can all reach, the same files for all of them."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from transforms.digests import hash_file, hash_stream
from transforms.storage import Storage, StorageError, is_remote, open_storage


class ModelSourceError(ValueError):
    """The files are not there, or not those that the run began with."""


@dataclass(frozen=True)
class ModelSource:
    """A SavedModel's files, as the launcher has seen them.

    Attributes:
        uri: the folder: `s3://`, `gs://`, or a path that is the same on every worker.
        files: relative name and sha256 of each file, by name.
        fingerprint: digest over them all, which names the copy on a worker.
    """

    uri: str
    files: tuple[tuple[str, str], ...]
    fingerprint: str


def local_model(source: ModelSource) -> str:
    """The directory on this machine with exactly the files of `source`, fetched if they are in an object store.

    What was fetched is kept, and looked through by every process that uses it; one process at a time fetches.

    Raises:
        ModelSourceError: a file is missing or another, or the object store cannot be read.
    """
    if not is_remote(source.uri):
        folder = Path(source.uri)
        if wrong := _wrong(folder, source):
            raise ModelSourceError(f"the model at {source.uri}: {wrong}")
        return source.uri
    folder = _kept_models() / source.fingerprint
    with _alone(folder):
        if _wrong(folder, source):
            _fetch(source, folder)
    return str(folder)


def _wrong(folder: Path, source: ModelSource) -> str | None:
    """What is wrong with the files in `folder`, if anything is."""
    for name, digest in source.files:
        try:
            found = hash_file(os.fspath(folder / name))
        except OSError as error:
            return f"{name} cannot be read on this worker ({(error.strerror or str(error)).lower()})"
        if found != digest:
            return f"{name} is not the file that the run began with (sha256 {found}, not {digest})"
    return None


def _fetch(source: ModelSource, folder: Path) -> None:
    """Copy the files into a new folder beside `folder`, and put it in its place."""
    new = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{source.fingerprint}."))
    try:
        storage = open_storage(source.uri)
        for name, digest in source.files:
            _copy(storage, name, new / name, digest)
        if folder.exists():
            folder.rename(new / ".old")
        with contextlib.suppress(OSError):  # where no locks are known, another process may have been faster
            new.rename(folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)
        shutil.rmtree(folder / ".old", ignore_errors=True)


def _copy(storage: Storage, name: str, target: Path, digest: str) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    place = f"the model at {storage.root}: {name}"
    try:
        with storage.open(name) as source, target.open("xb") as copy:
            found = hash_stream(source, copy)
    except FileNotFoundError:
        raise ModelSourceError(f"{place} is not there") from None
    except StorageError as error:
        raise ModelSourceError(f"{place} cannot be read: {error}") from error
    if found != digest:
        raise ModelSourceError(f"{place} is not the file that the run began with (sha256 {found}, not {digest})")


def _kept_models() -> Path:
    """The user's folder for models that were fetched; one that goes with the process where there can be none."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    folder = Path(base) / "hublabel" / "staged"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            return folder
    except OSError:
        pass
    return Path(tempfile.mkdtemp(prefix="hublabel-models-"))


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """While the body runs, no other process of this machine fetches into `folder`."""
    with (folder.parent / f".{folder.name}.lock").open("ab") as file:
        with contextlib.suppress(OSError):  # no locks there: then two may fetch, and one of the copies is kept
            fcntl.flock(file.fileno(), fcntl.LOCK_EX)
        yield
