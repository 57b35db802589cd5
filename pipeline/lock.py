"""One run at a time on one output."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Protocol

from pipeline.errors import HublabelError, UsageError
from transforms.storage import is_remote, open_object_storage

NAME = ".lock"
PATIENCE = 6.0  # seconds: a child whose parent was killed ends within this


class OutputBusyError(HublabelError):
    """Another hublabel works on this output."""


class OutputGoneError(HublabelError):
    """The output folder is not there any more."""


class Hold(Protocol):
    """A lock while it is held."""

    @property
    def descriptors(self) -> tuple[int, ...]:
        """File descriptors that hold it, for the child to inherit."""

    def check(self) -> None:
        """Raises HublabelError when the lock was lost, or the locked folder."""


@contextmanager
def output_lock(root: str, say: Callable[[str], None] = lambda _: None) -> Iterator[Hold]:
    """Hold the lock of the output `root`: of a folder, `folder_lock`; in an object store, a lease (see `lease`).

    Args:
        say: told when taking the lock takes a while.

    Raises:
        OutputBusyError: another process holds it and goes on doing so.
        UsageError: nothing can be written there.
    """
    if not is_remote(root):
        with folder_lock(root) as descriptor:
            yield _FolderHold((descriptor,), root)
        return
    from pipeline.lease import Lease, kept

    with ExitStack() as stack:
        try:
            hold = stack.enter_context(kept(Lease(open_object_storage(root)), say))
        except OSError as error:
            raise UsageError(f"output.path: {root} cannot be written to: {error}") from None
        yield hold


@dataclass(frozen=True)
class _FolderHold:
    descriptors: tuple[int, ...]
    root: str

    def check(self) -> None:
        """Whether the locked file is still that of the output: else the folder was moved, deleted or unmounted."""
        mine = os.fstat(self.descriptors[0])
        with suppress(OSError):
            found = os.stat(os.path.join(self.root, NAME))
            if (found.st_dev, found.st_ino) == (mine.st_dev, mine.st_ino):
                return
        raise OutputGoneError(
            f"{self.root}: the output is no longer there: it was moved, deleted or unmounted while the run went on; "
            "bring it back, and run the same command again to go on"
        )


@contextmanager
def folder_lock(root: str) -> Iterator[int]:
    """Hold the lock of the output folder `root`; yields its file descriptor, for the child to inherit.

    It is an advisory lock of the open file, so it goes with the last process that holds it, however that ends:
    while a child outlives its parent the output stays locked.

    Raises:
        OutputBusyError: another process holds it and goes on doing so.
        UsageError: nothing can be written there.
    """
    descriptor = _open(root)
    try:
        _acquire(descriptor, root)
        with suppress(OSError):  # on a full disk the lock holds all the same, it only does not say who holds it
            os.truncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode(), 0)
        yield descriptor
    finally:
        os.close(descriptor)


def _open(root: str) -> int:
    try:
        os.makedirs(root, exist_ok=True)
        return os.open(os.path.join(root, NAME), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise UsageError(f"output.path: {root} cannot be written to: {error.strerror}") from None


def _acquire(descriptor: int, root: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            holder = _holder(descriptor)
            if _alive(holder) or time.monotonic() > deadline:
                who = f"process {holder['pid']} on {holder['host']}" if holder else "another process"
                raise OutputBusyError(f"{root}: {who} is at work on this output; wait for it, or stop it") from None
        time.sleep(0.1)


def _holder(descriptor: int) -> dict[str, str | int]:
    try:
        holder = json.loads(os.pread(descriptor, 1000, 0))
        return {"pid": int(holder["pid"]), "host": str(holder["host"])}
    except (ValueError, KeyError, TypeError):
        return {}


def _alive(holder: dict[str, str | int]) -> bool:
    """Whether the holder is known to run: on another host it must be taken to."""
    if not holder:
        return False
    if holder["host"] != socket.gethostname():
        return True
    try:
        os.kill(int(holder["pid"]), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
