"""What would spoil a run, and what looks odd, in a sample that went through decoding and the model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.check.rescaling import Rescaling
from pipeline.check.trial import Trial
from pipeline.config import RunConfig
from pipeline.intervals import wilson
from transforms.records import FAILED, OK, Row

PROBLEM, DOUBT = "problem", "doubt"

ENOUGH = 20  # labelled images; fewer may well be of one kind
MANY_CLASSES = 20
NEARLY_ALL, MOST = 0.9, 0.5  # of the images
SATURATED = 0.9999  # a score
GUESSING = 5.0  # times 1 / classes
LOW = 0.1  # a median score
SAME = 1e-6  # outputs apart


@dataclass(frozen=True)
class Finding:
    """Something wrong.

    Attributes:
        severity: `problem`: would spoil a run; `doubt`: may be right.
        text: what is so.
        advice: what to do.
    """

    severity: str
    text: str
    advice: str = ""


def judge(
    trial: Trial,
    config: RunConfig,
    *,
    images: int,
    classes: int | None,
    labels: Sequence[str] | None,
    rescaling: Rescaling | None = None,
) -> list[Finding]:
    """Everything wrong with a trial, problems first.

    Args:
        images: of the whole input.
        classes: of the model, None where it gives embeddings only.
        labels: their names.
        rescaling: what the model itself does to its input.
    """
    found = [*_failures(trial.rows, config, images), *_outputs(trial, config), *_values(trial, config, rescaling)]
    labelled = [row for row in trial.rows if row.status == OK and row.classes is not None]
    if classes is not None and len(labelled) >= ENOUGH:
        found += _labels(labelled, config, classes, labels)
        found += _scores(labelled, config, classes)
    if classes is not None and labels is None:
        found.append(Finding(DOUBT, "model.labels is null: the output will have indices and no names"))
    return sorted(found, key=lambda finding: finding.severity != PROBLEM)


def readable(value: float) -> str:
    """Three digits, and no exponent for what is large."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _failures(rows: Sequence[Row], config: RunConfig, images: int) -> list[Finding]:
    failed = sum(1 for row in rows if row.status == FAILED)
    if not failed:
        return []
    if failed == len(rows):
        reason, count = Counter(row.error_type for row in rows).most_common(1)[0]
        return [Finding(PROBLEM, f"all {failed:,} images of the sample failed, {count:,} of them as {reason}")]
    budget = config.run.max_failed
    allowed = max(budget.at_least, int(budget.fraction * images))
    low, high = (bound * images for bound in wilson(failed, len(rows)))
    share = f"{failed / len(rows):.1%} of the sample failed"
    limit = f"run.max_failed allows {allowed:,} of {images:,}"
    if low > allowed:
        return [Finding(PROBLEM, f"{share}: a run would end early, {limit}", "mend the input or raise run.max_failed")]
    if high > allowed:
        return [Finding(DOUBT, f"{share}: a run may end early, {limit}", "check with more --images")]
    return []


def _outputs(trial: Trial, config: RunConfig) -> list[Finding]:
    found = []
    logits, given = trial.outputs.get("logits"), trial.outputs.get("probabilities")
    if logits is not None and len(logits) and config.model.activation != "none" and _in_unit(logits):
        if logits.shape[1] > 1 and np.allclose(logits.sum(axis=1), 1, atol=1e-3):
            text = "the model's outputs are probabilities already: each image's are from 0 to 1 and add up to 1"
            found.append(Finding(PROBLEM, f"{text}; {config.model.activation} spoils them", _as_probabilities(config)))
        elif logits.shape[1] >= MANY_CLASSES and len(logits) >= ENOUGH:
            text = "the model's outputs are all from 0 to 1, as probabilities of classes that may hold together are"
            found.append(Finding(DOUBT, f"{text}; {config.model.activation} spoils them", _as_probabilities(config)))
    if given is not None and len(given) and not _in_unit(given):
        text = f"model.outputs.probabilities are none: they go from {readable(given.min())} to {readable(given.max())}"
        advice = f"model: {{outputs: {{logits: {config.model.outputs['probabilities']}}}, activation: softmax}}"
        found.append(Finding(PROBLEM, text, advice))
    different = len({row.sha256 for row in trial.rows if row.status == OK})
    for values in (logits, given):
        if values is not None and min(len(values), different) > 1 and float(np.ptp(values, axis=0).max()) < SAME:
            text = f"the model says the same of {different:,} different images, to the last digit"
            advice = "scale, mean or std leave nothing of the pictures, or the model is broken"
            found.append(Finding(PROBLEM, text, advice))
    return found


def _in_unit(values: np.ndarray) -> bool:
    return bool(values.min() >= 0 and values.max() <= 1 + 1e-4)


def _as_probabilities(config: RunConfig) -> str:
    return f"model: {{outputs: {{probabilities: {config.model.outputs['logits']}}}, activation: none}}"


def _values(trial: Trial, config: RunConfig, rescaling: Rescaling | None) -> list[Finding]:
    """What a float32 model is given, against what it expects."""
    if config.image.dtype != "float32" or trial.fed is None:
        return []
    low, high = trial.fed
    given = f"from {readable(low)} to {readable(high)}"
    if rescaling is None:
        if high <= 100:
            return []
        text = f"the model is given values {given}, and few models take that without rescaling it themselves"
        return [Finding(DOUBT, text, "see the model's page; check --truth measures what is right")]
    itself = f"the model computes x * {rescaling.factor:.3g} {rescaling.offset:+.3g} first, as for values"
    plain = "image: {{scale: {}, mean: [0.0, 0.0, 0.0], std: [1.0, 1.0, 1.0]}}"
    if abs(rescaling.factor) < 0.02 and high - low < 20:
        text = f"{itself} from 0 to 255, and the config gives it values {given}"
        return [Finding(PROBLEM, text, plain.format("1.0"))]
    if 1.5 <= rescaling.factor <= 10 and high > 20:
        text = f"{itself} from 0 to 1, and the config gives it values {given}"
        return [Finding(PROBLEM, text, plain.format("255.0"))]
    return []


def _labels(labelled: Sequence[Row], config: RunConfig, classes: int, labels: Sequence[str] | None) -> list[Finding]:
    """Whether one label, or the background, is everywhere."""
    counts = Counter(int(row.classes[0]) for row in labelled if row.classes is not None)
    best, count = counts.most_common(1)[0]
    share = count / len(labelled)
    index = best - config.model.label_offset
    if index < 0:
        text = f"{share:.0%} of the images are background"
        return [Finding(DOUBT, text, "see model.label_offset")] if share >= 0.1 else []
    name = labels[index] if labels is not None and index < len(labels) else f"class {index}"
    text = f"{share:.0%} of the images got one label: {name}"
    advice = "unless they are all of that, the preprocessing is wrong, most likely scale, mean or std; see --truth"
    if share >= NEARLY_ALL:
        return [Finding(PROBLEM if classes >= MANY_CLASSES else DOUBT, text, advice)]
    return [Finding(DOUBT, text, advice)] if share >= MOST and classes >= MANY_CLASSES else []


def _scores(labelled: Sequence[Row], config: RunConfig, classes: int) -> list[Finding]:
    """Whether the best scores can be believed."""
    if "probabilities" not in config.model.outputs and config.model.activation == "none":
        return [Finding(DOUBT, "model.activation is none: the scores will be logits, not from 0 to 1")]
    scores = np.array([row.scores[0] for row in labelled if row.scores is not None])
    median, saturated = float(np.median(scores)), float((scores >= SATURATED).mean())
    if classes >= MANY_CLASSES and config.model.activation != "sigmoid":
        if median < GUESSING / classes:
            text = f"the scores are little better than guesses: {median:.2g} in the middle, of {classes:,} classes"
            return [Finding(PROBLEM, text, "model.activation or the preprocessing is wrong; see --truth")]
        if median < LOW:
            text = f"the scores are low: {median:.2g} in the middle"
            return [Finding(DOUBT, text, "other pictures than the model knows, or wrong preprocessing; see --truth")]
    if saturated >= MOST:
        text = f"{saturated:.0%} of the scores are {SATURATED} or more"
        return [Finding(DOUBT, text, "often from values that are too large; see scale, mean and std, and --truth")]
    return []
