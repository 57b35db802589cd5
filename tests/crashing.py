"""A decoder that dies of, or hangs on, marked images; importable by child processes."""

from __future__ import annotations

import os
import signal
import time

import numpy as np

from transforms.decode_images import open_picture
from transforms.preprocessing import Preprocessing
from transforms.records import Row

SEGFAULT, HANG = b"SEGFAULT", b"HANG"


def deadly_open_picture(data: bytes, row: Row, spec: Preprocessing) -> np.ndarray:
    """As `open_picture`, but for files that end in a mark."""
    if data.endswith(SEGFAULT):
        os.kill(os.getpid(), signal.SIGSEGV)
        time.sleep(10)
    if data.endswith(HANG):
        time.sleep(600)
    return open_picture(data, row, spec)
