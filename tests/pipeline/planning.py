"""What the inputs' tests share: a plan made from files, and what stands in it."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from pipeline.inputs import Reading
from pipeline.plan import Plan, make_plan

COMPRESS = {"": bytes, ".gz": gzip.compress, ".zst": zstandard.compress}


def plan_table(
    paths: Path | str | list[str], out: Path, *columns: str, on_bad_line: str = "fail", uri_column: str = "uri"
) -> tuple[pa.Table, Plan]:
    """The plan's rows in one table, and the plan."""
    paths = paths if isinstance(paths, list) else str(paths)
    reading = Reading(uri_column, columns, on_bad_line)
    plan = make_plan(paths, out, batch_size=2, shard_size=2, reading=reading)
    return pa.concat_tables([pq.read_table(out / file.name) for file in plan.files]), plan


def plan_rows(paths: Path | str | list[str], out: Path, *columns: str, **options: str) -> list[dict[str, Any]]:
    """The plan's rows as dictionaries, without their numbers; paths relative to the folder of `out`, errors too."""
    table, _ = plan_table(paths, out, *columns, **options)
    assert table["row"].to_pylist() == list(range(len(table)))
    base = f"{out.parent}/"
    return [
        {name: value.replace(base, "") if isinstance(value, str) else value for name, value in row.items()}
        for row in table.drop_columns("row").to_pylist()
    ]


def errors(path: Path | str, out: Path, **options: str) -> dict[str, str]:
    """The errors of the plan's bad rows by URI, paths relative to the folder of `out`."""
    rows = plan_rows(path, out, on_bad_line="row", **options)
    return {row["uri"]: row["_hublabel_error"] for row in rows if row.get("_hublabel_error")}
