"""`hublabel evaluate OUT --truth FILE`: how good the labels of a run are."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.config import RunConfig, config_from_resolved
from pipeline.console import plain_console
from pipeline.errors import HublabelError, UsageError
from pipeline.evaluation.judged import Judged, judged
from pipeline.evaluation.measures import Evaluation, evaluate
from pipeline.evaluation.names import ClassNames
from pipeline.evaluation.text import print_evaluation
from pipeline.evaluation.values import plain_values
from pipeline.labels import load_labels
from pipeline.query import open_output, rows_of
from pipeline.record import NAME as RECORD
from pipeline.record import RunRecord
from transforms.masking import mask_values
from transforms.storage import Storage

if TYPE_CHECKING:
    from collections.abc import Sequence

MISTAKES = 24  # the most confident ones, unless told otherwise
SHOWN_COLUMNS = ("uri", "label", "label_index", "score", "top_k")


def evaluate_command(
    output: str,
    truth: str | None,
    column: str | None,
    as_json: bool = False,
    html: str | None = None,
    overrides: dict[str, Any] | None = None,
) -> int:
    """Compare the predictions of the run in `output` with the truth, and print or write what comes of it.

    Args:
        truth, column: as `judged` takes them.
        as_json: print one JSON object instead of a text.
        html: write a page there as well.
        overrides: keys of the config's `report` section, for the page.

    Raises:
        UsageError: there is no run, or the truth does not fit it.
        HublabelError: the page cannot be written.
    """
    if truth is None and column is None:
        raise UsageError(
            "evaluate: give --truth FILE, --truth folders, or --column NAME of a column carried from the input"
        )
    storage, record = open_output(output)
    values = {**record.config, "report": {**record.config.get("report", {}), **(overrides or {})}}
    config = config_from_resolved(values, f"{storage.root}/{RECORD}")
    names = ClassNames(_labels(config))
    with judged(storage, record, truth, column, names.labels) as found:
        evaluation = evaluate(found, config.output.top_k, _mistakes(config, html))
    rows = rows_of(storage, record, [mistake.row for mistake in evaluation.mistakes], SHOWN_COLUMNS)
    names.learn(rows.values())
    if html is not None:
        _write_page(html, storage, record, config, found, evaluation, names, rows)
    if as_json:
        plain = mask_values(plain_values(found, evaluation, names, rows))
        sys.stdout.write(json.dumps(plain, indent=2, ensure_ascii=False) + "\n")
    else:
        print_evaluation(plain_console(), found, evaluation, names, rows)
        if html is not None:
            plain_console().print(f"page: {html}")
    return 0


def _mistakes(config: RunConfig, html: str | None) -> int:
    return max(MISTAKES, config.report.thumbnails) if html is not None else MISTAKES


def _labels(config: RunConfig) -> Sequence[str] | None:
    """The names of the classes; None without, or when the file has gone: indices still compare."""
    try:
        return load_labels(config.model.labels) if config.model.labels else None
    except UsageError:
        return None


def _write_page(
    path: str, storage: Storage, record: RunRecord, config: RunConfig, found: Judged, evaluation: Evaluation,
    names: ClassNames, rows: dict[int, Any],
) -> None:  # fmt: skip
    from pipeline.evaluation.page import make_page

    page = make_page(storage, record, config, found, evaluation, names, rows)
    try:
        Path(path).write_text(page, encoding="utf-8")
    except OSError as error:
        raise HublabelError(f"--html: {path} cannot be written: {error.strerror}") from None
