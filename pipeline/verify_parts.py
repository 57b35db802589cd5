"""One part against the plan's shard it was made of: everything `hublabel verify` can say of a part."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from transforms.masking import mask_credentials, strip_uri
from transforms.parts import DamagedPartError, PartFooter, parse_part_name, read_footer
from transforms.plan_reader import ERROR as ERROR_OF_LINE
from transforms.plan_reader import SOURCE
from transforms.records import FAILED, OK

if TYPE_CHECKING:
    import pyarrow as pa

AGAIN = "`hublabel run` labels its images again"
LABELLED = ("sha256", "bytes", "width", "height", "format")  # never null in a row that is ok
CLASSIFIED = ("label_index", "score", "top_k")  # nor these, where there are classes
ERROR = ("error_stage", "error_type", "error_message")  # never null in a failed row, always in one that is ok


@dataclass(frozen=True)
class Expected:
    """What every part of a run has in common.

    Attributes:
        plan, run: fingerprints that its footer names.
        classifies: whether rows have labels.
        strips_uris: whether the `uri` column has credentials and queries removed.
    """

    plan: str
    run: str
    classifies: bool
    strips_uris: bool


@dataclass
class Counts:
    """What the rows of sound parts add up to, as the report has it."""

    ok: int = 0
    failed: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    labels: Counter[str] = field(default_factory=Counter)

    def add(self, table: pa.Table) -> None:
        """Count the rows of a part."""
        failed = _count(table, "status", FAILED)
        self.failed += failed
        self.ok += len(table) - failed
        for stage, kind in zip(table["error_stage"].to_pylist(), table["error_type"].to_pylist(), strict=True):
            if stage is not None:
                self.errors[f"{stage}/{kind}"] += 1
        if "label_index" in table.column_names:
            pairs = zip(table["label"].to_pylist(), table["label_index"].to_pylist(), strict=True)
            self.labels.update(str(i) if label is None else label for label, i in pairs if i is not None)


def read_part(name: str, data: bytes) -> tuple[PartFooter, pa.Table]:
    """The part `name`, every page of it decoded and its checksums compared.

    Raises:
        DamagedPartError: it is not that part, or not whole.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        footer = read_footer(data)
        if parse_part_name(name) != (footer.file, footer.row_group, footer.generation):
            raise DamagedPartError("it holds another shard's rows")
    except DamagedPartError as error:
        raise DamagedPartError(f"{error}; {AGAIN}") from None
    try:
        table = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True).read()
        table.validate(full=True)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DamagedPartError(f"its rows cannot be read ({one_line(error)}); delete it, and {AGAIN}") from None
    return footer, table


def part_problems(footer: PartFooter, table: pa.Table, planned: pa.Table, expected: Expected) -> list[str]:
    """What is wrong with the rows of a part that could be read.

    Args:
        planned: the shard: `row`, `uri` and the carried columns.
    """
    if footer.plan != expected.plan:
        return ["it belongs to another plan"]
    if footer.run != expected.run:
        return ["it was made with other settings (model, preprocessing, labels or libraries)"]
    missing = [name for name in _required(planned, expected) if name not in table.column_names]
    if missing:
        return [f"it lacks the column {name}" for name in missing]
    return [
        *_key_problems(table, planned),
        *_input_problems(table, planned, expected.strips_uris),
        *_status_problems(table, footer, expected.classifies),
    ]


def _shared(planned: pa.Table) -> list[str]:
    """The plan's columns that the predictions have too: `row`, `uri` and those carried from the input."""
    return [name for name in planned.column_names if name not in (SOURCE, ERROR_OF_LINE)]


def _differ(here: Any, there: Any) -> bool:
    return here != there and repr(here) != repr(there)  # NaN, deep in a list too, is not equal to itself


def _required(planned: pa.Table, expected: Expected) -> list[str]:
    classes = (*CLASSIFIED, "label") if expected.classifies else ()
    return [*_shared(planned), "status", *LABELLED, *ERROR, *classes]


def _key_problems(table: pa.Table, planned: pa.Table) -> Iterator[str]:
    """Whether the rows are the shard's, each once and in order."""
    found, wanted = table["row"].to_pylist(), planned["row"].to_pylist()
    if found == wanted:
        return
    counts = Counter(found)
    missing = [row for row in wanted if row not in counts]
    double = [row for row, count in counts.items() if count > 1]
    foreign = sorted(set(counts) - set(wanted), key=str)
    for rows, what in ((missing, "missing"), (double, "there more than once"), (foreign, "not of this shard")):
        if rows:
            yield f"{what}: {_rows(len(rows), rows[0])}"
    if not (missing or double or foreign):
        yield "its rows are not in the plan's order"


def _input_problems(table: pa.Table, planned: pa.Table, strips_uris: bool) -> Iterator[str]:
    """Whether the URIs and the carried columns are the plan's; only rows that are in both at one place are compared."""
    for name in _shared(planned)[1:]:
        found, wanted = table[name].to_pylist(), planned[name].to_pylist()
        if name == "uri" and strips_uris:
            wanted = [strip_uri(uri) for uri in wanted]
        rows = zip(table["row"].to_pylist(), planned["row"].to_pylist(), found, wanted, strict=False)
        differ = [row for row, planned_row, here, there in rows if row == planned_row and _differ(here, there)]
        if differ:
            yield f"{name} is not the plan's: {_rows(len(differ), differ[0])}"


def _status_problems(table: pa.Table, footer: PartFooter, classifies: bool) -> Iterator[str]:
    import pyarrow.compute as pc

    ok, failed = pc.equal(table["status"], OK), pc.equal(table["status"], FAILED)
    neither = len(table) - _count(table, "status", OK) - _count(table, "status", FAILED)
    if neither:
        yield f"{neither:,} rows have a status other than ok and failed"
    if _count(table, "status", FAILED) != footer.failed:
        yield f"{_count(table, 'status', FAILED):,} rows have failed, and its footer says {footer.failed:,}"
    classified = CLASSIFIED if classifies else ()
    for names, rows, kind in (((*LABELLED, *classified), ok, "ok"), (ERROR, failed, "failed")):
        for name in names:
            yield from _rows_where(table, pc.and_(rows, pc.is_null(table[name])), f"{kind}, but without {name}")
    for names, rows, kind in ((ERROR, ok, "ok"), (classified, failed, "failed")):
        for name in names:
            yield from _rows_where(table, pc.and_(rows, pc.is_valid(table[name])), f"{kind}, but with {name}")
    if classifies:
        no_number = pc.invert(pc.is_finite(table["score"]))
        yield from _rows_where(table, pc.and_(ok, no_number), "ok, but with a score that is no number")


def _rows_where(table: pa.Table, mask: Any, what: str) -> Iterator[str]:
    rows = table["row"].filter(mask)
    if len(rows):
        yield f"{what}: {_rows(len(rows), rows[0].as_py())}"


def _rows(count: int, first: int) -> str:
    return f"row {first}" if count == 1 else f"{count:,} rows, the first of them {first}"


def _count(table: pa.Table, column: str, value: str) -> int:
    import pyarrow.compute as pc

    return pc.sum(pc.equal(table[column], value)).as_py() or 0


def one_line(error: BaseException) -> str:
    return mask_credentials(" ".join(str(error).split()))[:200]
