"""Ctrl-C and SIGTERM as a question that long work asks, instead of an exception anywhere."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from pipeline.errors import HublabelError


class StoppedError(HublabelError):
    """A signal ended the run; what is committed stays. The exit code is 128 + the signal's number."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.exit_code = 128 + number


class Signals:
    """The signal that came, if one did.

    Args:
        check: whatever else may end the work; raises HublabelError when it does.
    """

    def __init__(self, check: Callable[[], None] = lambda: None) -> None:
        self._check = check
        self.received: int | None = None
        self.at_once: Callable[[], None] = lambda: None  # what a second signal does before the process ends

    def check(self) -> None:
        """Raises StoppedError once a signal has come, and what the check that it was made with raises."""
        if self.received is not None:
            raise StoppedError(self.received)
        self._check()

    def _take(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        if self.received is not None:
            self.at_once()
            os._exit(128 + number)
        self.received = number


@contextmanager
def stop_signals(check: Callable[[], None] = lambda: None) -> Iterator[Signals]:
    """While the body runs, SIGINT and SIGTERM are noted; a second one ends the process at once.

    Args:
        check: see `Signals`.
    """
    signals = Signals(check)
    previous = {number: signal.signal(number, signals._take) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield signals
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
