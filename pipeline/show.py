"""The rows of an output as a readable table."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.console import plain_console
from pipeline.errors import UsageError
from pipeline.record import load_record
from transforms.masking import strip_uri
from transforms.storage import open_storage

COLUMNS = ["uri", "status", "label", "label_index", "score", "error_stage", "error_type", "error_message"]


def show_command(output: str, rows: int) -> int:
    """Print the first `rows` rows of an output."""
    print_table(plain_console(), output, rows)
    return 0


def print_table(console: Console, output: str, rows: int) -> None:
    """A table of the first `rows` rows: image, label, score, or why it failed.

    Raises:
        UsageError: there is no run in `output`.
    """
    table = Table(box=None, pad_edge=False)
    table.add_column("image", overflow="fold")
    table.add_column("label")
    table.add_column("score", justify="right")
    for row in _first_rows(output, rows):
        name = Text(os.path.basename(strip_uri(row["uri"])))
        if row["status"] == "ok":
            label = row.get("label") or str(row.get("label_index", ""))
            score = row.get("score")
            table.add_row(name, Text(label), "" if score is None else f"{score:.3f}")
        else:
            table.add_row(name, Text(f"failed: {row['error_message']} ({row['error_type']})", style="red"), "")
    console.print(table, soft_wrap=False)


def _first_rows(output: str, rows: int) -> Iterator[dict[str, Any]]:
    import pyarrow.parquet as pq

    from transforms.parts import newest_parts

    storage = open_storage(output)
    record = load_record(storage, storage.root)
    if record is None:
        raise UsageError(f"{output}: no run here (no run.yaml)")
    for number in range(len(record.plan.files)):
        for _, (_, name) in sorted(newest_parts(storage, number).items()):
            with storage.open(name) as source, pq.ParquetFile(source) as file:
                columns = [column for column in COLUMNS if column in file.schema_arrow.names]
                found = file.read(columns=columns).slice(0, rows).to_pylist()
            yield from found
            rows -= len(found)
            if rows <= 0:
                return


def print_failures(console: Console, output: str) -> None:
    """Failed images by reason, as the report of a finished run counts them."""
    report = json.loads(open_storage(output).read("report.json"))
    for reason, count in report["errors"].items():
        console.print(f"  {count:,} {reason}")
