"""From a shard to batches of images, ready for the model: the Beam step around `ahead.batches`."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field

import apache_beam as beam
import numpy as np
from apache_beam.metrics import Metrics
from apache_beam.transforms.window import GlobalWindows
from apache_beam.utils.windowed_value import WindowedValue

from transforms.ahead import Decode, Patience, Read, Timeouts, batches_or_waits
from transforms.attempts import DEATHS_BEFORE_ISOLATION, attempt, forget_deaths
from transforms.decode import decode_image
from transforms.errors import ImageError
from transforms.header import check_limits, read_header
from transforms.isolation import IsolatedWork, label_isolated
from transforms.parts import part_name
from transforms.plan_reader import ERROR, SOURCE, plan_file, read_shard
from transforms.pools import DECODED_PIXELS
from transforms.preprocessing import Preprocessing
from transforms.read import read_bytes
from transforms.records import FAILED, ImageBatch, Row, Shard
from transforms.resize import resize
from transforms.storage import open_storage

SLOW_READ = 0.1  # seconds after which a shard's last reads let the next shard begin
WAITING_SHARDS = 32  # at most; each may hold the images of one batch
WAITING_BYTES = 256 * 1024 * 1024  # of these images, at most, but for two shards


def open_picture(data: bytes, row: Row, spec: Preprocessing) -> np.ndarray:
    """The picture in `data`, upright and resized.

    Args:
        data: a whole image file.
        row: gets format, width and height, as stored, as soon as the header tells them.
        spec: limits, geometry and resampling.

    Returns:
        uint8 [height, width, 3], RGB.

    Raises:
        ImageError: stage `decode`, see docs/images.md for the types.
    """
    header = read_header(data, spec.allow_truncated)
    row.format, row.width, row.height = header.format, header.width, header.height
    check_limits(header, data, spec)
    with DECODED_PIXELS.hold(header.width * header.height):
        return resize(decode_image(data, header, spec), spec)


def shard_rows(root: str, shard: Shard) -> list[Row]:
    """The rows of `shard` as the plan has them, in order; failed ones where the input had a bad line."""
    table = read_shard(plan_file(root, shard.file), shard.row_group)
    nothing = [None] * len(table)
    sources, errors = (table[name].to_pylist() if name in table.column_names else nothing for name in (SOURCE, ERROR))
    found = zip(table["row"].to_pylist(), table["uri"].to_pylist(), sources, errors, strict=True)
    rows = []
    for position, (number, uri, source, error) in enumerate(found):
        rows.append(Row(number, position, uri, source=source))
        if error is not None:
            rows[-1].fail(ImageError("read", "bad_line", error))
    return rows if shard.positions is None else [rows[position] for position in shard.positions]


@dataclass
class DecodeImages(beam.PTransform):
    """Reads, decodes, resizes and normalizes the images of each shard that no part covers yet.

    Attributes:
        root: the run's output.
        spec: what the model takes.
        batch_size: images in a batch.
        read: bytes of a URI.
        decode: bytes to a resized picture.
        decode_threads: None for one a processor.
        timeouts: when an image is given up.
        isolated: how to label image by image a shard that has killed its workers; None never does.
        slow_read: seconds after which reads are slow: when a shard waits for nothing else, the next one begins, and
            the rest of it comes between the batches of others, or at the end of the bundle. None: shard by shard.
    """

    root: str
    spec: Preprocessing
    batch_size: int
    read: Read = read_bytes
    decode: Decode = open_picture
    decode_threads: int | None = None
    timeouts: Timeouts = field(default_factory=Timeouts)
    isolated: IsolatedWork | None = None
    slow_read: float | None = SLOW_READ

    def expand(self, shards: beam.PCollection) -> beam.PCollection:
        return shards | "Decode" >> beam.ParDo(_DecodeImages(self)).with_output_types(ImageBatch)


@dataclass(eq=False)
class _Waiting:
    """A shard of which nothing but slow reads is left."""

    batches: Generator[ImageBatch | None, None, None]
    patience: Patience


class _DecodeImages(beam.DoFn):
    def __init__(self, step: DecodeImages) -> None:
        self._root, self._spec, self._batch_size = step.root, step.spec, step.batch_size
        self._read, self._decode = step.read, step.decode
        self._decode_threads, self._timeouts = step.decode_threads, step.timeouts
        self._isolated, self._slow_read = step.isolated, step.slow_read
        self._waiting: deque[_Waiting] = deque()
        batch_bytes = step.batch_size * math.prod(step.spec.model_shape) * np.dtype(step.spec.dtype).itemsize
        self._most_waiting = max(2, min(WAITING_SHARDS, WAITING_BYTES // batch_bytes))
        self._started = Metrics.counter("hublabel.DecodeImages", "shards_started")
        self._skipped = Metrics.counter("hublabel.DecodeImages", "shards_skipped")
        self._failed = Metrics.counter("hublabel.DecodeImages", "images_failed")
        self._in_isolation = Metrics.counter("hublabel.DecodeImages", "images_in_isolation")

    def setup(self) -> None:
        self._storage = open_storage(self._root)

    def start_bundle(self) -> None:
        self._abandon()  # what a bundle that failed has left

    def process(self, shard: Shard) -> Iterator[ImageBatch]:
        if self._storage.exists(part_name(shard)):  # a runner's retry, or another attempt was faster
            self._skipped.inc()
            return
        self._started.inc()
        patience = Patience(self._slow_read)
        mine = self._batches(shard, patience)
        try:
            for batch in mine:
                if batch is None:
                    self._waiting.append(_Waiting(mine, patience))
                    break
                yield batch
                yield from self._arrived()
            while len(self._waiting) > self._most_waiting:
                yield from self._rest(self._waiting[0])
        except BaseException:
            mine.close()
            self._abandon()
            raise

    def finish_bundle(self) -> Iterator[WindowedValue]:
        try:
            while self._waiting:
                yield from map(GlobalWindows.windowed_value, self._rest(self._waiting[0]))
        except BaseException:
            self._abandon()
            raise

    def teardown(self) -> None:
        self._abandon()

    def _arrived(self) -> Iterator[ImageBatch]:
        """What has come of the shards that wait, without waiting for more."""
        for waiting in list(self._waiting):
            for batch in waiting.batches:
                if batch is None:
                    break
                yield batch
            else:
                self._waiting.remove(waiting)

    def _rest(self, waiting: _Waiting) -> Iterator[ImageBatch]:
        """All that is still to come of a shard."""
        waiting.patience.seconds = None
        for batch in waiting.batches:
            if batch is not None:
                yield batch
        self._waiting.remove(waiting)

    def _abandon(self) -> None:
        while self._waiting:
            self._waiting.pop().batches.close()

    def _batches(self, shard: Shard, patience: Patience) -> Generator[ImageBatch | None, None, None]:
        with attempt(self._storage, shard) as deaths:
            rows = shard_rows(self._root, shard)
            if deaths >= DEATHS_BEFORE_ISOLATION and self._isolated is not None:
                yield from self._one_by_one(shard, rows, self._isolated)
            else:
                yield from self._in_batches(shard, rows, patience)
            # Only now, with the shard's part committed downstream, is it known that nothing in it kills.
            forget_deaths(self._storage, shard, deaths)

    def _in_batches(self, shard: Shard, rows: list[Row], patience: Patience) -> Iterator[ImageBatch | None]:
        work = (rows, self._spec, self._batch_size, self._read, self._decode, self._decode_threads, self._timeouts)
        for batch in batches_or_waits(*work, patience):
            if batch is None:
                yield None
            else:
                self._failed.inc(len(batch.failed))
                yield ImageBatch(shard, batch.images, batch.rows, batch.failed, batch.seconds)

    def _one_by_one(self, shard: Shard, rows: list[Row], work: IsolatedWork) -> Iterator[ImageBatch]:
        for row in label_isolated(rows, work, self._timeouts.read + self._timeouts.decode):
            self._in_isolation.inc()
            if row.status == FAILED:
                self._failed.inc()
            yield ImageBatch(shard, None, [], [row])
