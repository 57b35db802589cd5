"""The Beam step that plans text files of URIs: pieces of them are counted, then written as files of one plan."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import apache_beam as beam
from apache_beam.metrics import Metrics

from transforms.plan_pieces import (
    Piece,
    PieceCount,
    count_piece,
    lay_out,
    save_count,
    save_files,
    write_piece,
)
from transforms.storage import open_storage

Counted = tuple[int, PieceCount]  # number of a piece, and what it holds


@dataclass
class PlanLists(beam.PTransform):
    """Writes the plan files of pieces, and for each piece its count and the list of its files; gives their numbers.

    Where a line of some piece is too long, all are counted and none is written.

    Attributes:
        root: the run's output.
        prefix: of the names of the files, in it.
        batch_size: images a model call.
        shard_size: images a shard; None for `auto_shard_size`.
    """

    root: str
    prefix: str
    batch_size: int
    shard_size: int | None

    def expand(self, pieces: beam.PCollection) -> beam.PCollection:
        spread = pieces | "Spread" >> beam.Reshuffle()
        counted = spread | "Count" >> beam.ParDo(_CountLines(self)).with_output_types(Counted)
        # A row's number takes the counts of all pieces before its own: some bytes a piece, which every worker gets.
        counts = beam.pvalue.AsDict(counted)
        return spread | "Write" >> beam.ParDo(_WritePlan(self), counts).with_output_types(int)


class _CountLines(beam.DoFn):
    def __init__(self, step: PlanLists) -> None:
        self._root, self._prefix = step.root, step.prefix
        self._rows = Metrics.counter("hublabel.PlanLists", "rows_counted")

    def setup(self) -> None:
        self._storage = open_storage(self._root)

    def process(self, piece: Piece) -> Iterator[Counted]:
        count = count_piece(piece)
        save_count(self._storage, self._prefix, piece.number, count)
        self._rows.inc(count.rows)
        yield piece.number, count


class _WritePlan(beam.DoFn):
    def __init__(self, step: PlanLists) -> None:
        self._root, self._prefix = step.root, step.prefix
        self._batch_size, self._shard_size = step.batch_size, step.shard_size
        self._rows = Metrics.counter("hublabel.PlanLists", "rows_planned")

    def setup(self) -> None:
        self._storage = open_storage(self._root)

    def process(self, piece: Piece, counts: Mapping[int, PieceCount]) -> Iterator[int]:
        if any(count.too_long for count in counts.values()):
            return
        layout = lay_out([counts[number] for number in range(len(counts))], self._batch_size, self._shard_size)
        rows, first_row = counts[piece.number].rows, layout.first_rows[piece.number]
        files = write_piece(piece, rows, first_row, layout.shard_size, self._storage, self._prefix) if rows else []
        save_files(self._storage, self._prefix, piece.number, files)
        self._rows.inc(rows)
        yield piece.number
