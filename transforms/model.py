"""A SavedModel as a plain function from images to named outputs."""

from __future__ import annotations

import logging
import threading
from dataclasses import replace
from typing import Any

import numpy as np

from transforms.engines.agreement import Comparison, remembered
from transforms.engines.engine import Call, Engine, ModelCallError, ModelError, ModelSpec, Outputs
from transforms.model_source import ModelSourceError, local_model
from transforms.pools import processors

__all__ = ["Classifier", "ModelCallError", "ModelError", "ModelSpec", "load_classifier"]

PIECE = 8  # images a processor in one call, at least 16 in all; see `_piece`
_log = logging.getLogger(__name__)


class Classifier:
    """A loaded model, called with one fixed shape under one lock.

    The shape is a batch, or an equal part of it, see `_piece`.

    Attributes:
        lengths: classes or features of each output, such as `{"logits": 1000}`.
    """

    def __init__(self, spec: ModelSpec) -> None:
        self.spec = spec
        self._engine = _engine(spec)
        self._calls: dict[int, Call] = {}
        self._lock = threading.Lock()
        self._under_way = threading.BoundedSemaphore(2)  # batches: one is computed, the next is copied to the GPU
        self._comparison: Comparison | None = None
        self._limit = spec.batch_size if self._engine.whole_batches else _piece(spec.batch_size)
        try:
            self.lengths = self._try()
        except ModelError:
            if self._limit >= spec.batch_size:
                raise
            self._limit = spec.batch_size  # the model may take batches of that one size
            self.lengths = self._try()
        self._comparison = _comparison(spec, self._engine)

    @property
    def piece(self) -> int:
        """Images in one call of the model."""
        return self._limit

    def _try(self) -> dict[str, int]:
        """Classes or features of each output, found by calling the model."""
        blank = self.blank()[: self._limit]
        try:
            return {name: output.shape[1] for name, output in self(blank).items()}
        except ModelCallError as error:
            raise ModelError(f"the model fails on {self.spec.dtype} {list(blank.shape)} of zeros: {error}") from error

    def blank(self) -> np.ndarray:
        """A batch of zeros, which any working model takes."""
        return np.zeros((self.spec.batch_size, *self.spec.image_shape), self.spec.dtype)

    def __call__(self, images: np.ndarray) -> Outputs:
        """Outputs for one batch.

        When memory runs out the batch is halved, and stays so for the process.

        Args:
            images: [B, *image_shape] of the spec's dtype, B at most batch_size.

        Returns:
            For each of the spec's outputs float32 [B, n].

        Raises:
            ModelCallError: the model failed on this batch.
            ModelError: on the first batch, another engine's outputs are not TensorFlow's.
        """
        with self._under_way:
            given = self._engine.ahead(images)
            with self._lock:  # one call uses all processors; two at a time only take each other's caches and memory
                outputs = self._in_ever_smaller_pieces(given)
                if self._comparison is not None:
                    self._compare(self._comparison, images)
                return outputs

    def _in_ever_smaller_pieces(self, images: Any) -> Outputs:
        while True:
            try:
                return self._in_pieces(images)
            except ModelCallError as error:
                if not error.exhausted or self._limit == 1:
                    raise
                self._limit = (self._limit + 1) // 2

    def _in_pieces(self, images: Any) -> Outputs:
        if self._limit not in self._calls:
            self._calls = {self._limit: self._engine.compile(self._limit)}
        call = self._calls[self._limit]
        pieces: dict[str, list[np.ndarray]] = {}
        for start in range(0, len(images), self._limit):
            piece = images[start : start + self._limit]
            for name, output in call(_filled(piece, self._limit)).items():
                if output.shape[:1] != (self._limit,):
                    wrong = f"its shape is {list(output.shape)} for {self._limit} images"
                    raise ModelError(f"model.outputs.{name}: {wrong}; it must have a row for each")
                pieces.setdefault(name, []).append(output.reshape(self._limit, -1)[: len(piece)])
        return {name: np.concatenate(outputs) if len(outputs) > 1 else outputs[0] for name, outputs in pieces.items()}

    def _compare(self, comparison: Comparison, images: np.ndarray) -> None:
        batches = [comparison.synthetic(self._limit), _filled(images[: self._limit], self._limit)]
        comparison.check(batches, [self._in_pieces(batch) for batch in batches])
        self._comparison = None


def _filled(images: Any, count: int) -> Any:
    """`images` with blank ones behind them, `count` in all."""
    if len(images) == count:
        return images
    images = np.asarray(images)  # it may be on a GPU
    return np.concatenate([images, np.zeros((count - len(images), *images.shape[1:]), images.dtype)])


def _engine(spec: ModelSpec) -> Engine:
    if spec.engine == "openvino":
        from transforms.engines.openvino import OpenVINOEngine

        return OpenVINOEngine(spec)
    from transforms.engines.tensorflow import TensorFlowEngine

    return TensorFlowEngine(spec)


def _comparison(spec: ModelSpec, engine: Engine) -> Comparison | None:
    """The comparison that is due with the first batch, if any."""
    if spec.engine == "tensorflow" or spec.precision != "float32":  # what is not exact is not held to be
        return None
    before = remembered(spec, engine.title)
    if before is not None:
        _log.info("%s (compared by an earlier run)", before)
        return None
    from transforms.engines.reference import Reference

    return Comparison(spec, engine.title, Reference(spec))


def _piece(batch_size: int) -> int:
    """Images in one call of the model on processors.

    A few at a time, so that what passes between the layers stays in their caches and little memory is needed; too few,
    and the processors wait for each other after every layer (`python -m benchmarks.model_calls`).
    """
    pieces = -(-batch_size // max(16, PIECE * processors()))
    return -(-batch_size // pieces)


_loaded: dict[ModelSpec, Classifier] = {}
_loading = threading.Lock()


def load_classifier(spec: ModelSpec) -> Classifier:
    """The classifier of `spec`, loaded once a process and kept (Beam tears down idle DoFns after a minute).

    Raises:
        ModelError: the directory holds no SavedModel, or it has no such signature, input or output, or other shapes.
    """
    with _loading:
        if spec not in _loaded:
            _loaded.clear()  # a process works for one run at a time
            _loaded[spec] = Classifier(_here(spec))
        return _loaded[spec]


def _here(spec: ModelSpec) -> ModelSpec:
    """`spec` with the files on this machine."""
    if spec.source is None:
        return spec
    try:
        return replace(spec, path=local_model(spec.source), source=None)
    except ModelSourceError as error:
        raise ModelError(str(error)) from error
