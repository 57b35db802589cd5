"""An evaluation as plain values, for `--json`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.evaluation.judged import Judged
from pipeline.evaluation.measures import Evaluation, Kept, Share
from pipeline.evaluation.names import ClassNames


def plain_values(
    judged: Judged, evaluation: Evaluation, names: ClassNames, rows: Mapping[int, Mapping[str, Any]]
) -> dict[str, Any]:
    """Everything measured; proportions as `count`, `of`, `value` and `interval` (95 %)."""
    calibration = evaluation.calibration
    return {
        "truth": {
            "source": judged.source, "kind": judged.kind, "found_by": judged.by, "left_out": judged.left_out,
            "images_without_truth": judged.unknown, "truths_without_image": judged.unused,
        },
        "images": evaluation.images,
        "failed": evaluation.failed,
        "top_1": _share(evaluation.top_1),
        "top_1_of_labelled": _share(evaluation.top_1_of_labelled),
        f"top_{evaluation.k}": _share(evaluation.top_k),
        "classes": [
            {
                "label_index": of.index, "label": names[of.index], "images": of.images, "failed": of.failed,
                "accuracy": _share(of.recall), f"in_top_{evaluation.k}": of.in_top, "precision": _share(of.precision),
            }
            for of in evaluation.classes
        ],
        "confusions": [
            {"truth": names[c.truth], "truth_index": c.truth, "guess": names[c.guess], "guess_index": c.guess,
             "images": c.images}
            for c in evaluation.confusions
        ],
        "calibration": calibration
        and {
            "expected_calibration_error": calibration.error,
            "bins": [
                {"start": bin.start, "end": bin.end, "images": bin.images, "mean_score": bin.confidence,
                 "accuracy": _share(bin.accuracy)}
                for bin in calibration.bins
            ],
        },
        "thresholds": [
            {"accuracy": target, "threshold": None if kept is None else _kept(kept)}
            for target, kept in evaluation.thresholds()
        ],
        "curve": [_kept(kept) for kept in evaluation.curve],
        "mistakes": [
            {"row": m.row, "uri": rows[m.row]["uri"] if m.row in rows else None, "truth": names[m.truth],
             "truth_index": m.truth, "guess": names[m.guess], "guess_index": m.guess, "score": m.score}
            for m in evaluation.mistakes
        ],
    }  # fmt: skip


def _share(share: Share) -> dict[str, Any]:
    return {"count": share.count, "of": share.of, "value": share.value, "interval": list(share.interval)}


def _kept(kept: Kept) -> dict[str, Any]:
    return {"score": kept.threshold, "coverage": kept.coverage, "accuracy": _share(kept.accuracy)}
