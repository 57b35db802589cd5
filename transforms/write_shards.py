"""From labelled rows to committed parts: the Beam step that makes a shard's rows durable as soon as it has them all."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import apache_beam as beam
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.metrics import Metrics

from transforms.masking import strip_uri
from transforms.parts import DamagedPartError, PartFooter, commit_part, part_name, previous_part, remove_superseded
from transforms.plan_reader import plan_file, read_shard
from transforms.records import FAILED, Columns, LabelledBatch, Row, Shard, carried_schema, rows_to_table
from transforms.storage import open_storage


class IncompleteShardError(RuntimeError):
    """A shard's rows did not all come to the same writer; it is never written short."""


@dataclass
class WriteShards(beam.PTransform):
    """Commits one part for each shard, inside the call that brings its last row.

    Attributes:
        root: the run's output.
        columns: the optional columns.
        labels: label of each class from `label_offset` on, or None.
        label_offset: classes before the first label.
        plan: fingerprint of the plan, for the footer.
        run: fingerprint of all that decides the labels, for the footer.
        strip_uris: whether the `uri` column goes without credentials and queries.
    """

    root: str
    columns: Columns
    labels: tuple[str, ...] | None
    label_offset: int
    plan: str
    run: str
    strip_uris: bool = False

    def expand(self, batches: beam.PCollection) -> beam.PCollection:
        return batches | "Write" >> beam.ParDo(_WriteShards(self)).with_output_types(Shard)


@dataclass
class _Collected:
    rows: list[Row] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)


class _WriteShards(beam.DoFn):
    def __init__(self, step: WriteShards) -> None:
        self._root, self._columns, self._labels = step.root, step.columns, step.labels
        self._label_offset, self._plan, self._run = step.label_offset, step.plan, step.run
        self._strip_uris = step.strip_uris
        self._collected: dict[Shard, _Collected] = {}
        self._committed = Metrics.counter("hublabel.WriteShards", "shards_committed")
        self._superfluous = Metrics.counter("hublabel.WriteShards", "shards_committed_by_another")

    def setup(self) -> None:
        self._storage = open_storage(self._root)

    def start_bundle(self) -> None:
        self._collected = {}

    def process(self, batch: LabelledBatch) -> Iterator[Shard]:
        collected = self._collected.setdefault(batch.shard, _Collected())
        collected.rows += batch.rows
        for stage, seconds in batch.seconds.items():
            collected.seconds[stage] = collected.seconds.get(stage, 0.0) + seconds
        if len(collected.rows) >= batch.shard.rows:
            del self._collected[batch.shard]
            mine = self._commit(batch.shard, collected)
            (self._committed if mine else self._superfluous).inc()
            yield batch.shard

    def finish_bundle(self) -> None:
        for shard, collected in self._collected.items():
            raise IncompleteShardError(f"{shard}: {len(collected.rows)} of {shard.rows} rows came to this writer")

    def _commit(self, shard: Shard, collected: _Collected) -> bool:
        began = time.perf_counter()
        rows = in_order(collected.rows, shard)
        if self._strip_uris:
            rows = [replace(row, uri=strip_uri(row.uri)) for row in rows]
        carried = None
        if len(carried_schema(self._columns)):
            carried = read_shard(plan_file(self._root, shard.file), shard.row_group)
            if shard.positions is not None:
                carried = carried.take(list(shard.positions))
        table = rows_to_table(rows, self._columns, self._labels, self._label_offset, carried)
        seconds = collected.seconds
        if shard.positions is not None:
            try:
                before = previous_part(self._storage, shard)
            except DamagedPartError:
                if self._storage.exists(part_name(shard)):  # another attempt was faster, and has tidied up
                    return False
                raise
            table = merged(before.table, table, shard.positions)
            earlier = before.footer.seconds
            seconds = {stage: seconds.get(stage, 0) + earlier.get(stage, 0) for stage in {**earlier, **seconds}}
        footer = PartFooter(
            plan=self._plan,
            file=shard.file,
            row_group=shard.row_group,
            generation=shard.generation,
            rows=len(table),
            failed=pc.sum(pc.equal(table.column("status"), FAILED)).as_py() or 0,
            run=self._run,
            seconds={**seconds, "write": seconds.get("write", 0) + time.perf_counter() - began},
            finished=time.time(),
        )
        mine = commit_part(self._storage, shard, table, footer)
        if shard.positions is not None:
            remove_superseded(self._storage, shard)
        return mine


def in_order(rows: Sequence[Row], shard: Shard) -> list[Row]:
    """The rows by position, each position of the shard exactly once.

    Raises:
        IncompleteShardError: a row is missing, double or foreign.
    """
    ordered = sorted(rows, key=lambda row: row.position)
    expected = list(range(shard.rows) if shard.positions is None else shard.positions)
    if [row.position for row in ordered] != expected:
        raise IncompleteShardError(f"{shard}: its rows are not each there once")
    return ordered


def merged(before: pa.Table, again: pa.Table, positions: Sequence[int]) -> pa.Table:
    """The rows of a part with those at `positions` (ascending) replaced by the rows of `again`, the rest unchanged."""
    source = list(range(len(before)))
    for index, position in enumerate(positions):
        source[position] = len(before) + index
    return pa.concat_tables([before.cast(again.schema), again]).take(source).combine_chunks()
