"""One run at a time on an output in an object store, where no process can hold a file open.

A lease is an object that says who holds it and that its holder rewrites every `BEAT` seconds. Whoever finds one
watches it: if it changes, its holder lives. If it stays the same for `MISSED` beats by the watcher's own clock, its
holder is dead, and the watcher puts its own in its place, on condition that it is still the one that was watched.
No clock is compared with another machine's.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pipeline.errors import HublabelError
from pipeline.lock import OutputBusyError
from transforms.storage import ObjectStorage

NAME = ".lease"
BEAT = 5.0  # seconds between two signs of life
MISSED = 4  # beats without a sign after which a holder is taken to be dead
RELEASE = 5.0  # seconds that a sign of life under way may take when the lease is given back


class LeaseLostError(HublabelError):
    """Another run has taken over an output while this one could not renew its lease."""


@dataclass(frozen=True)
class Holder:
    """A process that holds a lease, or did.

    Attributes:
        id: unique for each time a lease is taken.
        host, pid: for people.
        machine: what a pid is unique in; empty when that is not known.
    """

    id: str
    host: str
    pid: int
    machine: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"

    def is_dead_here(self) -> bool:
        """Whether it is known to have ended: only of a process of this machine can that be said."""
        if not self.machine or self.machine != machine():
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except OSError:
            return False
        return False


def machine() -> str:
    """Names this machine since it started, and the container we see its processes from; empty where nothing tells."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return f"{file.read().strip()}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


@dataclass(frozen=True)
class _Found:
    holder: Holder | None  # None: not written by us
    tag: str

    def __str__(self) -> str:
        return str(self.holder or "another process")

    def is_dead(self) -> bool:
        return self.holder is not None and self.holder.is_dead_here()


class Lease:
    """The lease of one output.

    Args:
        storage: the output.
        clock: monotonic seconds.
        sleep: waits for so many seconds.
    """

    descriptors: tuple[int, ...] = ()  # as `lock.Hold`: there are none to inherit

    def __init__(
        self,
        storage: ObjectStorage,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._storage, self._clock, self._sleep = storage, clock, sleep
        self._me = Holder(uuid.uuid4().hex, socket.gethostname(), os.getpid(), machine())
        self._tag = ""
        self._beats = 0
        self._lost: str | None = None
        self._turn = threading.Lock()  # of what touches the object: signs of life, and giving it back

    def acquire(self, say: Callable[[str], None]) -> None:
        """Take the lease, after `MISSED` beats if a dead holder has left it behind.

        Args:
            say: told that this takes a while.

        Raises:
            OutputBusyError: its holder is alive.
            OSError: the object store cannot do it.
        """
        watched: _Found | None = None
        since = 0.0
        while True:
            found = self._look()
            if found is None:
                if self._take(None):
                    return
            elif watched is None:
                watched, since = found, self._clock()
                if not watched.is_dead():
                    say(f"{watched} held this output; waiting for a sign of life, {MISSED * BEAT:.0f} seconds at most")
            elif found.tag != watched.tag:
                raise OutputBusyError(
                    f"{self._storage.root}: {found} is at work on this output; wait for it, or stop it"
                )
            elif watched.is_dead() or self._clock() - since >= MISSED * BEAT:
                if self._take(watched.tag):
                    return
                continue  # it was alive after all, or another watcher was faster: the next look tells
            self._sleep(BEAT / 5)

    def renew(self) -> None:
        """Give one sign of life. Failing to is no harm by itself: the next one finds out what came of it."""
        with self._turn, contextlib.suppress(OSError):
            if self._lost is not None or self._take(self._tag):
                return
            found = self._look()
            if found is None:  # somebody has removed the object, and nobody has taken the output
                if self._take(None):
                    return
                found = self._look()
            if found is not None and found.holder is not None and found.holder.id == self._me.id:
                self._tag = found.tag  # our last sign of life, whose answer was lost
            else:
                self._lost = str(found or "another process")

    def check(self) -> None:
        """Raises LeaseLostError once another run has taken over."""
        if self._lost is not None:
            raise LeaseLostError(
                f"{self._storage.root}: {self._lost} took over this output, as this run gave no sign of life for "
                f"{MISSED * BEAT:.0f} seconds; what is committed stays, and the other run goes on with it"
            )

    def release(self) -> None:
        """Give the lease back, so that the next run need not wait. If that fails, it dies of itself."""
        if self._turn.acquire(timeout=RELEASE):
            try:
                if self._lost is None:
                    with contextlib.suppress(OSError):
                        self._storage.delete_if(NAME, self._tag)
            finally:
                self._turn.release()

    def _look(self) -> _Found | None:
        try:
            data, tag = self._storage.read_tagged(NAME)
        except FileNotFoundError:
            return None
        try:
            values = json.loads(data)
            holder = Holder(str(values["id"]), str(values["host"]), int(values["pid"]), str(values["machine"]))
        except (ValueError, KeyError, TypeError):
            return _Found(None, tag)
        return _Found(holder, tag)

    def _take(self, tag: str | None) -> bool:
        """Write the object anew if it is still the one of `tag`."""
        self._beats += 1
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())  # for people
        values = {**vars(self._me), "beat": self._beats, "time": now}
        new = self._storage.put_if(NAME, json.dumps(values).encode(), tag)
        if new is not None:
            self._tag = new
        return new is not None


@contextlib.contextmanager
def kept(lease: Lease, say: Callable[[str], None]) -> Iterator[Lease]:
    """Hold `lease` and renew it from a thread while the body runs. Raises as `Lease.acquire`."""
    lease.acquire(say)
    stopped = threading.Event()
    threading.Thread(target=keep, args=(lease, stopped.wait), name="lease", daemon=True).start()
    try:
        yield lease
    finally:
        stopped.set()
        lease.release()


def keep(lease: Lease, wait: Callable[[float], bool]) -> None:
    """Renew `lease` after each `BEAT`, until `wait` (of seconds) says that it is over."""
    while not wait(BEAT):
        lease.renew()
