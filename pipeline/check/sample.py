"""A sample of the images of an input, spread over all of it, and how many there are, without planning a run."""

from __future__ import annotations

import heapq
import io
import os
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from pipeline.errors import UsageError
from pipeline.inputs import TAKES, Input, Reading, list_files, lists_images, read_file, read_input
from pipeline.inputs.carried import CarriedTypes
from pipeline.inputs.stores import file_size
from transforms.errors import ImageError
from transforms.locations import open_file
from transforms.plan_reader import ERROR, SOURCE
from transforms.records import Row

if TYPE_CHECKING:
    import pyarrow as pa

SECONDS = 10.0  # for looking through the input
LARGE = 32 << 20  # bytes; of a larger text file pieces are read
PIECES = 64
PIECE_BYTES = 64 << 10
SUFFIXES = (b".parquet", b".pq")
ROW_GROUPS = 8  # of a Parquet file that has more
EXACT, ABOUT, AT_LEAST = "exact", "about", "at least"
_PLACE = re.compile(r"^(line|row) \d+ ")


@dataclass(frozen=True)
class Sample:
    """Some of an input's images.

    Attributes:
        rows: in the order they were met; failed ones where the input had a bad line.
        images: of the input.
        counted: whether `images` is `exact`, `about` so many (parts of large files were read), or `at least` so many
            (time was up).
        left_out: what was met and is no image, by reason.
    """

    rows: list[Row]
    images: int
    counted: str
    left_out: dict[str, int] = field(default_factory=dict)


def spread_sample(
    inputs: Iterable[Input],
    images: int,
    reading: Reading,
    *,
    limit: int | None = None,
    skip: str | None = None,
    seconds: float = SECONDS,
    clock: Callable[[], float] = time.monotonic,
) -> Sample:
    """Pick `images` images at random, the same ones each time, each as likely as any other.

    Of large uncompressed text files and of Parquet files parts are read; files of a glob are taken in random order. The
    time is shared out evenly to the inputs.

    Args:
        images: as many at most.
        reading: how tables are read, as for a plan.
        limit: `input.limit`: only the first so many count, and are read one after the other.
        skip: a folder that is not entered: the run's own output.
        seconds: after which nothing more is read.
        clock: monotonic seconds, injected by tests.

    Raises:
        UsageError: as a run's planning would, as far as it is seen: an input holds no image, a column is missing, ...
    """
    inputs = list(inputs)
    survey = _Survey(images, reading, limit, skip)
    began = clock()
    for number, source in enumerate(inputs, start=1):
        end = began + seconds * number / len(inputs)
        before = survey.seen
        survey.look_through(source, partial(_is_over, clock, end))
        if survey.seen == before and not survey.full:
            raise UsageError(f"{source.name} holds no image{survey.left_out_words()}; {source.key} takes {TAKES}")
    if survey.counted == EXACT and limit is None:
        survey.types.check_all_found(inputs[0].name if len(inputs) == 1 else f"any of the {len(inputs)} inputs")
    return survey.sample()


def _is_over(clock: Callable[[], float], end: float) -> bool:
    return clock() > end


@dataclass(order=True)
class _Drawn:
    """A row with its lot; of all rows those with the largest are the sample (a heap pops the smallest)."""

    lot: float
    order: int
    values: dict[str, Any] = field(compare=False)


class _Survey:
    """The sample in the making: weighted sampling without replacement by exponential lots.

    Efraimidis and Spirakis, "Weighted random sampling with a reservoir", Information Processing Letters 97 (2006), in
    the form of log(u) / weight.
    """

    def __init__(self, images: int, reading: Reading, limit: int | None, skip: str | None) -> None:
        self._wanted, self._reading, self._limit, self._skip = images, reading, limit, skip
        self._chance = np.random.default_rng(0)
        self._order = random.Random(0)
        self._drawn: list[_Drawn] = []
        self._left_out: Counter[str] = Counter()
        self._images = 0.0
        self.seen = 0
        self.counted = EXACT
        self.types = CarriedTypes(reading.columns)

    @property
    def full(self) -> bool:
        """Whether the limit is reached."""
        return self._limit is not None and self.seen >= self._limit

    def look_through(self, source: Input, is_over: Callable[[], bool]) -> None:
        """Take up the rows of one input until time is over."""
        if self._limit is not None or not lists_images(source):
            batches = read_input(source, self._left_out, self._skip, self._reading)
            self._images += self._take(batches, Part(), source, is_over)
            return
        files = list(list_files(source, self._left_out))
        self._order.shuffle(files)
        images, done = 0.0, 0
        for path in files:
            if done and is_over():
                break
            images += self._file(source, path, is_over)
            done += 1
        if done < len(files):
            self._now_counted(ABOUT)
            images *= len(files) / done
        self._images += images

    def _file(self, source: Input, path: bytes, is_over: Callable[[], bool]) -> float:
        """Take up one file that lists images; returns how many it has, or so."""
        if path.lower().endswith(SUFFIXES):
            groups, part = _row_groups(path, self._order)
            reading = replace(self._reading, row_groups=groups)
        else:
            part = Excerpt()
            reading = replace(self._reading, excerpt=part.of)
            if file_size(path) > LARGE:  # lines that are cut are none of the input's
                reading = replace(reading, on_bad_line="row")
        taken = self._take(read_file(source, path, reading, self._left_out), part, source, is_over)
        if isinstance(part, Excerpt) and part.weight != 1:
            self._now_counted(ABOUT)
        return taken * part.weight if part.rows is None else part.rows

    def _take(self, batches: Iterator[pa.RecordBatch], part: Part, source: Input, is_over: Callable[[], bool]) -> int:
        taken = 0
        for batch in batches:
            if self._limit is not None:
                batch = batch.slice(0, self._limit - self.seen)
            self.types.see(batch, source.name)
            if source.has_header:
                self.types.check_all_found(source.name)
            self._draw(batch, part)
            taken += batch.num_rows
            self.seen += batch.num_rows
            if self.full:
                break
            if is_over():
                if part.rows is None:
                    self._now_counted(AT_LEAST)
                break
        return taken

    def _draw(self, batch: pa.RecordBatch, part: Part) -> None:
        lots = np.log(self._chance.random(batch.num_rows)) / part.weight
        least = self._drawn[0].lot if len(self._drawn) >= self._wanted else -np.inf
        names = [name for name in ("uri", SOURCE, ERROR) if name in batch.schema.names]
        for index in np.flatnonzero(lots > least):
            values = {name: batch.column(name)[int(index)].as_py() for name in names}
            if values.get(ERROR) and part.weight != 1:  # what was counted are not the lines of the file
                values = {"uri": values["uri"].rpartition("#")[0], ERROR: _PLACE.sub(r"a \1 ", values[ERROR])}
            heapq.heappush(self._drawn, _Drawn(float(lots[index]), self.seen + int(index), values))
            if len(self._drawn) > self._wanted:
                heapq.heappop(self._drawn)

    def _now_counted(self, how: str) -> None:
        self.counted = AT_LEAST if AT_LEAST in (how, self.counted) else ABOUT

    def left_out_words(self) -> str:
        counts = ", ".join(f"{count:,} {reason.replace('_', ' ')}" for reason, count in sorted(self._left_out.items()))
        return f" (left out: {counts})" if counts else ""

    def sample(self) -> Sample:
        rows = []
        for position, drawn in enumerate(sorted(self._drawn, key=lambda drawn: drawn.order)):
            row = Row(drawn.order, position, drawn.values["uri"], source=drawn.values.get(SOURCE))
            if (error := drawn.values.get(ERROR)) is not None:
                row.fail(ImageError("read", "bad_line", error))
            rows.append(row)
        images = self.seen if self._limit is not None else round(self._images)
        return Sample(rows, images, self.counted, dict(sorted(self._left_out.items())))


@dataclass
class Part:
    """What is read of a file.

    Attributes:
        weight: how many rows of the file one that is read stands for.
        rows: of the file, where that is known.
    """

    weight: float = 1.0
    rows: int | None = None


def _row_groups(path: bytes, order: random.Random) -> tuple[tuple[int, ...] | None, Part]:
    """The row groups to read of a Parquet file, None for all."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with open_file(path, streamed=False) as file:
            metadata = pq.read_metadata(file)
    except (pa.ArrowException, OSError):
        return None, Part()  # reading it will say what is wrong
    if metadata.num_row_groups <= ROW_GROUPS:
        return None, Part(1.0, metadata.num_rows)
    groups = tuple(sorted(order.sample(range(metadata.num_row_groups), ROW_GROUPS)))
    read = sum(metadata.row_group(group).num_rows for group in groups)
    return groups, Part(metadata.num_rows / read if read else 1.0, metadata.num_rows)


class Excerpt(Part):
    """Pieces of a large text file, spread over it, the first with its header; small files whole."""

    def of(self, file: BinaryIO) -> BinaryIO:
        """What is read in place of `file`: whole lines."""
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        if size <= LARGE:
            return file
        pieces = b"".join(_piece(file, size * number // PIECES, number == 0) for number in range(PIECES))
        if not pieces:  # lines longer than a piece
            file.seek(0)
            return file
        self.weight = size / len(pieces)
        return io.BytesIO(pieces)


def _piece(file: BinaryIO, start: int, first: bool) -> bytes:
    """The whole lines in some bytes from `start` on."""
    file.seek(start)
    data = file.read(PIECE_BYTES)
    begin = 0 if first else data.find(b"\n") + 1
    return data[begin : data.rfind(b"\n") + 1] if begin or first else b""
