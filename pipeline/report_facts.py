"""What a report tells of the predictions: counts, distributions, and which rows to show, by SQL over the parts.

A handful of scans over a few columns each: seconds for ten million rows, and memory that does not grow with them.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pipeline.query import predictions, rows_of
from pipeline.record import RunRecord
from transforms.storage import Storage

if TYPE_CHECKING:
    import duckdb

COLUMNS = (
    "row", "label_index", "label", "score", "width", "height", "format", "bytes",
    "status", "error_stage", "error_type",
)  # fmt: skip
SHOWN_COLUMNS = ("uri", "label", "label_index", "score", "top_k", "error_message")
SCORE_BINS = 50
BINS_A_DECADE = 5  # of sizes, on a logarithmic scale
SAMPLE = 200_000  # labelled rows, about, among which examples of labels are sought
FAILED_EXAMPLES = 3  # of each reason


@dataclass(frozen=True)
class LabelCount:
    """A label, the images with it, the mean of their scores, the row with the best of these, the best and the worst."""

    index: int
    label: str
    images: int
    mean: float
    best_row: int
    best: float
    worst: float


@dataclass(frozen=True)
class Bin:
    """Images with a value from `start` (included) to `end`."""

    start: float
    end: float
    images: int


@dataclass(frozen=True)
class Format:
    """Images of one format, and their bytes in all."""

    name: str
    images: int
    bytes: int


@dataclass(frozen=True)
class Reason:
    """Failed images of one stage and type, with the first few of them."""

    stage: str
    type: str
    images: int
    rows: list[int]


@dataclass(frozen=True)
class Facts:
    """What the report shows of the predictions.

    Attributes:
        labels: all that occur, by falling count.
        scores: histogram of `score`; empty without scores.
        formats: by falling count; `not known` for images that could not be read.
        file_sizes, pixels: histograms of bytes and of width x height, by decades.
        reasons: why images failed, by falling count.
        confident, doubtful: rows to show: the surest ones (each with another label, if there are enough) and the least
            sure ones.
        by_label: rows to show of the most frequent labels, by label index.
        rows: the rows named above and among the reasons, with `SHOWN_COLUMNS`.
    """

    labels: list[LabelCount] = field(default_factory=list)
    scores: list[Bin] = field(default_factory=list)
    formats: list[Format] = field(default_factory=list)
    file_sizes: list[Bin] = field(default_factory=list)
    pixels: list[Bin] = field(default_factory=list)
    reasons: list[Reason] = field(default_factory=list)
    confident: list[int] = field(default_factory=list)
    doubtful: list[int] = field(default_factory=list)
    by_label: dict[int, list[int]] = field(default_factory=dict)
    rows: dict[int, dict[str, Any]] = field(default_factory=dict)


def gather_facts(storage: Storage, record: RunRecord, pictures: int) -> Facts:
    """Ask the predictions of a run.

    Args:
        pictures: rows to choose for showing, at most.

    Raises:
        UsageError: there is no part yet.
        HublabelError, DamagedPartError: the rows of a part cannot be read.
    """
    with predictions(storage, record, COLUMNS) as connection:
        asked = _Questions(connection)
        labels = asked.labels()
        confident, doubtful, by_label = _chosen(asked, labels, pictures)
        reasons = asked.reasons()
        facts = Facts(labels, asked.scores(labels), *asked.files(), reasons, confident, doubtful, by_label)
    shown = [*confident, *doubtful, *(row for rows in by_label.values() for row in rows)]
    shown += [row for reason in reasons for row in reason.rows]
    facts.rows.update(rows_of(storage, record, shown, SHOWN_COLUMNS))
    return facts


def _chosen(
    asked: _Questions, labels: list[LabelCount], pictures: int
) -> tuple[list[int], list[int], dict[int, list[int]]]:
    """Rows for the contact sheet: a quarter confident, a quarter doubtful, half of it by label; none twice.

    All of them as `confident`, the surest first, when there are no more than `pictures`.
    """
    images = sum(label.images for label in labels)
    if images <= pictures:
        return asked.rows_by_score("DESC", images), [], {}
    quarter = pictures // 4
    if len(labels) < quarter:
        confident = asked.rows_by_score("DESC", quarter)
    else:
        best = sorted(labels, key=lambda label: (-label.best, label.index))
        confident = [label.best_row for label in best[:quarter]]
    seen = set(confident)
    doubtful = [row for row in asked.rows_by_score("ASC", 2 * quarter) if row not in seen][:quarter]
    seen.update(doubtful)
    groups = max(1, min(len(labels), pictures // 8))
    each = (pictures - 2 * quarter) // groups
    found = asked.examples([label.index for label in labels[:groups]], 2 * quarter + each, images)
    by_label = {index: [row for row in rows if row not in seen][:each] for index, rows in found.items()}
    return confident, doubtful, {index: rows for index, rows in by_label.items() if rows}


class _Questions:
    """The questions, each one scan over few columns."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        self._columns = {row[0] for row in self._all("DESCRIBE predictions")}

    def _all(self, sql: str, values: dict[str, Any] | None = None) -> list[tuple[Any, ...]]:
        return self._connection.execute(sql, values or {}).fetchall()

    @property
    def _labelled(self) -> bool:
        return "label_index" in self._columns

    def labels(self) -> list[LabelCount]:
        if not self._labelled:
            return []
        found = self._all(
            "SELECT label_index, coalesce(any_value(label), label_index::VARCHAR), count(*), avg(score), "
            "arg_max(row, score), max(score), min(score) FROM predictions WHERE label_index IS NOT NULL "
            "GROUP BY label_index ORDER BY count(*) DESC, label_index"
        )
        return [LabelCount(*row) for row in found]

    def scores(self, labels: list[LabelCount]) -> list[Bin]:
        """A histogram over [0, 1], or over where the scores lie if some lie elsewhere."""
        if not labels:
            return []
        low, high = min(label.worst for label in labels), max(label.best for label in labels)
        if low >= 0 and high <= 1:
            low, high = 0.0, 1.0
        width = (high - low) / SCORE_BINS or 1.0
        found = self._all(
            "SELECT least(floor((score - $low) * $bins), $last)::INTEGER AS bin, count(*) FROM predictions "
            "WHERE score IS NOT NULL GROUP BY bin ORDER BY bin",
            {"low": low, "bins": 1 / width, "last": SCORE_BINS - 1},
        )
        return [Bin(low + number * width, low + (number + 1) * width, count) for number, count in found]

    def files(self) -> tuple[list[Format], list[Bin], list[Bin]]:
        """Formats, and histograms of bytes and of pixels with `BINS_A_DECADE` bins between powers of ten."""
        self._all(
            f"CREATE TEMP TABLE files AS SELECT format, "
            f"CASE WHEN bytes > 0 THEN floor(log10(bytes) * {BINS_A_DECADE})::INTEGER END AS size, "
            f"CASE WHEN width > 0 AND height > 0 "
            f"THEN floor(log10(width::BIGINT * height) * {BINS_A_DECADE})::INTEGER END AS pixels, "
            f"count(*) AS images, sum(bytes) AS bytes FROM predictions GROUP BY ALL"
        )
        formats = self._all(
            "SELECT coalesce(format, 'not known'), sum(images)::BIGINT, coalesce(sum(bytes), 0)::BIGINT "
            "FROM files GROUP BY format ORDER BY sum(images) DESC, format"
        )
        return [Format(*row) for row in formats], self._decades("size"), self._decades("pixels")

    def _decades(self, column: str) -> list[Bin]:
        found = self._all(
            f"SELECT {column}, sum(images)::BIGINT FROM files WHERE {column} IS NOT NULL GROUP BY ALL ORDER BY ALL"
        )
        return [
            Bin(10 ** (number / BINS_A_DECADE), 10 ** ((number + 1) / BINS_A_DECADE), count) for number, count in found
        ]

    def reasons(self) -> list[Reason]:
        found = self._all(
            f"SELECT error_stage, error_type, count(*), min(row, {FAILED_EXAMPLES}) FROM predictions "
            "WHERE status = 'failed' GROUP BY ALL ORDER BY count(*) DESC, error_stage, error_type"
        )
        return [Reason(*row) for row in found]

    def rows_by_score(self, order: str, count: int) -> list[int]:
        """The first `count` rows by rising (`ASC`) or falling (`DESC`) score."""
        if not self._labelled or not count:
            return []
        found = self._all(
            f"SELECT row FROM predictions WHERE label_index IS NOT NULL ORDER BY score {order}, row LIMIT {count}"
        )
        return [row for (row,) in found]

    def examples(self, indices: list[int], each: int, images: int) -> dict[int, list[int]]:
        """Up to `each` rows with each of these labels, drawn by a hash of the row, so always the same ones."""
        wanted = ", ".join(map(str, indices))  # constants: far faster than looking each row up in a list
        found = self._all(
            f"SELECT label_index, min_by(row, hash(row), {each}) FROM predictions "
            f"WHERE label_index IN ({wanted}) AND hash(row) % {max(1, images // SAMPLE)} = 0 GROUP BY label_index"
        )
        rows: dict[int, list[int]] = defaultdict(list, found)
        return {index: rows[index] for index in indices}
