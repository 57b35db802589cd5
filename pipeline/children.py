"""The child processes of a run, one after the other, each started ahead of what it is to do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from pipeline.errors import HublabelError, UsageError
from pipeline.job import job_line
from pipeline.lock import Hold
from pipeline.process import Child
from pipeline.runner_table import LOCAL, is_remote
from pipeline.signals import Signals
from pipeline.staging import LOG, local_log, save_log
from transforms.records import Shard
from transforms.storage import Storage

CHILD = "pipeline.child"  # the module that a child process runs
REMOTE_CHILD = "pipeline.remote_child"  # ... where the runner is remote
PLANNING_CHILD = "pipeline.planning_child"  # ... while workers plan


def told_error(event: dict[str, Any], child: Child) -> HublabelError:
    """The error that a child's event tells of, with the end of its log where that may say more."""
    if event["exit_code"] == UsageError.exit_code:
        return UsageError(event["message"])
    tail = f"\nThe end of {LOG}:\n{child.log_tail()}" if event.get("log", True) else ""
    return HublabelError(event["message"] + tail)


class Children:
    """Starts the processes that run the pipeline of a run, and ends them.

    Args:
        storage: the run's output.
        lock: what the children keep hold of.
        signals: those to heed.
        runner: name of the runner.
        library: what they import first: `RunConfig.first_library`.
    """

    def __init__(
        self, storage: Storage, lock: Hold, signals: Signals, runner: str = LOCAL, library: str = "tensorflow"
    ) -> None:
        self.signals = signals
        self._storage, self._lock, self._library = storage, lock, library
        self._module = REMOTE_CHILD if is_remote(runner) else CHILD
        self._next: Child | None = None

    def start(self) -> None:
        """Start the next child, which imports what it needs and waits for its job."""
        arguments = [self._storage.root, self._library]
        self._next = Child(self._module, arguments, local_log(self._storage), self._lock.descriptors)
        self.signals.at_once = self._next.kill

    @contextmanager
    def child(self, shards: Iterable[Shard]) -> Iterator[Child]:
        """A child at work on `shards`; it has ended, and its log is saved, when the context ends."""
        if self._next is None:
            self.start()
        child, self._next = self._next, None
        assert child is not None
        try:
            child.give(job_line(shards))
            yield child
        finally:
            child.stop()
            save_log(self._storage, child.log)

    @contextmanager
    def planner(self, job: str) -> Iterator[Child]:
        """A child that lets workers plan; it has ended, and its log is saved, when the context ends.

        Args:
            job: see `planning_child`.
        """
        arguments = [self._storage.root, "apache_beam"]
        child = Child(PLANNING_CHILD, arguments, local_log(self._storage), self._lock.descriptors)
        before = self.signals.at_once

        def at_once() -> None:
            child.kill()
            before()

        self.signals.at_once = at_once
        try:
            child.give(job)
            yield child
        finally:
            child.stop()
            self.signals.at_once = before
            save_log(self._storage, child.log)

    def close(self) -> None:
        """End a child that was started and has nothing to do."""
        if self._next is not None:
            self._next.kill()
            self._next.stop()
