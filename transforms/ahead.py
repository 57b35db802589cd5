"""Reading and decoding ahead: the images of one shard become batches while the model runs on earlier ones.

Images enter a batch as they complete, not in order: one slow fetch holds up nobody. Failed images use no slot.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from transforms.buffers import BATCHES
from transforms.errors import ImageError
from transforms.pools import FETCHED_BYTES, Pool, Task, decode_pool, read_pool
from transforms.preprocessing import Preprocessing
from transforms.records import Row
from transforms.resize import normalize

BATCHES_AHEAD = 2  # decoded or being decoded while the model runs on another
READ_AHEAD = 128  # images read or being read before any is decoded, at least; more with larger batches

Read = Callable[[str, int], bytes]
Decode = Callable[[bytes, Row, Preprocessing], np.ndarray]


@dataclass(frozen=True)
class Timeouts:
    """Seconds after which one image's read, or its decode, is given up."""

    read: float = 120.0
    decode: float = 60.0


@dataclass
class Patience:
    """How long the last reads of a shard are waited for; may be changed while they are.

    Attributes:
        seconds: after which they are slow, and others may go first; None waits to their end.
    """

    seconds: float | None = None


@dataclass(slots=True)
class FilledBatch:
    """What `batches` yields: see `records.ImageBatch` for the fields."""

    images: np.ndarray | None
    rows: list[Row]
    failed: list[Row]
    seconds: dict[str, float]


@dataclass(slots=True)
class _Image:
    row: Row
    stage: str = "read"
    data: bytes = b""
    task: Task | None = None
    since: float = field(default_factory=time.monotonic)


@dataclass(slots=True)
class _Slots:
    images: np.ndarray
    rows: list[Row] = field(default_factory=list)
    written: int = 0


def batches(
    rows: Iterable[Row],
    spec: Preprocessing,
    batch_size: int,
    read: Read,
    decode: Decode,
    decode_threads: int | None = None,
    timeouts: Timeouts | None = None,
) -> Iterator[FilledBatch]:
    """Batches of the images that `rows` name, ready for the model.

    Args:
        rows: what to read; filled in with size, digest, dimensions or error on the way.
        spec: what the model takes.
        batch_size: images in a batch; only the last may have fewer, and is padded with zeros.
        read: bytes of a URI, at most so many; raises ImageError.
        decode: bytes to a resized uint8 picture [height, width, 3]; raises ImageError.
        decode_threads: None for one a processor.
        timeouts: when an image is given up.

    Yields:
        Every row exactly once: in `rows` of a batch, its image in the slot of the same index, or in `failed`.
    """
    for batch in batches_or_waits(rows, spec, batch_size, read, decode, decode_threads, timeouts):
        if batch is not None:
            yield batch


def batches_or_waits(
    rows: Iterable[Row],
    spec: Preprocessing,
    batch_size: int,
    read: Read,
    decode: Decode,
    decode_threads: int | None = None,
    timeouts: Timeouts | None = None,
    patience: Patience | None = None,
) -> Iterator[FilledBatch | None]:
    """As `batches`; and None whenever all that is left to wait for are slow reads, as `patience` has it.

    Whoever gets None may do something else and come back, as often as they like.
    """
    decoders, timeouts, patience = decode_pool(decode_threads), timeouts or Timeouts(), patience or Patience()
    ahead = _Ahead(iter(rows), spec, batch_size, read, decode, decoders, timeouts, patience)
    try:
        yield from ahead.run()
    finally:
        ahead.close()


class _Ahead:
    """The state of one shard's reading ahead; everything after the constructor's fields is guarded by `_changed`."""

    def __init__(
        self, rows: Iterator[Row], spec: Preprocessing, batch_size: int, read: Read, decode: Decode, decoders: Pool,
        timeouts: Timeouts, patience: Patience,
    ) -> None:  # fmt: skip
        self._rows, self._spec, self._batch_size = rows, spec, batch_size
        self._read, self._decode, self._timeouts, self._patience = read, decode, timeouts, patience
        self._readers, self._decoders = read_pool(), decoders
        self._read_ahead = max(READ_AHEAD, 2 * batch_size)
        self._changed = threading.Condition()
        self._exhausted = False  # no more rows to start on
        self._closed = False
        self._reading: dict[int, _Image] = {}
        self._fetched: deque[_Image] = deque()
        self._decoding: dict[int, _Image] = {}
        self._open: _Slots | None = None
        self._ready: deque[_Slots] = deque()
        self._slots_used = 0  # of batches not yet yielded
        self._failed: list[Row] = []
        self._seconds = {"read": 0.0, "decode": 0.0}

    def run(self) -> Iterator[FilledBatch | None]:
        while self._fill():
            yield self._next()

    def close(self) -> None:
        """Nothing more is started; what runs finds nobody waiting."""
        with self._changed:
            self._closed = True
            FETCHED_BYTES.add(-sum(len(image.data) for image in self._fetched))
            self._fetched.clear()

    def _fill(self) -> bool:
        """Wait until there is something to take, or only slow reads are waited for; False when nothing is left."""
        with self._changed:
            self._start_more()
            while not self._ready and not self._finished() and not self._only_slow_reads():
                if not self._changed.wait(timeout=0.5 if self._patience.seconds is None else 0.05):
                    self._give_up_hung()
                self._start_more()
            return bool(self._ready or self._open or self._failed or not self._finished())

    def _next(self) -> FilledBatch | None:
        with self._changed:
            if self._ready:
                slots = self._ready.popleft()
            elif not self._finished():
                self._give_up_hung()
                return None
            elif self._open is not None:
                slots, self._open = self._open, None
                slots.images[len(slots.rows) :] = 0
            else:
                return self._take(None, [])
            self._slots_used -= len(slots.rows)
            batch = self._take(slots.images, slots.rows)
            self._start_more()
            return batch

    def _only_slow_reads(self) -> bool:
        if self._patience.seconds is None or not self._exhausted or self._fetched or self._decoding:
            return False
        latest = time.monotonic() - self._patience.seconds
        return all(image.since < latest for image in self._reading.values())

    def _take(self, images: np.ndarray | None, rows: list[Row]) -> FilledBatch:
        batch = FilledBatch(images, rows, self._failed, self._seconds)
        self._failed, self._seconds = [], {"read": 0.0, "decode": 0.0}
        return batch

    def _finished(self) -> bool:
        return self._exhausted and not (self._reading or self._fetched or self._decoding)

    # Starting work; called with the lock held.

    def _start_more(self) -> None:
        if self._closed:
            return
        while self._fetched and len(self._decoding) + self._slots_used < BATCHES_AHEAD * self._batch_size:
            image = self._fetched.popleft()
            image.stage = "decode"
            self._decoding[image.row.position] = image
            self._submit(self._decoders, image, self._decode_image)
        while not self._exhausted and len(self._reading) + len(self._fetched) < self._read_ahead:
            if FETCHED_BYTES.exhausted and (self._reading or self._fetched or self._decoding):
                break
            row = next(self._rows, None)
            if row is None:
                self._exhausted = True
            elif row.error_stage is not None:  # the plan knows already that it cannot be read
                self._failed.append(row)
            else:
                image = _Image(row)
                self._reading[row.position] = image
                self._submit(self._readers, image, self._read_image)

    @staticmethod
    def _submit(pool: Pool, image: _Image, work: Callable[[_Image, Task], None]) -> None:
        task = Task(lambda: work(image, task))
        image.task = task
        pool.submit(task)

    def _give_up_hung(self) -> None:
        now = time.monotonic()
        for pool, images, limit in (
            (self._readers, self._reading, self._timeouts.read),
            (self._decoders, self._decoding, self._timeouts.decode),
        ):
            for image in list(images.values()):
                task = image.task
                if task is not None and task.started is not None and now - task.started > limit:
                    pool.give_up(task)
                    del images[image.row.position]
                    FETCHED_BYTES.add(-len(image.data))
                    image.row.fail(ImageError(image.stage, "timeout", f"gave up after {limit:g} seconds"))
                    self._failed.append(image.row)

    # Work, on the pools' threads.

    def _read_image(self, image: _Image, task: Task) -> None:
        began = time.monotonic()
        error = None
        data, digest = b"", ""
        if not self._closed:
            try:
                data = self._read(image.row.source or image.row.uri, self._spec.max_bytes)
                digest = hashlib.sha256(data).hexdigest()
            except Exception as caught:
                error = as_image_error("read", caught)
        with self._changed:
            if task.given_up or self._closed:
                return
            self._seconds["read"] += time.monotonic() - began
            del self._reading[image.row.position]
            if error is not None:
                self._fail(image, error)
            else:
                image.row.bytes, image.row.sha256, image.data = len(data), digest, data
                FETCHED_BYTES.add(len(data))
                self._fetched.append(image)
            self._start_more()
            if self._finished():
                self._changed.notify()

    def _decode_image(self, image: _Image, task: Task) -> None:
        began = time.monotonic()
        error, pixels = None, None
        # The row is the waiting side's: a decode given up must not write to it any more.
        found = Row(image.row.row, image.row.position, image.row.uri)
        if not self._closed:
            try:
                pixels = self._decode(image.data, found, self._spec)
            except Exception as caught:
                error = as_image_error("decode", caught)
        with self._changed:
            if task.given_up:
                return
            FETCHED_BYTES.add(-len(image.data))
            if self._closed:
                return
            image.row.width, image.row.height, image.row.format = found.width, found.height, found.format
            if error is None:
                slots, index = self._reserve(image.row)
                task.started = None  # in a batch it is past giving up
        if error is None and pixels is not None:
            normalize(pixels, self._spec, slots.images[index])
        with self._changed:
            self._seconds["decode"] += time.monotonic() - began
            del self._decoding[image.row.position]
            if error is not None:
                self._fail(image, error)
            else:
                self._written(slots)
            self._start_more()
            if self._ready or self._finished():
                self._changed.notify()

    # Outcomes; called with the lock held.

    def _fail(self, image: _Image, error: ImageError) -> None:
        image.row.fail(error)
        self._failed.append(image.row)

    def _reserve(self, row: Row) -> tuple[_Slots, int]:
        if self._open is None:
            shape = (self._batch_size, *self._spec.model_shape)
            self._open = _Slots(BATCHES.empty(shape, self._spec.dtype))
        slots = self._open
        slots.rows.append(row)
        self._slots_used += 1
        if len(slots.rows) == self._batch_size:
            self._open = None
        return slots, len(slots.rows) - 1

    def _written(self, slots: _Slots) -> None:
        slots.written += 1
        if slots.written == self._batch_size:
            self._ready.append(slots)


def as_image_error(stage: str, error: Exception) -> ImageError:
    """`error` as a row's reason: a bad image never ends a run, whatever a library raises over it."""
    if isinstance(error, ImageError):
        return error
    if isinstance(error, MemoryError):
        return ImageError(stage, "out_of_memory", "not enough memory for this image")
    return ImageError(stage, "unexpected_error", f"{type(error).__name__}: {error}")
