"""Consoles: texts for people, as they are; nothing but warnings with `--quiet`; events for machines with `--json`."""

from __future__ import annotations

import json
import sys
from typing import Any

from rich.console import Console

from transforms.masking import mask_credentials, mask_values


class Voice(Console):
    """What a command says while it works. Takes `[` and `:name:` for what they are, leaves lines whole for whoever
    reads our output, and masks credentials in texts.

    Attributes:
        interval: seconds between two lines of progress; None: no progress is shown.
        shows_failures: whether the newest failures are looked up while a run goes on.
    """

    interval: float | None = 10.0

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, soft_wrap=True, **options)

    @property
    def shows_failures(self) -> bool:
        return self.is_terminal

    def print(self, *objects: Any, **options: Any) -> None:
        super().print(*(mask_credentials(what) if isinstance(what, str) else what for what in objects), **options)

    def say(self, text: str, event: str = "message", **values: Any) -> None:  # noqa: ARG002
        """Tell people `text`; machines get `event` and its values instead."""
        self.print(text)

    def warn(self, text: str) -> None:
        """Tell what must not be missed."""
        self.print(text, style="yellow")


class _Quiet(Voice):
    interval = None
    shows_failures = False

    def print(self, *objects: Any, **options: Any) -> None:
        """Nothing."""

    def warn(self, text: str) -> None:
        super().print(text)


class _Events(Voice):
    """One JSON object a line, with `event` first; see docs/command_line.md."""

    interval = 1.0
    shows_failures = True

    def __init__(self) -> None:
        super().__init__(file=sys.stdout, force_terminal=False)

    def print(self, *objects: Any, **options: Any) -> None:  # noqa: ARG002
        self.say(" ".join(map(str, objects)))

    def say(self, text: str, event: str = "message", **values: Any) -> None:
        self._write(event, {"text": text} if event == "message" else values)

    def warn(self, text: str) -> None:
        self._write("warning", {"text": text})

    def _write(self, event: str, values: dict[str, Any]) -> None:
        self.file.write(json.dumps(mask_values({"event": event, **values})) + "\n")
        self.file.flush()


def plain_console(stderr: bool = False) -> Voice:
    """For people."""
    return Voice(stderr=stderr)


def voice(form: str | None) -> Voice:
    """Of a run: for people on standard error (None), `quiet`, or `json`: events on standard output."""
    match form:
        case "json":
            return _Events()
        case "quiet":
            return _Quiet(stderr=True)
    return plain_console(stderr=True)
