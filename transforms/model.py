"""A SavedModel as a plain function from images to named outputs."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from typing import Any

import numpy as np

from transforms.engines.agreement import Asked, Comparison, remembered
from transforms.engines.division import BATCHES
from transforms.engines.engine import Call, Engine, ModelCallError, ModelError, ModelSpec, Outputs
from transforms.model_source import ModelSourceError, local_model

__all__ = ["Classifier", "ModelCallError", "ModelError", "ModelSpec", "load_classifier"]

COMPARED = 16  # images of the first batch, and as many made up, that outputs are compared on; see `agreement`
_log = logging.getLogger(__name__)


class Classifier:
    """A loaded model, called with one fixed shape.

    The shape is a batch, or an equal part of it: see `engines.division`. As many calls are made at a time as the
    engine is fastest with, whoever asks for them.

    Attributes:
        lengths: classes or features of each output, such as `{"logits": 1000}`.
    """

    def __init__(self, spec: ModelSpec) -> None:
        self.spec = spec
        self._engine = _engine(spec)
        division = self._engine.division
        self._calls: dict[int, Call] = {}
        self._lock, self._comparing = threading.Lock(), threading.Lock()
        # One batch more than is computed: its copy is made on the GPU meanwhile, or its pieces take what others leave.
        self._under_way = threading.BoundedSemaphore(BATCHES)
        self._callers = ThreadPoolExecutor(division.calls, "model")
        self._comparison: Comparison | None = None
        self._limit = division.piece
        try:
            self.lengths = self._try()
        except ModelError:
            if self._limit >= spec.batch_size:
                raise
            self._limit = spec.batch_size  # the model may take batches of that one size
            self.lengths = self._try()
        self._comparison = _comparison(replace(spec, batch_size=self._limit), self._engine)

    @property
    def compared(self) -> int:
        """Images that are best compared with TensorFlow's outputs at a time."""
        return max(self._limit, min(COMPARED, self.spec.batch_size))

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

        When memory runs out the pieces are halved, and stay so for the process.

        Args:
            images: [B, *image_shape] of the spec's dtype, B at most batch_size.

        Returns:
            For each of the spec's outputs float32 [B, n].

        Raises:
            ModelCallError: the model failed on this batch.
            ModelError: on the first batch, another engine's outputs are not TensorFlow's.
        """
        with self._under_way:
            comparison = self._comparison  # as long as there is one, nothing computed may be handed out
            if comparison is not None:
                comparison.begin()
            outputs = self._in_ever_smaller_pieces(self._engine.ahead(images))
            if comparison is not None and not self._agrees(images):
                outputs = self._in_ever_smaller_pieces(self._engine.ahead(images))
            return outputs

    def _in_ever_smaller_pieces(self, images: Any) -> Outputs:
        while True:
            limit = self._limit
            try:
                return self._in_pieces(images, limit)
            except ModelCallError as error:
                if not error.exhausted or limit == 1:
                    raise
                with self._lock:  # another batch may have come to the same end
                    self._limit = min(self._limit, (limit + 1) // 2)
                    self._engine.rewritten = False  # for the new size it would be anew, and not compared

    def _in_pieces(self, images: Any, limit: int) -> Outputs:
        call = self._compiled(limit)
        pieces = [images[start : start + limit] for start in range(0, len(images), limit)]
        futures = [self._callers.submit(_outputs_of, call, piece, limit) for piece in pieces]
        found = _results(futures)
        if len(found) == 1:
            return found[0]
        return {name: np.concatenate([outputs[name] for outputs in found]) for name in found[0]}

    def _compiled(self, limit: int) -> Call:
        with self._lock:
            if limit not in self._calls:
                self._calls = {limit: self._engine.compile(limit)}
            return self._calls[limit]

    def _agrees(self, images: np.ndarray) -> bool:
        """Whether what was computed while there was a comparison holds; made with `images` if nobody has yet.

        Where a rewritten graph does not agree, the model's own is used from now on.

        Raises:
            ModelError: another engine does not agree.
        """
        with self._comparing:
            if self._comparison is not None:  # no other thread's batch has been compared meanwhile
                self._compare(self._comparison, images)
                self._comparison = None
            return self.spec.engine != "tensorflow" or self._engine.rewritten

    def _compare(self, comparison: Comparison, images: np.ndarray) -> None:
        batches = [comparison.synthetic(self.compared), _filled(images[: self.compared], self.compared)]
        limit = self._limit
        found = [self._outputs_or_error(batch, limit) for batch in batches]
        if self.spec.engine != "tensorflow":
            comparison.check(batches, found)
        elif not self._engine.rewritten:  # it failed, or not even these few images fitted into memory
            comparison.give_up()
        else:
            try:
                comparison.check(batches, found)
            except ModelError as error:
                _log.warning("%s: the model's graph is used as it is", error)
                with self._lock:
                    self._engine.rewritten, self._calls = False, {}

    def _outputs_or_error(self, images: np.ndarray, limit: int) -> Outputs | str:
        try:
            return self._in_pieces(images, limit)
        except ModelCallError as error:
            return str(error)


def _outputs_of(call: Call, piece: Any, limit: int) -> Outputs:
    """Outputs of `piece`, at most `limit` images, float32 [B, n] each."""
    outputs = call(_filled(piece, limit))
    for name, output in outputs.items():
        if output.shape[:1] != (limit,):
            wrong = f"its shape is {list(output.shape)} for {limit} images"
            raise ModelError(f"model.outputs.{name}: {wrong}; it must have a row for each")
    return {name: output.reshape(limit, -1)[: len(piece)] for name, output in outputs.items()}


def _results(futures: Sequence[Future[Outputs]]) -> list[Outputs]:
    """What came of all calls; of several errors the one that smaller pieces may help."""
    for future in wait(futures, return_when=FIRST_EXCEPTION).not_done:
        future.cancel()
    wait(futures)  # those under way as well: the images' memory is used again once this returns
    errors = [error for error in (future.exception() for future in futures if not future.cancelled()) if error]
    for error in sorted(errors, key=lambda error: not getattr(error, "exhausted", False)):
        raise error
    return [future.result() for future in futures]


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
    if spec.precision != "float32":  # what is not exact is not held to be
        return None
    if spec.engine == "tensorflow" and not engine.rewritten:  # it would be compared with itself
        return None
    before = remembered(spec, engine.title)
    if before is not None:
        _log.info("%s (compared by an earlier run)", before.said)
        return None

    def start() -> Asked:
        from transforms.engines.reference import Reference

        return Reference(spec)

    return Comparison(spec, engine.title, start)


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
