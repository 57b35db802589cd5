"""`report.json`: what a finished run amounts to."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from pipeline.coverage import Coverage
from pipeline.errors import HublabelError
from pipeline.progress import LABELLING
from pipeline.query import part_names
from pipeline.record import RunRecord
from transforms.masking import mask_values
from transforms.parts import read_parts, read_rows
from transforms.storage import Storage

if TYPE_CHECKING:
    import pyarrow as pa

NAME = "report.json"
AGREEMENT = "agreement.json"  # see `agreement`, which loads a model and so more than the launcher wants
COUNTED = ("error_stage", "error_type", "label", "label_index")
ROWS_AT_ONCE = 100_000  # that are counted: a few MB


def write_report(
    storage: Storage, record: RunRecord, coverage: Coverage, images: int, seconds: dict[str, float]
) -> None:
    """Write report.json, reading one part's columns at a time.

    Args:
        images: images of the last call of the run.
        seconds: its wall time for them, by phase.
    """
    report = make_report(storage, record, coverage, images, seconds)
    storage.replace(NAME, (json.dumps(report, indent=2, ensure_ascii=False) + "\n").encode())


def make_report(
    storage: Storage, record: RunRecord, coverage: Coverage, images: int, seconds: dict[str, float]
) -> dict[str, Any]:
    """Counts by status and error type, the label histogram, rate, seconds by phase, versions and fingerprints."""
    errors, labels = _count(storage, record)
    return {
        "images": coverage.rows,
        "status": {"ok": coverage.rows - coverage.failed, "failed": coverage.failed},
        "errors": _falling(errors),
        "labels": _falling(labels),
        "last_session": {
            "images": images,
            "seconds": round(sum(seconds.values()), 3),
            "phase_seconds": {phase: round(spent, 3) for phase, spent in seconds.items()},
            "images_per_second": round(images / seconds[LABELLING], 3) if seconds.get(LABELLING) else None,
        },
        "thread_seconds": {stage: round(spent, 3) for stage, spent in sorted(coverage.seconds.items())},
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "plan": {"rows": record.plan.rows, "shards": record.plan.shards, "left_out": record.plan.left_out},
        "fingerprints": {"run": record.fingerprint, "plan": record.plan.fingerprint, "pins": _masked_pins(record)},
        "versions": record.versions,
        "precision": _agreement(storage),
        "config": masked_config(record),
    }


def _agreement(storage: Storage) -> dict[str, Any] | None:
    """How far the run's precision agrees with float32; None where it is float32."""
    try:
        return json.loads(storage.read(AGREEMENT))
    except FileNotFoundError:
        return None


def masked_config(record: RunRecord) -> dict[str, Any]:
    """The resolved config as people may see it. `model.signature` sounds like a secret, and is none."""
    masked = mask_values(record.config)
    signature = record.config.get("model", {}).get("signature")
    return {**masked, "model": {**masked["model"], "signature": signature}} if signature else masked


def _masked_pins(record: RunRecord) -> dict[str, Any]:
    signature = {name: value for name, value in record.pins.items() if name == "model.signature"}
    return {**mask_values(record.pins), **signature}


def _count(storage: Storage, record: RunRecord) -> tuple[Counter[str], Counter[str]]:
    """Failed images by `stage/type`, labelled images by label (by index where there are no labels).

    Raises:
        HublabelError: a part that was there is not there any more.
        DamagedPartError: the rows of a part cannot be read.
    """
    errors: Counter[str] = Counter()
    labels: Counter[str] = Counter()
    rows = 0
    names = part_names(storage, record)
    columns = read_rows(storage, names[0], COUNTED).column_names if names else []  # all parts have the same
    texts = [column for column in columns if column != "label_index"]
    for group in _groups(read_parts(storage, names, columns, texts)):
        rows += group["count_all"]
        if group["error_stage"] is not None:
            errors[f"{group['error_stage']}/{group['error_type']}"] += group["count_all"]
        index = group.get("label_index")
        if index is not None:
            label = group["label"]
            labels[str(index) if label is None else label] += group["count_all"]
    if rows != record.plan.rows:
        raise HublabelError(
            f"{record.output}: parts have gone while the run went on: {rows:,} of {record.plan.rows:,} rows are there; "
            "run the same command again"
        )
    return errors, labels


def _groups(tables: Iterable[pa.Table]) -> Iterator[dict[str, Any]]:
    """The different rows of many tables, with how often each occurs (`count_all`), one lot of tables after another."""
    lot: list[pa.Table] = []
    rows = 0
    for table in tables:
        lot.append(table)
        rows += len(table)
        if rows >= ROWS_AT_ONCE:
            yield from _grouped(lot)
            lot, rows = [], 0
    if lot:
        yield from _grouped(lot)


def _grouped(lot: Sequence[pa.Table]) -> list[dict[str, Any]]:
    import pyarrow as pa

    table = pa.concat_tables([part.replace_schema_metadata() for part in lot]).unify_dictionaries()
    return table.group_by(table.column_names, use_threads=False).aggregate([([], "count_all")]).to_pylist()


def _falling(counts: Counter[str]) -> dict[str, int]:
    """By falling count, equals by name."""
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
