"""Memory for batches of images that is used again.

A fresh array of tens of megabytes costs a page fault for every page of it, each time: the system clears what it gives
out. That took 3 % of the processors' time.
"""

from __future__ import annotations

import contextlib
import math
import mmap
import threading
import weakref

import numpy as np

KEPT = 8  # buffers that wait to be used again, at most


class Buffers:
    """Arrays in recycled memory.

    Memory comes back when its array is collected. NumPy's views, slices and exports (buffer protocol, DLPack) all hold
    that very array, not its memory, so whoever can still see the pixels keeps them from being written over.
    """

    def __init__(self) -> None:
        self._free: list[mmap.mmap] = []
        self._lock = threading.RLock()  # a collection, and so `_give_back`, may come while it is held

    def empty(self, shape: tuple[int, ...], dtype: str) -> np.ndarray:
        """An array with arbitrary contents, C-contiguous, writable, at the beginning of a memory page."""
        size = max(1, math.prod(shape) * np.dtype(dtype).itemsize)
        memory = self._take(size) or _new_memory(size)
        array: np.ndarray = np.ndarray(shape, dtype, buffer=memory)
        weakref.finalize(array, self._give_back, memory).atexit = False
        return array

    def _take(self, size: int) -> mmap.mmap | None:
        with self._lock:
            for index, memory in enumerate(self._free):
                if len(memory) == size:
                    return self._free.pop(index)
        return None

    def _give_back(self, memory: mmap.mmap) -> None:
        with self._lock:
            self._free.append(memory)
            del self._free[:-KEPT]  # the oldest go first: of another shape, most likely


def _new_memory(size: int) -> mmap.mmap:
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):  # Linux: a fault for 2 MiB instead of 4 KiB
        with contextlib.suppress(OSError):  # a kernel without them
            memory.madvise(mmap.MADV_HUGEPAGE)
    return memory


BATCHES = Buffers()  # the process's
