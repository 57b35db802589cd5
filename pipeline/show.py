"""`hublabel show`: predictions as a readable table, or as CSV or JSON lines for the rest of the world."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.console import plain_console
from pipeline.errors import HublabelError, UsageError
from transforms.lean import without
from transforms.masking import strip_uri
from transforms.storage import open_storage

if TYPE_CHECKING:
    import pyarrow as pa

FEW = 20  # rows shown unless told otherwise


def show_command(
    output: str, rows: int | None = None, failed: bool = False, label: str | None = None, query: str | None = None,
    form: str = "table",
) -> int:  # fmt: skip
    """Print predictions of the run in `output`.

    Args:
        rows: at most so many; None for `FEW` in a table, and all of them in the other forms.
        failed: failed rows only.
        label: rows with this label only.
        query: SQL over the view `predictions` instead.
        form: `table`, `csv` or `jsonl`.

    Raises:
        UsageError: there is no run in `output`, or the query is wrong.
    """
    limit = FEW if rows is None and form == "table" else rows
    sql = query or _select(failed, label)
    reader = _run(output, sql, [label] if label is not None and query is None else [], limit)
    if form == "csv":
        _print_csv(reader)
    elif form == "jsonl":
        _print_jsonl(reader)
    elif query:
        _print_any(plain_console(), reader.read_all())
    else:
        _print_predictions(plain_console(), reader.read_all())
    return 0


def print_table(console: Console, output: str, rows: int) -> None:
    """A table of the first `rows` rows: image, label, score, or why it failed."""
    _print_predictions(console, _run(output, _select(False, None), [], rows).read_all())


def _select(failed: bool, label: str | None) -> str:
    where = ["status = 'failed'"] if failed else []
    where += ["label = ?"] if label is not None else []
    return "SELECT * FROM predictions" + (f" WHERE {' AND '.join(where)}" if where else "") + " ORDER BY row"


def _run(output: str, sql: str, values: list[Any], limit: int | None) -> pa.RecordBatchReader:
    import duckdb

    from pipeline.query import connect

    connection = connect(output)
    try:
        if limit is not None:
            sql = f"SELECT * FROM ({sql.rstrip().rstrip(';')}) LIMIT {int(limit)}"
        with without("pandas"):  # see pipeline.query
            return connection.execute(sql, values).fetch_record_batch(10_000)
    except duckdb.Error as error:
        raise UsageError(f"--query: {str(error).splitlines()[0]}") from None


def _print_predictions(console: Console, found: pa.Table) -> None:
    table = Table(box=None, pad_edge=False)
    table.add_column("image", overflow="fold")
    table.add_column("label")
    table.add_column("score", justify="right")
    for row in found.to_pylist():
        name = Text(os.path.basename(strip_uri(row["uri"])))
        if row["status"] == "ok":
            label = row.get("label") or str(row.get("label_index", ""))
            score = row.get("score")
            table.add_row(name, Text(label), "" if score is None else f"{score:.3f}")
        else:
            table.add_row(name, Text(f"failed: {row['error_message']} ({row['error_type']})", style="red"), "")
    console.print(table, soft_wrap=False)


def _print_any(console: Console, found: pa.Table) -> None:
    table = Table(box=None, pad_edge=False)
    for name in found.column_names:
        table.add_column(Text(name), overflow="fold")
    for row in found.to_pylist():
        table.add_row(*(Text("" if value is None else str(value)) for value in row.values()))
    console.print(table, soft_wrap=False)


def _print_csv(reader: pa.RecordBatchReader) -> None:
    """Rows as CSV; lists and structs as JSON in their cell."""
    import csv

    writer = csv.writer(sys.stdout)
    writer.writerow(reader.schema.names)
    for batch in reader:
        for row in batch.to_pylist():
            writer.writerow(json.dumps(v, default=str) if isinstance(v, (list, dict)) else v for v in row.values())


def _print_jsonl(reader: pa.RecordBatchReader) -> None:
    for batch in reader:
        for row in batch.to_pylist():
            sys.stdout.write(json.dumps(row, ensure_ascii=False, default=str) + "\n")


def print_failures(console: Console, output: str) -> None:
    """Failed images by reason, as the report of a finished run counts them."""
    try:
        report = json.loads(open_storage(output).read("report.json"))
    except ValueError:
        raise HublabelError(f"{output}/report.json: damaged; delete it, and run the same command again") from None
    for reason, count in report["errors"].items():
        console.print(f"  {count:,} {reason}")
