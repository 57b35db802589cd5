"""Outputs of millions of rows, made without a model: what a run would leave, with made-up labels and failures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.config import config_from_resolved
from pipeline.plan import write_plan
from pipeline.record import RunRecord, save_record
from pipeline.versions import versions
from transforms.parts import PartFooter, encode_part, part_name
from transforms.records import Columns, Shard, prediction_schema, top_k_type
from transforms.storage import LocalStorage

CLASSES = 1000
TOP_K = 5
BATCH = 50_000
FAILED = 0.01  # of the rows
RATE = 400.0  # images a second that the parts' times tell of
REASONS = (
    ("read", "not_found", "no such file"),
    ("read", "timeout", "no answer within 30 seconds"),
    ("decode", "truncated", "the JPEG ends before its picture is complete, after 42,781 bytes"),
    ("decode", "unsupported_format", "not a picture in a known format: it looks like HTML"),
)
FORMATS, SHARES = ("jpeg", "png", "webp", "gif"), (0.9, 0.06, 0.03, 0.01)


def make_large_output(path: Path, rows: int) -> RunRecord:
    """A finished output of `rows` rows in shards as a run would have them; the same for the same `rows`."""
    config = config_from_resolved(
        {"input": {"path": "list.txt"}, "model": {"handle": "model/"}, "output": {"path": str(path)}}, "benchmark"
    )
    plan = write_plan(_uris(rows), path, batch_size=32, shard_size=None, left_out=Counter())
    record = RunRecord(str(path), config.resolved(), "model/", {}, plan, versions())
    storage = LocalStorage(str(path))
    save_record(storage, record)
    first = 0
    for number, file in enumerate(plan.files):
        (path / "predictions" / f"{number:05d}").mkdir(parents=True)
        for row_group in range(file.shards):
            shard = Shard(number, row_group, file.shard_rows(row_group))
            table, failed = _rows(first, shard.rows)
            first += shard.rows
            footer = PartFooter(
                plan.fingerprint, number, row_group, 0, shard.rows, failed, record.fingerprint,
                {"read": 3.0, "decode": 2.0, "model": 6.0}, 1.7e9 + first / RATE,
            )  # fmt: skip
            (path / part_name(shard)).write_bytes(encode_part(table, footer))
    return record


def uri_of(row: int) -> str:
    """The URI of a row."""
    return f"https://images.example.org/{row % 997:03d}/{row:09d}.jpg"


def _uris(rows: int) -> Iterator[pa.RecordBatch]:
    for first in range(0, rows, BATCH):
        yield pa.record_batch({"uri": [uri_of(row) for row in range(first, min(first + BATCH, rows))]})


def _rows(first: int, count: int) -> tuple[pa.Table, int]:
    """`count` rows from `first` on, and how many of them failed."""
    random = np.random.default_rng(first)
    fails = random.random(count) < FAILED
    classes = (random.zipf(1.3, (count, 1)) + np.arange(TOP_K) * 7) % CLASSES
    best = random.beta(2.0, 1.2, count)
    scores = (best[:, None] * 0.4 ** np.arange(TOP_K)).astype(np.float32)
    width, height = random.integers(200, 4000, (2, count))
    reasons = random.integers(0, len(REASONS), count)
    names = pa.array([f"class {index}" for index in range(CLASSES)])
    flat = pa.array(classes.ravel(), pa.int32())
    entries = pa.StructArray.from_arrays([flat, names.take(flat), pa.array(scores.ravel())], fields=list(top_k_type()))
    offsets = pa.array(np.arange(0, (count + 1) * TOP_K, TOP_K), pa.int32())
    digests = random.bytes(32 * count).hex()

    def where(keep: np.ndarray, values: object) -> pa.Array:
        return pa.array(values).take(pa.array(np.where(keep, np.arange(count), 0), mask=~keep))

    def said(part: int) -> pa.Array:
        return pa.array([REASONS[r][part] if f else None for r, f in zip(reasons, fails, strict=True)], pa.string())

    arrays = {
        "row": np.arange(first, first + count),
        "uri": [uri_of(row) for row in range(first, first + count)],
        "status": np.where(fails, "failed", "ok"),
        "label": where(~fails, names.take(pa.array(classes[:, 0]))),
        "label_index": where(~fails, classes[:, 0].astype(np.int32)),
        "score": where(~fails, scores[:, 0]),
        "top_k": pa.ListArray.from_arrays(offsets, entries).take(pa.array(np.arange(count), mask=fails)),
        "width": where(~fails, width.astype(np.int32)),
        "height": where(~fails, height.astype(np.int32)),
        "format": where(~fails, random.choice(FORMATS, count, p=SHARES)),
        "bytes": where(~fails, (width * height * random.uniform(0.1, 0.5, count)).astype(np.int64)),
        "sha256": where(~fails, [digests[i : i + 64] for i in range(0, 64 * count, 64)]),
        "error_stage": said(0),
        "error_type": said(1),
        "error_message": said(2),
    }
    schema = prediction_schema(Columns(TOP_K))
    return pa.table([_column(arrays[field.name], field.type) for field in schema], schema=schema), int(fails.sum())


def _column(values: Any, type: pa.DataType) -> pa.Array:
    return values.cast(type) if isinstance(values, pa.Array) else pa.array(values, type)


def make_truth(path: Path, rows: int) -> None:
    """A truth for each row of such an output, as Parquet with `uri` and `label_index`."""
    schema = pa.schema([("uri", pa.string()), ("label_index", pa.int32())])
    random = np.random.default_rng(0)
    with pq.ParquetWriter(path, schema) as writer:
        for batch in _uris(rows):
            classes = random.zipf(1.3, len(batch)) % CLASSES
            writer.write_batch(pa.record_batch([batch.column(0), pa.array(classes, pa.int32())], schema=schema))
