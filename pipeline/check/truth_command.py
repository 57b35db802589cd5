"""The command `hublabel check CONFIG --truth FILE`: labelled images under the likely preprocessings."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline.check.command import import_quietly
from pipeline.console import plain_console
from pipeline.errors import UsageError
from transforms.masking import mask_credentials

if TYPE_CHECKING:
    import numpy as np

    from pipeline.check.measure import Bench
    from pipeline.check.search import Found
    from pipeline.check.truth_summary import TruthSummary
    from pipeline.config import RunConfig
    from pipeline.console import Voice
    from transforms.model import Classifier
    from transforms.records import Row

IMAGES = 500  # at most, unless told otherwise


def check_truth_command(
    path: str,
    overrides: Sequence[str],
    truth: str,
    column: str | None = None,
    images: int = IMAGES,
    as_json: bool = False,
) -> int:
    """Measure which preprocessing is right for the model of the config at `path`, and say what to change.

    Args:
        overrides: `--set`.
        truth: what `labelled.truth_of` reads.
        column: of the truth; None for the usual names.
        images: of the truth, at most.
        as_json: print one JSON object instead of a text.

    Returns:
        0 when nothing is shown to be better than the config, else 1.

    Raises:
        UsageError: the config or the truth does not fit what it names.
        HublabelError: the model cannot be fetched or fails.
    """
    console = plain_console(stderr=True)
    console.print(f"hublabel: checking {path} against {truth}")

    from pipeline.config import load_config

    config = load_config(path, overrides)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    summary = check_truth(path, config, truth, column, images, console)
    if as_json:
        text = json.dumps(summary.values(), indent=2, ensure_ascii=False)
        sys.stdout.write(mask_credentials(text) + "\n")
    else:
        summary.print(plain_console())
    return 0 if summary.passed else 1


def check_truth(
    path: str, config: RunConfig, truth_path: str, column: str | None, images: int, console: Voice
) -> TruthSummary:
    """Read the truth, load the model, measure and search; see `check_truth_command`."""
    from pipeline.arrow import forgo_pandas
    from pipeline.check.labelled import labelled_images, truth_of
    from pipeline.labels import load_labels
    from pipeline.reading import check_readable
    from pipeline.resolve import resolve_model
    from pipeline.versions import pinned_libraries, versions

    if not config.model.classifies:
        raise UsageError("--truth: the model gives embeddings only, which are neither right nor wrong")
    pinned_libraries(config.model.engine)  # raises when the engine is not installed
    forgo_pandas()
    labels = load_labels(config.model.labels) if config.model.labels else None
    truth = truth_of(truth_path, config, labels, column)
    rows, classes = labelled_images(truth, config, images)
    check_readable((row.uri for row in rows), "--truth")
    model = resolve_model(config.model.handle, config.model.sha256, console)
    console.print("loading the model ...")
    import_quietly()
    from pipeline.check.guarded import fail_killers
    from pipeline.check.truth_summary import TruthSummary
    from pipeline.loading import model_spec
    from pipeline.record import hash_folder
    from transforms.model import ModelError, load_classifier

    try:
        classifier = load_classifier(model_spec(config, model, hash_folder(model)))
    except ModelError as error:
        raise UsageError(str(error)) from None
    fail_killers(rows, config, model, console)
    bench = _bench(config, rows, classes, classifier, console)
    found = _searched(bench, config, console)
    classes_known = classifier.lengths[bench.kind]
    problem = _labels_problem(labels, classes_known, config)
    return TruthSummary(path, truth_path, truth, rows, bench, found, classes_known, labels, problem, versions())


def _labels_problem(labels: list[str] | None, classes: int, config: RunConfig) -> str:
    """Why a run would refuse the labels; not refused here, since what is measured may tell the right offset."""
    from pipeline.labels import check_label_count

    try:
        if labels is not None:
            check_label_count(labels, classes, config.model.label_offset, config.model.labels or "")
    except UsageError as error:
        return str(error)
    return ""


def _bench(
    config: RunConfig, rows: list[Row], classes: np.ndarray, classifier: Classifier, console: Voice
) -> Bench:  # fmt: skip
    """The pictures that can be decoded, and the model."""
    from pipeline.check.measure import Bench, open_pictures
    from pipeline.check.progress import Progress
    from pipeline.reading import reader

    with Progress(console, "reading and decoding", len(rows)) as progress:
        opened = open_pictures(rows, config.preprocessing(), reader(config), progress.update)
    there = [index for index, picture in enumerate(opened) if picture is not None]
    if not there:
        raise UsageError(
            f"--truth: none of the {len(rows):,} images can be used; {rows[0].uri}: {rows[0].error_message}"
        )
    offset = config.model.label_offset
    kind = "probabilities" if "probabilities" in config.model.outputs else "logits"
    pictures = [picture for picture in opened if picture is not None]
    return Bench(pictures, classes[there], (offset - 1, offset, offset + 1), classifier, kind)


def _searched(bench: Bench, config: RunConfig, console: Voice) -> Found:
    from pipeline.check.progress import Progress
    from pipeline.check.search import comparisons, search
    from pipeline.check.settings import configured_setting

    configured = configured_setting(config)
    measured = 0
    with Progress(console, f"measuring on {len(bench):,} images", comparisons(configured)) as progress:

        def begin(name: str) -> None:
            nonlocal measured
            progress.update(measured, name)
            measured += 1

        return search(bench, configured, begin)
