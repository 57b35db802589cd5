"""How far a download is: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from transforms.masking import mask_credentials


class Meter:
    """Progress of one download, as a context: the last line says what came.

    Args:
        console: where it is shown; None shows nothing.
        name: what is fetched; credentials in it are masked.
    """

    def __init__(self, console: Console | None, name: str) -> None:
        self._console, self._name = console, mask_credentials(name)
        self._began = time.monotonic()
        self._bytes = 0
        self._bar: Progress | None = None
        if console is not None and console.is_terminal:
            columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
            self._bar = Progress(TextColumn("model"), *columns, console=console, transient=True)

    def __enter__(self) -> Meter:
        self.say(f"fetching {self._name}")
        if self._bar is not None:
            self._bar.start()
            self._task = self._bar.add_task("", total=None)
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()
        if kind is None:
            self.say(f"fetched {self._bytes / 1e6:,.1f} MB in {time.monotonic() - self._began:,.1f} s")

    def say(self, line: str) -> None:
        """Print a line, above the bar if there is one."""
        if self._console is not None:
            self._console.print(mask_credentials(line))

    def at(self, done: int, total: int | None = None) -> None:
        """So many bytes are there, of so many in all where that is known."""
        self._bytes = done
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=total)
