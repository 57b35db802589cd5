"""How far a download is: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from pipeline.console import Voice
from transforms.masking import mask_credentials


class Meter:
    """Progress of one download, as a context: the last line says what came.

    Args:
        voice: where it is shown; None shows nothing.
        name: what is fetched; credentials in it are masked.
    """

    def __init__(self, voice: Voice | None, name: str) -> None:
        self._voice, self._name = voice, mask_credentials(name)
        self._began = self._last_line = time.monotonic()
        self._bytes = 0
        self._total: int | None = None
        self._bar: Progress | None = None
        if voice is not None and voice.is_terminal and voice.interval is not None:
            columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
            self._bar = Progress(TextColumn("model"), *columns, console=voice, transient=True)

    def __enter__(self) -> Meter:
        self._say(f"fetching {self._name}")
        if self._bar is not None:
            self._bar.start()
            self._task = self._bar.add_task("", total=None)
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()
        if kind is None:
            self._say(f"fetched {self._bytes / 1e6:,.1f} MB in {time.monotonic() - self._began:,.1f} s", done=True)

    def say(self, line: str) -> None:
        """Print a line, above the bar if there is one."""
        if self._voice is not None:
            self._voice.print(line)

    def at(self, done: int, total: int | None = None) -> None:
        """So many bytes are there, of so many in all where that is known."""
        self._bytes, self._total = done, total
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=total)
        elif self._voice is not None and self._voice.interval is not None:
            now = time.monotonic()
            if now - self._last_line >= self._voice.interval:
                self._last_line = now
                of = f" of {total / 1e6:,.1f}" if total else ""
                self._say(f"{done / 1e6:,.1f}{of} MB of the model")

    def _say(self, text: str, done: bool = False) -> None:
        if self._voice is not None:
            values = {"name": self._name, "bytes": self._bytes, "total": self._total, "done": done}
            self._voice.say(text, "download", **values)
