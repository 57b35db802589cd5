"""Outputs of runs made without a model: plan, parts, report and `_SUCCESS` as a run leaves them."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.config import RunConfig
from pipeline.coverage import Coverage
from pipeline.plan import Plan, write_plan
from pipeline.record import RunRecord, save_record
from pipeline.report import write_report
from transforms.masking import strip_uri
from transforms.parts import PartFooter, encode_part, part_name
from transforms.plan_reader import plan_file, read_shard
from transforms.records import Columns, Row, Shard, rows_to_table
from transforms.storage import LocalStorage

LABELS = ["red", "green", "blue"]
COLUMNS = Columns(top_k=2, embedding=4)


@dataclass
class MadeOutput:
    """An output that a test may damage.

    Attributes:
        path: the folder.
        record: the run; a test that changes it saves it.
    """

    path: Path
    record: RunRecord

    @property
    def storage(self) -> LocalStorage:
        return LocalStorage(str(self.path))

    @property
    def shards(self) -> list[Shard]:
        files = enumerate(self.record.plan.files)
        return [Shard(n, i, file.shard_rows(i)) for n, file in files for i in range(file.shards)]

    def part(self, index: int) -> Path:
        """Path of the part of the plan's shard `index`."""
        return self.path / part_name(self.shards[index])

    def rewrite(self, index: int, change: Callable[[pa.Table], pa.Table], **footer: object) -> None:
        """Replace the part of shard `index` by one with changed rows or with another footer."""
        table = pq.read_table(self.part(index), partitioning=None)
        before = self.footer(self.shards[index], table)
        self.part(index).write_bytes(encode_part(change(table), PartFooter(**{**before.__dict__, **footer})))

    def footer(self, shard: Shard, table: pa.Table) -> PartFooter:
        failed = table.column("status").to_pylist().count("failed")
        plan, run = self.record.plan.fingerprint, self.record.fingerprint
        return PartFooter(plan, shard.file, shard.row_group, shard.generation, len(table), failed, run)

    def label(self, shard: Shard) -> None:
        """Commit the part of a shard: rows 3, 10, 17, ... have failed, the others have the bytes of `data_of`."""
        planned = read_shard(plan_file(str(self.path), shard.file), shard.row_group)
        strips = self.record.config["output"].get("uri") == "stripped"
        pairs = zip(planned["row"].to_pylist(), planned["uri"].to_pylist(), strict=True)
        rows = [_row(number, i, strip_uri(uri) if strips else uri) for i, (number, uri) in enumerate(pairs)]
        table = rows_to_table(rows, COLUMNS, LABELS, 0, None)
        assert self.storage.put_if_absent(part_name(shard), encode_part(table, self.footer(shard, table)))

    def finish(self) -> None:
        """Write report.json and `_SUCCESS`."""
        coverage = Coverage(self.storage, self.record.plan, self.record.fingerprint)
        coverage.refresh()
        assert coverage.covered
        write_report(self.storage, self.record, coverage, coverage.rows, {})
        counts = f'{{"rows": {coverage.rows}, "failed": {coverage.failed}}}\n'
        self.storage.replace("_SUCCESS", counts.encode())


def data_of(number: int) -> bytes:
    """What stands for the file of image `number`."""
    return f"image {number}".encode() * (number + 1)


def _row(number: int, position: int, uri: str) -> Row:
    if number % 7 == 3:
        return Row(number, position, uri, error_stage="read", error_type="not_found", error_message="no such file")
    scores = np.array([0.75, 0.25], np.float32)
    classes = np.array([number % 3, (number + 1) % 3])
    data = data_of(number)
    return Row(
        number, position, uri, 4, 3, "png", len(data), hashlib.sha256(data).hexdigest(),
        classes=classes, scores=scores, embedding=np.full(4, number, np.float32),
    )  # fmt: skip


def make_output(path: Path, images: int = 10, shard_size: int = 4, uri: str = "as_given") -> MadeOutput:
    """A finished output of `images` images at `https://user:pw@host/N.png?sig=N`, in shards of `shard_size`."""
    output = {"path": str(path), "embedding": True, "top_k": 2, **({} if uri == "as_given" else {"uri": uri})}
    model = {"handle": "model/", "outputs": {"logits": "output", "embedding": "features"}}
    config = RunConfig.model_validate({"input": {"path": "list.txt"}, "model": model, "output": output})
    uris = pa.array([f"https://user:pw@host/{number}.png?sig={number}" for number in range(images)])
    batches = iter([pa.record_batch({"uri": uris})])
    plan = write_plan(batches, path, batch_size=2, shard_size=shard_size, left_out=Counter())
    return _labelled(path, config, plan)


def _labelled(path: Path, config: RunConfig, plan: Plan) -> MadeOutput:
    record = RunRecord(str(path), config.resolved(), "model/", {"image.size": [8, 8]}, plan, {})
    made = MadeOutput(path, record)
    save_record(made.storage, record)
    for shard in made.shards:
        made.label(shard)
    made.finish()
    return made
