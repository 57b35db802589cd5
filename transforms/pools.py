"""Process-wide threads and budgets for reading and decoding ahead of the model."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class Task:
    """A piece of work that can be given up when it hangs.

    Attributes:
        started: monotonic seconds; None while it waits for a thread or a share of a budget, or is past giving up.
        given_up: set by whoever waited too long; the thread that still runs it ends after it, having been replaced.
        held: what it holds of budgets, given back when it is given up.
    """

    __slots__ = ("given_up", "held", "run", "started")

    def __init__(self, run: Callable[[], None]) -> None:
        self.run = run
        self.started: float | None = None
        self.given_up = False
        self.held: list[tuple[Budget, int]] = []


_this_thread = threading.local()  # its `task`, on a pool's thread


class Pool:
    """Daemon threads that run tasks in order of submission.

    Unlike `concurrent.futures` nothing waits for them at exit, and a thread stuck in a read or in native code can be
    left behind. Tasks handle their own exceptions.
    """

    def __init__(self, name: str, threads: int) -> None:
        self.name = name
        self._tasks: queue.SimpleQueue[Task] = queue.SimpleQueue()
        for _ in range(threads):
            self._start()

    def _start(self) -> None:
        threading.Thread(target=self._work, name=self.name, daemon=True).start()

    def _work(self) -> None:
        while True:
            task = _this_thread.task = self._tasks.get()
            task.started = time.monotonic()
            task.run()
            if task.given_up:
                return

    def submit(self, task: Task) -> None:
        """Run `task` on one of the threads."""
        self._tasks.put(task)

    def give_up(self, task: Task) -> None:
        """Leave the thread that runs `task` behind, and start another in its place."""
        task.given_up = True
        for budget, amount in list(task.held):
            budget.give_back(amount, task)
        self._start()


class Budget:
    """An amount shared by all threads of the process, such as decoded pixels.

    One holder may exceed the budget when nobody else holds any: everything that is allowed at all gets through.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._held = 0
        self._changed = threading.Condition()

    @contextmanager
    def hold(self, amount: int) -> Iterator[None]:
        """Wait until `amount` fits, and hold it for the body of the `with`; the wait is not the task's own time."""
        task: Task | None = getattr(_this_thread, "task", None)
        with self._changed:
            if task is not None:
                task.started = None
            self._changed.wait_for(lambda: self._held == 0 or self._held + amount <= self.limit)
            self._held += amount
            if task is not None:
                task.held.append((self, amount))
                task.started = time.monotonic()
        try:
            yield
        finally:
            self.give_back(amount, task)

    def give_back(self, amount: int, task: Task | None) -> None:
        """End a hold, unless the task was given up and its hold ended with that."""
        with self._changed:
            if task is not None:
                if (self, amount) not in task.held:
                    return
                task.held.remove((self, amount))
            self._held -= amount
            self._changed.notify_all()

    def add(self, amount: int) -> None:
        """Take (or give back, if negative) without waiting."""
        with self._changed:
            self._held += amount
            self._changed.notify_all()

    @property
    def exhausted(self) -> bool:
        """Whether the whole budget is held."""
        return self._held >= self.limit


READ_THREADS = 32  # they wait for disks and networks, not for processors
FETCHED_BYTES = Budget(256 * 1024 * 1024)  # read and not yet decoded
DECODED_PIXELS = Budget(128_000_000)  # being decoded at one time; 3 bytes each, twice while a copy is made


def processors() -> int:
    """Processors this process may run on."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        return os.cpu_count() or 1


@cache
def _pool(name: str, threads: int) -> Pool:
    return Pool(name, threads)


_creating = threading.Lock()


def read_pool() -> Pool:
    """The process's threads for reading."""
    with _creating:
        return _pool("read", READ_THREADS)


def decode_pool(threads: int | None = None) -> Pool:
    """The process's threads for decoding: one a processor unless told."""
    with _creating:
        return _pool("decode", threads or processors())
