"""What a run shows of itself while it works: live lines on a terminal, a line every ten seconds elsewhere."""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from pipeline.console import Voice
from transforms.masking import mask_credentials

LABELLING = "labelling"  # the phase in which images are done
WINDOW = 60.0  # seconds of history that the rate is taken over
LAST_FAILURES = 3  # that are shown

Failure = tuple[str, str]  # the image's URI, and what was wrong


class RunProgress:
    """Images done and failed, rate, time left, the last failures.

    Args:
        voice: where to show it.
        total: images of the run.
        done: images that were done before.
        clock: monotonic seconds, injected by tests.
    """

    def __init__(self, voice: Voice, total: int, done: int = 0, clock: Callable[[], float] = time.monotonic) -> None:
        self._voice, self._total, self._clock = voice, total, clock
        self._history: deque[tuple[float, int]] = deque([(clock(), done)])
        self._last_line = clock()
        self._phase, self._phase_began = "starting", clock()
        self.seconds: defaultdict[str, float] = defaultdict(float)  # wall time by phase; `close` completes it
        self._failures: Sequence[Failure] = ()
        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(None), MofNCompleteColumn(),
            TextColumn("{task.fields[rest]}"), TimeElapsedColumn(), console=voice, expand=True,
        )  # fmt: skip
        self._task = self._bar.add_task("starting", total=total, completed=done, rest="")
        self._live: Live | None = None

    def __enter__(self) -> RunProgress:
        if self._voice.is_terminal and self._voice.interval is not None:
            self._live = Live(get_renderable=self._render, console=self._voice, transient=True)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.hide()

    def hide(self) -> None:
        """End the live lines."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _render(self) -> RenderableType:
        lines = [
            Text(f"failed: {uri}: {reason}", style="yellow", no_wrap=True, overflow="ellipsis")
            for uri, reason in self._failures
        ]
        return Group(self._bar, *lines)

    @property
    def labelling(self) -> bool:
        """Whether the child has got as far as labelling."""
        return self._phase == LABELLING

    def phase(self, name: str) -> None:
        """Say what is being done now, such as `loading the model`."""
        self.close()
        self._phase = name
        self._bar.update(self._task, description=name)
        if self._live is None:
            self._voice.say(f"{name} ...", "phase", name=name)

    def close(self) -> None:
        """Book the time of the phase that goes on."""
        now = self._clock()
        self.seconds[self._phase] += now - self._phase_began
        self._phase_began = now

    @property
    def shows_failures(self) -> bool:
        """Whether `failures` are shown to anybody."""
        return self._voice.shows_failures

    def say(self, text: str) -> None:
        """Show a line that stays."""
        self._voice.print(text)

    def failures(self, newest: Sequence[Failure]) -> None:
        """Show what images failed of lately; the newest last."""
        found = [*self._failures, *((mask_credentials(uri), mask_credentials(reason)) for uri, reason in newest)]
        self._failures = found[-LAST_FAILURES:]

    def update(self, done: int, failed: int) -> None:
        """Show how far the run is; plain lines come no more often than the voice says."""
        now = self._clock()
        if done != self._history[-1][1]:
            self._history.append((now, done))
            while now - self._history[0][0] > WINDOW and len(self._history) > 2:
                self._history.popleft()
        text = self._text(done, failed)
        self._bar.update(self._task, completed=done, rest=text)
        interval = self._voice.interval
        if self._live is None and interval is not None and now - self._last_line >= interval:
            self._last_line = now
            self._line(done, failed, f"{done:,} of {self._total:,} images, {text}")

    def _line(self, done: int, failed: int, text: str) -> None:
        rate = self.rate()
        self._voice.say(
            text,
            "progress",
            images=self._total,
            done=done,
            failed=failed,
            images_per_second=round(rate, 1),
            seconds_left=round((self._total - done) / rate) if rate else None,
            last_failures=[{"uri": uri, "reason": reason} for uri, reason in self._failures],
        )

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


class PlanProgress:
    """How far a plan is; a plan that is made within a moment shows nothing.

    Args:
        voice: where to show it.
        clock: monotonic seconds, injected by tests.
    """

    MOMENT = 1.0  # seconds

    def __init__(self, voice: Voice, clock: Callable[[], float] = time.monotonic) -> None:
        self._voice, self._clock = voice, clock
        self._began = self._last_line = clock()
        self._text = ""
        self._live: Live | None = None

    def __enter__(self) -> PlanProgress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def update(self, images: int) -> None:
        """So many images have been found."""
        self.show(f"planning: {images:,} images so far", images=images)

    def show(self, text: str, **values: Any) -> None:
        """Say how far it is; `values` are those of the event."""
        now, interval = self._clock(), self._voice.interval
        self._text = text
        if interval is None or now - self._began < self.MOMENT:
            return
        if self._voice.is_terminal:
            if self._live is None:
                self._live = Live(get_renderable=lambda: Text(self._text), console=self._voice, transient=True)
                self._live.start()
        elif now - self._last_line >= interval:
            self._last_line = now
            self._voice.say(self._text, "planning", **values)


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
