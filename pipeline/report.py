"""`report.json`: what a finished run amounts to."""

from __future__ import annotations

import json
import time
from collections import Counter
from typing import Any

from pipeline.coverage import Coverage
from pipeline.errors import HublabelError
from pipeline.progress import LABELLING
from pipeline.record import RunRecord
from transforms.masking import mask_values
from transforms.parts import newest_parts, read_rows
from transforms.storage import Storage

NAME = "report.json"
AGREEMENT = "agreement.json"  # see `agreement`, which loads a model and so more than the launcher wants


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
        "errors": dict(errors.most_common()),
        "labels": dict(labels.most_common()),
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
    for number in range(len(record.plan.files)):
        for _, name in newest_parts(storage, number).values():
            table = read_rows(storage, name, ("error_stage", "error_type", "label", "label_index")).to_pydict()
            rows += len(table["error_stage"])
            for stage, kind in zip(table["error_stage"], table["error_type"], strict=True):
                if stage is not None:
                    errors[f"{stage}/{kind}"] += 1
            for label, index in zip(table.get("label", ()), table.get("label_index", ()), strict=True):
                if index is not None:
                    labels[str(index) if label is None else label] += 1
    if rows != record.plan.rows:
        raise HublabelError(
            f"{record.output}: parts have gone while the run went on: {rows:,} of {record.plan.rows:,} rows are there; "
            "run the same command again"
        )
    return errors, labels
