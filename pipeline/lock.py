"""One run at a time on one output."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.errors import HublabelError, UsageError

NAME = ".lock"
PATIENCE = 6.0  # seconds: a child whose parent was killed ends within this


class OutputBusyError(HublabelError):
    """Another hublabel works on this output."""


@contextmanager
def output_lock(root: str) -> Iterator[int]:
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
