"""Models on Google Cloud Storage, copied to this machine by TensorFlow in a process of its own."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from pipeline.handles.download import DownloadError
from pipeline.handles.meter import Meter
from transforms.programs import program

PROGRAM = program("pipeline.handles.tensorflow_copy")
SILENCE = 120.0  # seconds without a byte after which it is given up: TensorFlow itself tries on for many minutes
TICK = 0.1
# TensorFlow's own time-outs are an hour.
TIMEOUTS = {"GCS_METADATA_REQUEST_TIMEOUT_SECS": "60", "GCS_REQUEST_CONNECTION_TIMEOUT_SECS": "10"}


def copy_tree(
    uri: str, target: Path, meter: Meter, check: Callable[[], None], program: Sequence[str] = PROGRAM
) -> None:
    """Copy the file or folder at `uri` to the new path `target`.

    Raises:
        DownloadError: with TensorFlow's reason, or nothing came for `SILENCE` seconds.
    """
    environment = {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONWARNINGS": "ignore", **TIMEOUTS, **os.environ}
    with subprocess.Popen(
        [*program, uri, str(target)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            _watch(process, target, meter, check)
            _, said = process.communicate()
        finally:
            process.kill()
    if process.returncode:
        raise DownloadError((said.strip().splitlines() or ["TensorFlow gave no reason"])[-1])


def _watch(process: subprocess.Popen[str], target: Path, meter: Meter, check: Callable[[], None]) -> None:
    size, changed = 0, time.monotonic()
    while process.poll() is None:
        check()
        now = sum(path.stat().st_size for path in [target, *target.rglob("*")] if path.is_file())
        if now != size:
            size, changed = now, time.monotonic()
            meter.at(size)
        elif time.monotonic() - changed > SILENCE:
            raise DownloadError(f"nothing came for {SILENCE:.0f} seconds")
        time.sleep(TICK)
    meter.at(sum(path.stat().st_size for path in [target, *target.rglob("*")] if path.is_file()))
