"""Steps that die of, or hang on, marked images; importable by child processes."""

from __future__ import annotations

import os
import signal
import time

import numpy as np

from transforms.decode_images import open_picture
from transforms.preprocessing import Preprocessing
from transforms.read import read_bytes
from transforms.records import Row

SEGFAULT, HANG, LATER = b"SEGFAULT", b"HANG", b"LATER"


def die() -> None:
    """End this process as a decoder does that reads where it must not."""
    os.kill(os.getpid(), signal.SIGSEGV)
    time.sleep(10)


def deadly_open_picture(data: bytes, row: Row, spec: Preprocessing) -> np.ndarray:
    """As `open_picture`, but for files that end in a mark."""
    if data.endswith(SEGFAULT):
        die()
    if data.endswith(HANG):
        time.sleep(600)
    if data.endswith(LATER):
        signal.setitimer(signal.ITIMER_REAL, 1.0)  # which ends the process
    return open_picture(data, row, spec)


def deadly_read(uri: str, most: int) -> bytes:
    """As `read_bytes`, but for files that are called `deadly`."""
    if os.path.basename(uri).startswith("deadly"):
        die()
    return read_bytes(uri, most)
