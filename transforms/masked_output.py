"""What a process prints, without credentials: tracebacks, warnings and logs of libraries may quote any URI."""

from __future__ import annotations

import contextlib
import io
import sys
import threading
from typing import TextIO

from transforms.masking import mask_credentials


class MaskedStream(io.TextIOBase):
    """A text stream that hands on whole lines with credentials masked; a line's pieces wait for its end, or a flush.

    What the stream cannot take, because its disk is full, is lost: a log is not worth a run.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._line = ""
        self._lock = threading.RLock()  # a signal handler may print while we do

    def write(self, text: str) -> int:
        with self._lock:
            lines, newline, rest = (self._line + text).rpartition("\n")
            self._line = rest
            if newline:
                with contextlib.suppress(OSError):
                    self._stream.write(mask_credentials(lines) + newline)
        return len(text)

    def flush(self) -> None:
        with self._lock:
            line, self._line = self._line, ""
            with contextlib.suppress(OSError):
                self._stream.write(mask_credentials(line))
                self._stream.flush()

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._stream.fileno()

    def isatty(self) -> bool:
        return self._stream.isatty()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._stream.encoding


def mask_output() -> None:
    """From now on what this process's Python code prints is masked; native code writes past it."""
    sys.stdout = MaskedStream(sys.stdout)
    sys.stderr = MaskedStream(sys.stderr)
