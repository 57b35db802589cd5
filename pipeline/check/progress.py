"""What a check shows of itself on standard error: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType

from rich import progress as bars
from rich.console import Console

INTERVAL = 10.0  # seconds between plain lines


class Progress:
    """How far a count is.

    Args:
        console: where to show it.
        title: what is being done.
        total: counts of it.
        clock: monotonic seconds, injected by tests.
    """

    def __init__(self, console: Console, title: str, total: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._console, self._title, self._total, self._clock = console, title, total, clock
        self._last_line = clock()
        self._live: bars.Progress | None = None
        self._task = bars.TaskID(0)

    def __enter__(self) -> Progress:
        if self._console.is_terminal:
            columns = (bars.TextColumn("{task.description}"), bars.BarColumn(), bars.MofNCompleteColumn(),
                       bars.TimeRemainingColumn())  # fmt: skip
            self._live = bars.Progress(*columns, console=self._console, transient=True)
            self._task = self._live.add_task(self._title, total=self._total)
            self._live.start()
        else:
            self._console.print(f"{self._title} ...")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def update(self, done: int, what: str = "") -> None:
        """Show how far it is; plain lines come no more often than every `INTERVAL` seconds. The total may grow."""
        self._total = max(self._total, done)
        if self._live is not None:
            self._live.update(self._task, completed=done, total=self._total, description=what or self._title)
        elif self._clock() - self._last_line >= INTERVAL:
            self._last_line = self._clock()
            self._console.print(f"{what or self._title}: {done:,} of {self._total:,}")
