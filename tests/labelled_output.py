"""Finished outputs whose rows a test chooses, made without a model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.config import RunConfig
from pipeline.coverage import Coverage
from pipeline.plan import write_plan
from pipeline.record import RunRecord, save_record
from pipeline.report import write_report
from transforms.parts import PartFooter, encode_part, part_name
from transforms.records import Columns, Row, Shard, carried_schema, rows_to_table
from transforms.storage import LocalStorage

BEGUN = 1_700_000_000.0  # Unix time of the first commit; another part each 5 seconds


def labelled(uri: str, index: int, score: float, second: int = 0, **fields: Any) -> Row:
    """A row with its best class and the next best one, which has a quarter of the score."""
    classes, scores = np.array([index, second]), np.array([score, score / 4], np.float32)
    found: dict[str, Any] = {
        "width": 640,
        "height": 480,
        "format": "jpeg",
        "bytes": 50_000,
        "sha256": "0" * 64,
        **fields,
    }
    return Row(0, 0, uri, classes=classes, scores=scores, **found)


def failed(uri: str, kind: str = "not_found", message: str = "no such file", stage: str = "read") -> Row:
    return Row(0, 0, uri, error_stage=stage, error_type=kind, error_message=message)


def output_of(
    path: Path,
    rows: Sequence[Row],
    labels: Sequence[str] | None = ("red", "green", "blue"),
    *,
    shard_size: int = 4,
    sections: Mapping[str, Mapping[str, Any]] | None = None,
    carried: Mapping[str, pa.Array] | None = None,
    finished: bool = True,
    columns: Columns | None = None,
) -> RunRecord:
    """Write the output of a run that has come to these rows.

    Args:
        sections: keys of the config, by section.
        carried: columns of the input, one value a row.
        finished: without, the last shard has no part yet, and there is no report.
    """
    base: dict[str, dict[str, Any]] = {
        "input": {"path": "photos"}, "model": {"handle": "models/m"}, "output": {"path": str(path), "top_k": 2},
    }  # fmt: skip
    for name, values in (sections or {}).items():
        base[name] = {**base.get(name, {}), **values}
    config = RunConfig.model_validate(base)
    planned = pa.table({"uri": [row.uri for row in rows], **(carried or {})})
    plan = write_plan(iter(planned.to_batches()), path, batch_size=1, shard_size=shard_size, left_out=Counter(hidden=2))
    record = RunRecord(str(path), config.resolved(), "models/m", {"model files": "ff" * 32}, plan, {"python": "3.11"})
    storage = LocalStorage(str(path))
    save_record(storage, record)
    if columns is None:
        schema = planned.schema.remove(0)
        columns = Columns(top_k=2, carried=schema.serialize().to_pybytes() if carried else b"")
    for index in range(plan.shards - (not finished)):
        shard = Shard(0, index, plan.files[0].shard_rows(index))
        first = index * shard_size
        here = rows[first : first + shard.rows]
        for position, row in enumerate(here):
            row.row, row.position = first + position, position
        kept = planned.slice(first, shard.rows).select(carried_schema(columns).names) if carried else None
        failures = sum(row.status == "failed" for row in here)
        footer = PartFooter(
            plan.fingerprint, 0, index, 0, shard.rows, failures, record.fingerprint,
            {"read": 0.5, "model": 2.0}, BEGUN + 5 * index,
        )  # fmt: skip
        table = rows_to_table(here, columns, labels, 0, kept)
        assert storage.put_if_absent(part_name(shard), encode_part(table, footer))
    if finished:
        coverage = Coverage(storage, plan, record.fingerprint)
        coverage.refresh()
        write_report(storage, record, coverage, coverage.rows, {"labelling": 4.0})
        storage.replace("_SUCCESS", b'{"rows": %d, "failed": %d}\n' % (coverage.rows, coverage.failed))
    return record
