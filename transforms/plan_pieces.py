"""Planning in pieces: byte ranges of text files of URIs, counted and written each for itself, and one plan together.

A line belongs to the piece in which it begins. All of it streams: memory holds a shard and some blocks, whatever the
size of a piece.
"""

from __future__ import annotations

import io
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, BinaryIO, cast

from transforms.locations import is_store, open_file, version_of
from transforms.manifest_lines import UTF8_BOM, LongLineError, blocks_of, named_lines, uris_of, whole_lines
from transforms.plan_files import SHARDS_PER_FILE, UriFingerprint, auto_shard_size, numbered_shards, write_plan_files
from transforms.storage import Storage

if TYPE_CHECKING:
    import pyarrow as pa

COUNTED, WRITTEN = "-counted.json", "-written.json"  # ends of names
REQUEST_BYTES = 8 << 20  # that one request to an object store fetches


class ChangedListError(RuntimeError):
    """A list is another one than when planning began."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A byte range of a text file, at least one byte.

    Attributes:
        number: from 0, in the order of the rows.
        location: of the file, see `locations`.
        start, end: bytes of the file.
        version: of the file, as `locations.version_of` tells it.
    """

    number: int
    location: bytes
    start: int
    end: int
    version: str


@dataclass(frozen=True, slots=True)
class PieceCount:
    """What a piece holds.

    Attributes:
        rows: lines that name an image.
        blank: lines that are blank.
        too_long: whether the next line is too long to be one; then it was counted up to there.
    """

    rows: int
    blank: int
    too_long: bool = False

    @property
    def lines(self) -> int:
        return self.rows + self.blank


@dataclass(frozen=True, slots=True)
class PieceFile:
    """A plan file of a piece: rows, bytes, and the fingerprint of its URIs."""

    rows: int
    bytes: int
    fingerprint: str


@dataclass(frozen=True)
class Layout:
    """How the rows of all pieces become shards.

    Attributes:
        shard_size: rows of a shard; the last one of a piece may be shorter.
        first_rows: number of the first row of each piece.
        rows: of all.
    """

    shard_size: int
    first_rows: tuple[int, ...]
    rows: int


def cut(size: int, piece_bytes: int) -> list[tuple[int, int]]:
    """Byte ranges of `piece_bytes`, the last one of up to that, which cover a file of `size` bytes."""
    return [(start, min(start + piece_bytes, size)) for start in range(0, size, piece_bytes)]


def lay_out(counts: Sequence[PieceCount], batch_size: int, shard_size: int | None) -> Layout:
    """The layout of pieces with these counts.

    Args:
        batch_size: images a model call.
        shard_size: images a shard; None for `auto_shard_size`.
    """
    first_rows, rows = [], 0
    for count in counts:
        first_rows.append(rows)
        rows += count.rows
    return Layout(shard_size or auto_shard_size(rows, batch_size), tuple(first_rows), rows)


def count_piece(piece: Piece) -> PieceCount:
    """Count the lines of a piece.

    Raises:
        ChangedListError: the file has changed.
        OSError: it cannot be read.
    """
    rows = blank = 0
    try:
        for text in _texts(piece):
            lines, blanks = named_lines(text)
            rows, blank = rows + len(lines), blank + blanks
    except LongLineError:
        return PieceCount(rows, blank, too_long=True)
    return PieceCount(rows, blank)


def write_piece(
    piece: Piece, rows: int, first_row: int, shard_size: int, storage: Storage, prefix: str
) -> list[PieceFile]:
    """Write the plan files of a piece to `<prefix>-<piece_file>`; again gives the same files.

    Args:
        rows: that `count_piece` has found.
        first_row: number of its first row.

    Raises:
        ChangedListError: the file has changed.
        OSError: it cannot be read, or the plan cannot be written.
    """
    sums: list[_Sum] = []
    with tempfile.TemporaryDirectory(prefix="hublabel-plan-") as scratch:
        shards = numbered_shards(_batches(piece), shard_size, first_row)
        names = write_plan_files(_summed(shards, sums), scratch, shard_size)
        if sum(found.rows for found in sums) != rows:
            raise ChangedListError(_changed(piece))
        paths = [os.path.join(scratch, name) for name in names]
        for index, path in enumerate(paths):
            storage.upload(f"{prefix}-{piece_file(piece.number, index)}", path)
        return [
            PieceFile(found.rows, os.path.getsize(path), found.fingerprint.hexdigest())
            for found, path in zip(sums, paths, strict=True)
        ]


def piece_file(number: int, index: int) -> str:
    """Name of a plan file of a piece until the plan is whole."""
    return f"piece-{number:05d}-{index:03d}.parquet"


@dataclass
class _Sum:
    """Of the rows of a file."""

    rows: int = 0
    fingerprint: UriFingerprint = field(default_factory=UriFingerprint)


def _summed(shards: Iterable[pa.Table], sums: list[_Sum]) -> Iterator[pa.Table]:
    """`shards`, as they go into files, each of which gets its sum."""
    for index, shard in enumerate(shards):
        if index % SHARDS_PER_FILE == 0:
            sums.append(_Sum())
        sums[-1].rows += shard.num_rows
        for uris in shard.column("uri").chunks:
            sums[-1].fingerprint.add(uris)
        yield shard


def _batches(piece: Piece) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa

    schema = pa.schema([pa.field("uri", pa.string(), nullable=False)])
    folder = piece.location.rpartition(b"/")[0]
    for text in _texts(piece):
        lines, _ = named_lines(text)
        yield pa.RecordBatch.from_arrays([uris_of(lines, folder)], schema=schema)


def _texts(piece: Piece) -> Iterator[bytes]:
    """The lines of a piece, see `whole_lines`."""
    with _open(piece.location) as file:
        if version_of(piece.location) != piece.version:
            raise ChangedListError(_changed(piece))
        begins, blocks = _from_first_line(file, piece)
        if begins < piece.end:
            yield from whole_lines(blocks, piece.end - begins)


def _changed(piece: Piece) -> str:
    return f"{os.fsdecode(piece.location)}: the list has changed since planning began"


def _open(location: bytes) -> BinaryIO:
    file = open_file(location, streamed=False)
    return cast(BinaryIO, io.BufferedReader(cast(io.RawIOBase, file), REQUEST_BYTES)) if is_store(location) else file


def _from_first_line(file: BinaryIO, piece: Piece) -> tuple[int, Iterator[bytes]]:
    """The byte where the first line that begins in the piece does, or one behind the piece; what follows from there."""
    if piece.start == 0:
        start = file.read(len(UTF8_BOM))
        if start == UTF8_BOM:  # as if the first line began behind it, wherever the piece ends
            return min(len(UTF8_BOM), piece.end - 1), blocks_of(file)
        return 0, chain([start], blocks_of(file))
    at = file.seek(piece.start - 1)
    for data in blocks_of(file):
        if (newline := data.find(b"\n")) >= 0:
            return at + newline + 1, chain([data[newline + 1 :]], blocks_of(file))
        at += len(data)
        if at >= piece.end:
            break
    return piece.end, iter(())


# What workers leave for the launcher beside the plan files, for each piece: its count, and a list of its plan files,
# which is there once they are.


def save_count(storage: Storage, prefix: str, number: int, count: PieceCount) -> None:
    """Leave the count of a piece."""
    storage.replace(f"{prefix}-piece-{number:05d}{COUNTED}", json.dumps(asdict(count)).encode())


def load_count(storage: Storage, prefix: str, number: int) -> PieceCount:
    """The count of a piece."""
    return PieceCount(**json.loads(storage.read(f"{prefix}-piece-{number:05d}{COUNTED}")))


def save_files(storage: Storage, prefix: str, number: int, files: Sequence[PieceFile]) -> None:
    """Leave word of a piece's plan files."""
    storage.replace(f"{prefix}-piece-{number:05d}{WRITTEN}", json.dumps([asdict(file) for file in files]).encode())


def load_files(storage: Storage, prefix: str, number: int) -> list[PieceFile]:
    """The plan files of a piece."""
    return [PieceFile(**values) for values in json.loads(storage.read(f"{prefix}-piece-{number:05d}{WRITTEN}"))]
