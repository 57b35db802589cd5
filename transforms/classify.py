"""From a batch of images to labelled rows: the pure functions, and the Beam step around them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

import apache_beam as beam
import numpy as np
from apache_beam.metrics import Metrics
from apache_beam.utils.shared import Shared

from transforms.errors import ImageError
from transforms.model import Classifier, ModelCallError, ModelSpec, load_classifier
from transforms.records import Columns, ImageBatch, LabelledBatch, Row


class BrokenModelError(RuntimeError):
    """The model fails on everything: the run must stop instead of failing every row."""


class Model(Protocol):
    """What `classify_images` needs of a model; see `model.Classifier`."""

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]: ...

    def blank(self) -> np.ndarray: ...


def activate(logits: np.ndarray, activation: str) -> np.ndarray:
    """Scores of `logits`.

    Args:
        logits: float [B, n].
        activation: `softmax`, `sigmoid` or `none`.

    Returns:
        float32 [B, n]; in [0, 1] unless `none`.
    """
    if activation == "softmax":
        shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
        return (shifted / shifted.sum(axis=1, keepdims=True)).astype(np.float32)
    if activation == "sigmoid":
        return (1.0 / (1.0 + np.exp(-np.clip(logits, -80, 80)))).astype(np.float32)
    return logits.astype(np.float32, copy=False)


def top_k(scores: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The `k` best classes of each image, by falling score, equal scores by rising class.

    Args:
        scores: float32 [B, n].
        k: more than n gives n.

    Returns:
        classes int64 [B, min(k, n)] and their scores float32 of the same shape.
    """
    k = min(k, scores.shape[1])
    edge = np.partition(scores, -k, axis=1)[:, -k, None]
    # Only candidates are sorted, and ties at the edge are settled by class, not by chance.
    ranked = np.where(scores >= edge, -scores, np.inf)
    classes = np.argsort(ranked, axis=1, kind="stable")[:, :k]
    return classes, np.take_along_axis(scores, classes, axis=1)


def classify_images(
    model: Model, images: np.ndarray, count: int
) -> tuple[dict[str, np.ndarray], dict[int, ImageError]]:
    """Outputs of the first `count` images, bisecting a batch the model fails on down to the guilty images.

    Args:
        model: called with the whole batch shape each time.
        images: [B, H, W, 3]; slots from `count` on are padding.
        count: at least 1.

    Returns:
        Outputs by name, float32 [count, n] (zeros for failed images), and the errors by slot.

    Raises:
        ModelCallError: the model fails even on a blank batch.
    """
    outputs: dict[str, np.ndarray] = {}
    errors: dict[int, ImageError] = {}
    pending = [(0, count)]
    while pending:
        start, stop = pending.pop()
        try:
            found = model(_padded(images, start, stop, count))
        except ModelCallError as error:
            if stop - start > 1:
                middle = (start + stop) // 2
                pending += [(start, middle), (middle, stop)]
                continue
            if error.exhausted:
                raise
            errors[start] = ImageError("model", "model_error", str(error))
            continue
        for name, output in found.items():
            outputs.setdefault(name, np.zeros((count, output.shape[1]), np.float32))
            outputs[name][start:stop] = output[: stop - start]
    if len(errors) == count:
        model(model.blank())  # raises when it is the model, not the images
    for name, output in outputs.items():
        for slot in np.flatnonzero(~np.isfinite(output).all(axis=1)).tolist():
            errors.setdefault(slot, ImageError("model", "non_finite", f"the model's {name} are NaN or infinite"))
    return outputs, errors


def _padded(images: np.ndarray, start: int, stop: int, count: int) -> np.ndarray:
    if stop - start == count:
        return images
    part = np.zeros_like(images)
    part[: stop - start] = images[start:stop]
    return part


@dataclass
class ClassifyImages(beam.PTransform):
    """Labels each image of each batch.

    Attributes:
        model: how to load and call it.
        activation: applied to logits, see `activate`.
        columns: which results the rows keep.
        proven: whether the model is known to label images: then it is not taken for broken, whatever it fails on.
    """

    model: ModelSpec
    activation: str
    columns: Columns = field(default_factory=Columns)
    proven: bool = False

    def expand(self, batches: beam.PCollection) -> beam.PCollection:
        step = _ClassifyImages(self.model, self.activation, self.columns, self.proven)
        return batches | "Classify" >> beam.ParDo(step).with_output_types(LabelledBatch)


class _ClassifyImages(beam.DoFn):
    def __init__(self, model: ModelSpec, activation: str, columns: Columns, proven: bool = False) -> None:
        self._spec, self._activation, self._columns = model, activation, columns
        self._shared = Shared()
        self._batches = Metrics.counter("hublabel.ClassifyImages", "batches")
        self._labelled = Metrics.counter("hublabel.ClassifyImages", "images_labelled")
        self._milliseconds = Metrics.distribution("hublabel.ClassifyImages", "batch_milliseconds")
        self._any_labelled = proven

    def setup(self) -> None:
        self._classifier: Classifier = self._shared.acquire(lambda: load_classifier(self._spec))

    def process(self, batch: ImageBatch) -> Iterator[LabelledBatch]:
        began = time.perf_counter()
        if batch.images is not None:
            self._label(batch.images, batch.rows, again=batch.shard.positions is not None)
            self._batches.inc()
            self._milliseconds.update(int(1000 * (time.perf_counter() - began)))
        seconds = {**batch.seconds, "model": time.perf_counter() - began}
        yield LabelledBatch(batch.shard, batch.rows + batch.finished, seconds)

    def _label(self, images: np.ndarray, rows: list[Row], again: bool) -> None:
        try:
            outputs, errors = classify_images(self._classifier, images, len(rows))
        except ModelCallError as error:
            raise BrokenModelError(f"the model fails on every image, even a blank one: {error}") from error
        if len(errors) == len(rows) > 1 and not self._any_labelled and not again:
            # One bad image is the image's fault; a whole first batch is the model's, or the preprocessing's.
            # But when failed rows are tried again, a batch of nothing else is to be expected.
            first = errors[min(errors)]
            raise BrokenModelError(f"the model fails on every image: {first.message}")
        fill_rows(rows, outputs, errors, self._activation, self._columns)
        self._labelled.inc(len(rows) - len(errors))
        self._any_labelled = self._any_labelled or len(errors) < len(rows)


def fill_rows(
    rows: list[Row], outputs: dict[str, np.ndarray], errors: dict[int, ImageError], activation: str, columns: Columns
) -> None:
    """Write what the model said of each image into its row: the `k` best classes, logits, embedding, or the error."""
    classes = scores = None
    if columns.top_k and outputs:
        with np.errstate(invalid="ignore"):  # what is not finite is among the errors already
            known = outputs["probabilities"] if "probabilities" in outputs else activate(outputs["logits"], activation)
        classes, scores = top_k(known, columns.top_k)
    for slot, row in enumerate(rows):
        if slot in errors:
            row.fail(errors[slot])
            continue
        if classes is not None and scores is not None:
            row.classes, row.scores = classes[slot], scores[slot]
        if columns.logits:
            row.logits = outputs["logits"][slot]
        if columns.embedding:
            row.embedding = outputs["embedding"][slot]
