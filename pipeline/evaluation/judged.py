"""Predictions beside what is true of them, as a table in DuckDB."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pipeline.errors import UsageError
from pipeline.query import predictions, quoted
from pipeline.record import RunRecord
from pipeline.truth import FOLDERS, QUERY, TO_LAST_SLASH, Entries, class_indices, read_entries
from transforms.masking import mask_credentials
from transforms.storage import Storage

if TYPE_CHECKING:
    import duckdb

COLUMNS = ("row", "uri", "label_index", "score", "top_k")
FOLDER = r"([^/#]*)[/#][^/#]*$"  # as in truth.folder_truth
NAME = f"regexp_replace(regexp_replace(uri, '{QUERY}', '\\1'), '{TO_LAST_SLASH}', '')"  # as truth.file_names


@dataclass
class Judged:
    """Rows whose truth is known, in the table `judged`.

    Its columns: `row`; `truth`, `guess` (indices of classes; the guess is null in failed rows); `score`; `place` of the
    truth among the best classes, 1 the best, null where it is none of them; `entry` of a table of images that told it.

    Attributes:
        connection: holds the table.
        source: where the truth is from, in words.
        kind: `index`, `name` or `wnid`, what stood there.
        by: what images were found by: `uri`, `file name`, `column` or `folder`.
        images: rows of the predictions, with or without a truth.
        unknown: of these, rows without a truth.
        unused: images of the truth that the predictions do not have.
        left_out: entries of the truth that tell no class, counted by reason.
    """

    connection: duckdb.DuckDBPyConnection
    source: str
    kind: str
    by: str
    images: int
    unknown: int = 0
    unused: int = 0
    left_out: dict[str, int] = field(default_factory=dict)


@contextmanager
def judged(
    storage: Storage, record: RunRecord, truth: str | None, column: str | None, labels: Sequence[str] | None
) -> Iterator[Judged]:
    """Join the predictions with the truth.

    Args:
        truth: what `read_truth` takes, or `folders`: the images' own folders are named for their classes; None: a
            column carried from the input has it.
        column: of the truth, or the carried one.
        labels: names of the classes, in order.

    Raises:
        UsageError: the truth cannot be read, or fits no image; the run has no labels, or no such column.
    """
    columns = [*COLUMNS, *([column] if truth is None and column else [])]
    with predictions(storage, record, columns) as connection:
        there = {row[0] for row in connection.execute("DESCRIBE predictions").fetchall()}
        if "label_index" not in there:
            raise UsageError(f"{storage.root}: the run has embeddings and no labels: there is nothing to compare")
        if truth is None:
            if column is None or column not in there:
                raise UsageError(f"{storage.root}: no column {column!r} was carried from the input (input.columns)")
            found = _by_value(connection, quoted(column), column, storage.root, labels)
        elif truth == FOLDERS:
            folder = f"nullif(regexp_extract(uri, '{FOLDER}', 1), '')"
            found = _by_value(connection, folder, None, storage.root, labels)
        else:
            found = _by_image(connection, truth, column, labels)
        _check_classes(found, labels)
        yield found


def _by_value(
    connection: duckdb.DuckDBPyConnection, value: str, column: str | None, output: str, labels: Sequence[str] | None
) -> Judged:
    """The truth stands in the predictions: what each distinct value of an expression means is asked once."""
    import pyarrow as pa

    values = connection.execute(f"SELECT DISTINCT {value} AS value FROM predictions").fetch_arrow_table()["value"]
    classes = class_indices(values, column, labels, output)
    connection.register(
        "meanings", pa.table({"value": values, "class": classes.indices, "entry": pa.nulls(len(values), pa.int32())})
    )
    _make(connection, f"JOIN meanings AS t ON {value} = t.value")
    source, by = (f"the column {column!r}", "column") if column else ("the images' folders", "folder")
    images = _count(connection)
    return Judged(connection, source, classes.kind, by, images, images - _count(connection, "judged"))


def _by_image(
    connection: duckdb.DuckDBPyConnection, path: str, column: str | None, labels: Sequence[str] | None
) -> Judged:
    """The truth is a table of images: found by URI; where none is, by file names that are unique on both sides."""
    truth = read_entries(path, labels, column)
    known = _told(connection, truth)
    _make(connection, "JOIN told AS t ON predictions.uri = t.uri")
    by, matched = "uri", _count(connection, "judged")
    if not matched:
        once = "GROUP BY name HAVING count(*) = 1"
        connection.execute(
            f"CREATE TEMP TABLE named AS SELECT {NAME} AS name, any_value(class) AS class, any_value(entry) AS entry "
            f"FROM told {once}"
        )
        connection.execute(
            f"CREATE TEMP TABLE ours AS SELECT {NAME} AS name, any_value(row) AS row FROM predictions {once}"
        )
        _make(connection, "JOIN ours ON predictions.row = ours.row JOIN named AS t ON ours.name = t.name")
        by, matched = "file name", _count(connection, "judged")
    images = _count(connection)
    if not matched:
        [(ours,)] = connection.execute("SELECT uri FROM predictions LIMIT 1").fetchall()
        raise UsageError(
            f"{truth.source} names none of the {images:,} images of the output: they are called "
            f"{mask_credentials(ours)!r} here, and {mask_credentials(truth.uris[0].as_py())!r} there"
        )
    used = connection.execute("SELECT count(DISTINCT entry) FROM judged").fetchall()[0][0]
    return Judged(connection, path, truth.kind, by, images, images - matched, known - used, truth.left_out)


def _told(connection: duckdb.DuckDBPyConnection, truth: Entries) -> int:
    """Make the table `told` of the truth, each image once; returns how many that are."""
    import numpy as np
    import pyarrow as pa

    entries = pa.array(np.arange(len(truth.uris), dtype=np.int32))
    connection.register("entries", pa.table({"uri": truth.uris, "class": truth.classes, "entry": entries}))
    connection.execute(
        "CREATE TEMP TABLE told AS SELECT uri, min(class) AS class, max(class) AS other, min(entry) AS entry "
        "FROM entries GROUP BY uri"
    )
    connection.unregister("entries")
    for differs in connection.execute("SELECT uri, class, other FROM told WHERE class <> other LIMIT 1").fetchall():
        raise truth.two_classes(*differs)
    return _count(connection, "told")


def _make(connection: duckdb.DuckDBPyConnection, join: str) -> None:
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE judged AS SELECT predictions.row, t.class AS truth, label_index AS guess, score, "
        f"list_position(list_transform(top_k, lambda best: best.label_index), t.class)::SMALLINT AS place, t.entry "
        f"FROM predictions {join} WHERE t.class IS NOT NULL"
    )


def _count(connection: duckdb.DuckDBPyConnection, table: str = "predictions") -> int:
    return connection.execute(f"SELECT count(*) FROM {table}").fetchall()[0][0]


def _check_classes(judged: Judged, labels: Sequence[str] | None) -> None:
    """Refuse a truth that cannot be about these classes."""
    low, high, count = judged.connection.execute("SELECT min(truth), max(truth), count(*) FROM judged").fetchall()[0]
    if not count:
        raise UsageError(f"{judged.source}: no image has a class there")
    if labels is not None and (low < 0 or high >= len(labels)):
        wrong: Any = high if high >= len(labels) else low
        hint = "; does it count from 1?" if low == 1 and high == len(labels) else ""
        raise UsageError(
            f"{judged.source}: class {wrong}, and the model's {len(labels):,} labels are 0 to {len(labels) - 1:,}{hint}"
        )
