"""From a shard to batches of images, ready for the model: the Beam step around `ahead.batches`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import apache_beam as beam
import numpy as np
from apache_beam.metrics import Metrics

from transforms.ahead import Decode, Read, Timeouts, batches
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
    header = read_header(data)
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
    """

    root: str
    spec: Preprocessing
    batch_size: int
    read: Read = read_bytes
    decode: Decode = open_picture
    decode_threads: int | None = None
    timeouts: Timeouts = field(default_factory=Timeouts)
    isolated: IsolatedWork | None = None

    def expand(self, shards: beam.PCollection) -> beam.PCollection:
        return shards | "Decode" >> beam.ParDo(_DecodeImages(self)).with_output_types(ImageBatch)


class _DecodeImages(beam.DoFn):
    def __init__(self, step: DecodeImages) -> None:
        self._root, self._spec, self._batch_size = step.root, step.spec, step.batch_size
        self._read, self._decode = step.read, step.decode
        self._decode_threads, self._timeouts = step.decode_threads, step.timeouts
        self._isolated = step.isolated
        self._started = Metrics.counter("hublabel.DecodeImages", "shards_started")
        self._skipped = Metrics.counter("hublabel.DecodeImages", "shards_skipped")
        self._failed = Metrics.counter("hublabel.DecodeImages", "images_failed")
        self._in_isolation = Metrics.counter("hublabel.DecodeImages", "images_in_isolation")

    def setup(self) -> None:
        self._storage = open_storage(self._root)

    def process(self, shard: Shard) -> Iterator[ImageBatch]:
        if self._storage.exists(part_name(shard)):  # a runner's retry, or another attempt was faster
            self._skipped.inc()
            return
        self._started.inc()
        with attempt(self._storage, shard) as deaths:
            rows = shard_rows(self._root, shard)
            if deaths >= DEATHS_BEFORE_ISOLATION and self._isolated is not None:
                yield from self._one_by_one(shard, rows, self._isolated)
            else:
                yield from self._in_batches(shard, rows)
            # Only now, with the shard's part committed downstream, is it known that nothing in it kills.
            forget_deaths(self._storage, shard, deaths)

    def _in_batches(self, shard: Shard, rows: list[Row]) -> Iterator[ImageBatch]:
        for batch in batches(
            rows, self._spec, self._batch_size, self._read, self._decode, self._decode_threads, self._timeouts
        ):
            self._failed.inc(len(batch.failed))
            yield ImageBatch(shard, batch.images, batch.rows, batch.failed, batch.seconds)

    def _one_by_one(self, shard: Shard, rows: list[Row], work: IsolatedWork) -> Iterator[ImageBatch]:
        for row in label_isolated(rows, work, self._timeouts.read + self._timeouts.decode):
            self._in_isolation.inc()
            if row.status == FAILED:
                self._failed.inc()
            yield ImageBatch(shard, None, [], [row])
