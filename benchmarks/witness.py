"""An independent witness of what a run reads: every opening of an image is logged, and may be slowed down.

It is a `sitecustomize` module on PYTHONPATH that listens to Python's audit event `open`, so the run itself knows
nothing of it, and what it says does not depend on what the run says of itself.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

SITECUSTOMIZE = """
import os, sys, time

FOLDER, DELAY = os.environ["WITNESS_FOLDER"], float(os.environ["WITNESS_DELAY"])
LOG = os.open(os.environ["WITNESS_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
MODULE = next((word for word in sys.orig_argv if word.startswith(("pipeline.", "transforms."))), "?")

def note(event, arguments):
    if event == "open" and isinstance(arguments[0], str) and arguments[0].startswith(FOLDER):
        os.write(LOG, f"{time.time()!r} {os.getpid()} {MODULE} {arguments[0]}\\n".encode())
        time.sleep(DELAY)

sys.addaudithook(note)
"""


@dataclass(frozen=True)
class Opening:
    """One opening of an image: Unix time in seconds, process, the module it runs, path."""

    time: float
    process: int
    module: str
    path: str


@dataclass(frozen=True)
class Witness:
    """Notes what processes started with `environment` open below `folder`.

    Attributes:
        folder: absolute path of the images.
        log: where it notes; a new path is a new account.
        delay: seconds that each opening takes longer, as from a slow disk.
    """

    folder: Path
    log: Path
    delay: float = 0.0

    def environment(self) -> Mapping[str, str]:
        """The environment for the processes to watch."""
        hooks = self.log.parent / "hooks"
        hooks.mkdir(parents=True, exist_ok=True)
        (hooks / "sitecustomize.py").write_text(SITECUSTOMIZE)
        path = os.pathsep.join([str(hooks), *filter(None, [os.environ.get("PYTHONPATH")])])
        ours = {"WITNESS_FOLDER": str(self.folder), "WITNESS_LOG": str(self.log), "WITNESS_DELAY": str(self.delay)}
        return {**os.environ, "PYTHONPATH": path, **ours}

    def size(self) -> int:
        """Bytes noted so far; grows with each opening."""
        return self.log.stat().st_size if self.log.exists() else 0

    def openings(self) -> list[Opening]:
        """All that was noted, in order."""
        if not self.log.exists():
            return []
        lines = (line.split(" ", 3) for line in self.log.read_text().splitlines())
        return [Opening(float(time), int(process), module, path) for time, process, module, path in lines]
