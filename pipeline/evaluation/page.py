"""An evaluation as a page to look at."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any

from pipeline.config import RunConfig
from pipeline.evaluation.judged import Judged
from pipeline.evaluation.measures import Evaluation, Kept
from pipeline.evaluation.names import ClassNames
from pipeline.evaluation.text import about, share
from pipeline.html import plots
from pipeline.html.page import render
from pipeline.html.sheet import make_cards, thumbnails
from pipeline.record import RunRecord
from transforms.storage import Storage

CLASS_BINS = 10
CLASS_ROWS = 1000
CURVE_POINTS = 200
MISTAKES = 24  # where no thumbnails are wanted


def make_page(
    storage: Storage, record: RunRecord, config: RunConfig, judged: Judged, evaluation: Evaluation,
    names: ClassNames, rows: Mapping[int, Mapping[str, Any]],
) -> str:  # fmt: skip
    """The evaluation as HTML.

    Args:
        rows: of the mistakes, by number, with `uri`, `label`, `label_index`, `score`, `top_k`.
    """
    mistakes = [mistake.row for mistake in evaluation.mistakes][: config.report.thumbnails or MISTAKES]
    pictures = thumbnails(rows, mistakes, config)
    why = next((picture.why for picture in pictures.values()), "")
    return render(
        "evaluation.html",
        _plots(evaluation),
        name=os.path.basename(storage.root.rstrip("/")) or storage.root,
        output=storage.root,
        model=config.model.handle,
        about=about(judged, evaluation),
        evaluation=evaluation,
        share=share,
        names=names,
        thresholds=evaluation.thresholds(),
        class_rows=CLASS_ROWS,
        mistakes=make_cards(rows, mistakes, pictures, {m.row: names[m.truth] for m in evaluation.mistakes}),
        pictures=any(picture.data for picture in pictures.values()),
        why_no_pictures=f"Without pictures: {why}.",
        fingerprint=record.fingerprint,
        written=time.strftime("%Y-%m-%d %H:%M %Z"),
    )


def _plots(evaluation: Evaluation) -> dict[str, plots.Spec]:
    counts = [0] * CLASS_BINS
    for of in evaluation.classes:
        counts[min(int(of.recall.value * CLASS_BINS), CLASS_BINS - 1)] += 1
    edges = [(number / CLASS_BINS, (number + 1) / CLASS_BINS, count) for number, count in enumerate(counts) if count]
    options = {"format": ".0%", "domain": (0, 1), "counted": "classes"}
    found = {"classes": plots.histogram("Classes by accuracy", edges, "accuracy", **options)}
    if evaluation.calibration is not None:
        labelled = evaluation.images - evaluation.failed
        bins = [
            (bin.confidence, bin.accuracy.value, *bin.accuracy.interval, bin.images / labelled, bin.images)
            for bin in evaluation.calibration.bins
        ]
        found["reliability"] = plots.reliability("Accuracy by score", bins)
    if evaluation.curve:
        points = [
            (kept.threshold, kept.coverage, kept.accuracy.value, *kept.accuracy.interval)
            for kept in _thinned(evaluation.curve)
        ]
        found["coverage"] = plots.coverage("Accuracy of what a threshold keeps", points)
    return found


def _thinned(curve: list[Kept]) -> list[Kept]:
    """At most `CURVE_POINTS` of the points, the first and the last among them."""
    if len(curve) <= CURVE_POINTS:
        return curve
    last = len(curve) - 1
    return [curve[round(number * last / (CURVE_POINTS - 1))] for number in range(CURVE_POINTS)]
