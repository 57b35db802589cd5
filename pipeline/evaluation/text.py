"""An evaluation for people, on a terminal."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.evaluation.judged import Judged
from pipeline.evaluation.measures import Evaluation, OfClass, Share
from pipeline.evaluation.names import ClassNames
from transforms.masking import mask_credentials, strip_uri

FEW = 10  # rows of each table


def print_evaluation(
    console: Console, judged: Judged, evaluation: Evaluation, names: ClassNames, rows: Mapping[int, Mapping[str, Any]]
) -> None:
    """The figures, then what to look at."""
    for line in about(judged, evaluation):
        console.print(line)
    console.print()
    _accuracy(console, evaluation)
    _thresholds(console, evaluation)
    worst = [
        (names.short(of.index), f"{of.right:,}", f"{of.images:,}", share(of.recall), taken_for(evaluation, of, names))
        for of in evaluation.worst_classes[:FEW]
    ]
    _table(console, "classes with the lowest accuracy", ("class", "right", "of", "accuracy", "taken for"), worst)
    pairs = [(names.short(c.truth), names.short(c.guess), f"{c.images:,}") for c in evaluation.confusions[:FEW]]
    _table(console, "most frequent confusions", ("is", "taken for", "images"), pairs)
    mistakes = [
        (_name(rows, mistake.row), names.short(mistake.truth), names.short(mistake.guess), f"{mistake.score:.3f}")
        for mistake in evaluation.mistakes[:FEW]
    ]
    _table(console, "most confident mistakes", ("image", "is", "taken for", "score"), mistakes)


def about(judged: Judged, evaluation: Evaluation) -> list[str]:
    """Which images are compared with what, and what is not."""
    lines = [f"{evaluation.images:,} images with a truth by {judged.kind}, from {judged.source}"]
    if judged.by == "file name":
        lines.append("no URI is the same on both sides: images were found by file names that stand there once")
    if judged.unknown:
        lines.append(f"{judged.unknown:,} of the output's {judged.images:,} images have no truth, and do not count")
    if judged.unused:
        lines.append(f"{judged.unused:,} images of the truth are not in the output, and do not count")
    for reason, count in judged.left_out.items():
        lines.append(f"{count:,} entries of the truth left out: {reason}")
    if evaluation.failed:
        lines.append(f"{evaluation.failed:,} images failed, and count as wrong")
    return lines


def share(value: Share) -> str:
    """`87.5 % (85.3 to 89.4)`; a dash of nothing."""
    if not value.of:
        return "–"
    low, high = value.interval
    return f"{100 * value.value:.1f} % ({100 * low:.1f} to {100 * high:.1f})"


def taken_for(evaluation: Evaluation, of: OfClass, names: ClassNames) -> str:
    """`lynx 3, tiger_cat 1`: what images of a class are wrongly labelled as."""
    guesses = [(names.short(c.guess), c.images) for c in evaluation.taken_for.get(of.index, ())]
    told = [f"{name} {images:,}" for name, images in guesses]
    return ", ".join([*told, f"failed {of.failed:,}"] if of.failed else told)


def _accuracy(console: Console, evaluation: Evaluation) -> None:
    figures = [("top-1", share(evaluation.top_1))]
    if evaluation.k > 1:
        figures.append((f"top-{evaluation.k}", share(evaluation.top_k)))
    if evaluation.failed:
        figures.append(("top-1 of the labelled", share(evaluation.top_1_of_labelled)))
    if evaluation.calibration is not None:
        figures.append(("calibration error (ECE)", f"{evaluation.calibration.error:.3f}"))
    table = Table(box=None, pad_edge=False, show_header=False)
    for what, value in figures:
        table.add_row(what, Text(value))
    console.print(table)
    console.print("in brackets: 95 % intervals (Wilson)", style="dim")


def _thresholds(console: Console, evaluation: Evaluation) -> None:
    rows = []
    for target, kept in evaluation.thresholds():
        if kept is None:
            rows.append((f"{target:.0%}", "none", "", ""))
        else:
            rows.append(
                (f"{target:.0%}", f"{kept.threshold:.3f}", f"{100 * kept.coverage:.1f} %", share(kept.accuracy))
            )
    _table(console, "to be right as often as", ("accuracy", "keep scores from", "coverage", "right of those"), rows)


def _table(console: Console, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    if not rows:
        return
    table = Table(box=None, pad_edge=False)
    for name in columns:
        table.add_column(
            name, overflow="fold", justify="right" if name in ("right", "of", "images", "score") else "left"
        )
    for row in rows:
        table.add_row(*map(Text, row))
    console.print()
    console.print(title, style="bold")
    console.print(table, soft_wrap=False)


def _name(rows: Mapping[int, Mapping[str, Any]], row: int) -> str:
    return mask_credentials(os.path.basename(strip_uri(rows[row]["uri"]))) if row in rows else f"row {row}"
