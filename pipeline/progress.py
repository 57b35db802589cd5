"""What a run shows of itself while it works: a live line on a terminal, a line every ten seconds elsewhere."""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Callable
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

INTERVAL = 10.0  # seconds between plain lines
LABELLING = "labelling"  # the phase in which images are done
WINDOW = 60.0  # seconds of history that the rate is taken over


class RunProgress:
    """Images done and failed, rate, time left.

    Args:
        console: where to show it.
        total: images of the run.
        done: images that were done before.
        clock: monotonic seconds, injected by tests.
    """

    def __init__(
        self, console: Console, total: int, done: int = 0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._console, self._total, self._clock = console, total, clock
        self._history: deque[tuple[float, int]] = deque([(clock(), done)])
        self._last_line = clock()
        self._phase, self._phase_began = "starting", clock()
        self.seconds: defaultdict[str, float] = defaultdict(float)  # wall time by phase; `close` completes it
        self._live: Progress | None = None
        self._task = TaskID(0)

    def __enter__(self) -> RunProgress:
        if self._console.is_terminal:
            self._live = Progress(
                TextColumn("{task.description}"), BarColumn(None), MofNCompleteColumn(),
                TextColumn("{task.fields[rest]}"), TimeElapsedColumn(),
                console=self._console, transient=True, expand=True,
            )  # fmt: skip
            self._task = self._live.add_task("starting", total=self._total, completed=self._history[0][1], rest="")
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.hide()

    def hide(self) -> None:
        """End the live line."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    @property
    def labelling(self) -> bool:
        """Whether the child has got as far as labelling."""
        return self._phase == LABELLING

    def phase(self, name: str) -> None:
        """Say what is being done now, such as `loading the model`."""
        self.close()
        self._phase = name
        if self._live is not None:
            self._live.update(self._task, description=name)
        else:
            self._console.print(f"{name} ...")

    def close(self) -> None:
        """Book the time of the phase that goes on."""
        now = self._clock()
        self.seconds[self._phase] += now - self._phase_began
        self._phase_began = now

    def say(self, text: str) -> None:
        """Show a line that stays."""
        self._console.print(text)

    def update(self, done: int, failed: int) -> None:
        """Show how far the run is; plain lines come no more often than every `INTERVAL` seconds."""
        now = self._clock()
        if done != self._history[-1][1]:
            self._history.append((now, done))
            while now - self._history[0][0] > WINDOW and len(self._history) > 2:
                self._history.popleft()
        text = self._text(done, failed)
        if self._live is not None:
            self._live.update(self._task, completed=done, rest=text)
        elif now - self._last_line >= INTERVAL:
            self._last_line = now
            self._console.print(f"{done:,} of {self._total:,} images, {text}")

    def _text(self, done: int, failed: int) -> str:
        rate = self.rate()
        parts = [f"{failed:,} failed"]
        if rate > 0:
            parts += [f"{rate:,.1f} images/s", f"{readable_seconds((self._total - done) / rate)} left"]
        return ", ".join(parts)

    def rate(self) -> float:
        """Images a second over the last minute; 0 before the first part."""
        (start, before), (end, after) = self._history[0], self._history[-1]
        return (after - before) / (end - start) if end > start else 0.0


def readable_seconds(seconds: float) -> str:
    """`42 s`, `3 min`, `2 h 5 min`, `3 d 4 h`."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} d {hours % 24} h"
