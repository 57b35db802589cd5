"""Outputs against those of the model as published, in TensorFlow, before the first label: once a model and machine.

Compared is what could be wrong: another engine, or TensorFlow with a rewritten graph.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import platform
import tempfile
import threading
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from transforms.engines.engine import ModelError, ModelSpec, Outputs
from transforms.engines.processor import processor

TOLERANCE = 1e-4  # of the largest output
_log = logging.getLogger(__name__)


class Asked(Protocol):
    """Who knows the right outputs; see `reference.Reference`."""

    title: str

    def outputs(self, batches: Sequence[np.ndarray]) -> list[Outputs | str]: ...

    def close(self) -> None: ...


class Compared(NamedTuple):
    """What a comparison has found: `said` is for people."""

    said: str
    agrees: bool


class Comparison:
    """Compares an engine with TensorFlow on a synthetic batch and on one of the run's own, and remembers that it did.

    Args:
        spec: of the model. With the engine `tensorflow` it is the rewritten graph that is compared, and the batch size
            is the one it was rewritten for.
        title: the engine and its version.
        start: starts what knows the outputs of the model as published.
    """

    def __init__(self, spec: ModelSpec, title: str, start: Callable[[], Asked]) -> None:
        self._spec, self._title, self._start = spec, _titled(spec, title), start
        self._starting = threading.Lock()
        self._reference: Asked | None = None
        self._refusal: ModelError | None = None

    def begin(self) -> Asked:
        """Start what will be asked, if nobody has.

        With the first batch and not before: who only loads the model, to launch a job elsewhere, starts nothing.
        """
        with self._starting:
            if self._reference is None:
                self._reference = self._start()
            return self._reference

    def give_up(self) -> None:
        """End without a comparison."""
        if self._reference is not None:
            self._reference.close()

    def synthetic(self, count: int) -> np.ndarray:
        """Noise in the range of normalized images, the same each time: [count, H, W, 3] of the spec's dtype."""
        random = np.random.default_rng(0)
        shape = (count, *self._spec.image_shape)
        if self._spec.dtype == "uint8":
            return random.integers(0, 256, shape, np.uint8)
        return random.standard_normal(shape, np.float32)

    def check(self, batches: Sequence[np.ndarray], found: Sequence[Outputs | str]) -> None:
        """Ask TensorFlow for its outputs of `batches` and compare them with what the engine has `found` or failed with.

        Raises:
            ModelError: they differ by more than `TOLERANCE`, or TensorFlow cannot be asked.
        """
        if self._refusal is not None:  # another thread's batch has told
            raise self._refusal
        reference = self.begin()
        try:
            expected = reference.outputs(batches)
        except ModelError as error:
            self._refusal = error  # it cannot be asked again
            raise
        compared = []
        for outputs, answer in zip(found, expected, strict=True):
            if not isinstance(answer, str):  # else TensorFlow does not take this batch: an image's fault, or a check's
                compared.append(
                    dict.fromkeys(answer, np.inf) if isinstance(outputs, str) else differences(outputs, answer)
                )
        largest = {kind: max((batch[kind] for batch in compared), default=np.inf) for kind, _ in self._spec.outputs}
        said = ", ".join(f"{kind} {difference:.1e}" for kind, difference in largest.items())
        images = len(compared) * len(batches[0])
        what = f"{self._title} and {reference.title} on {images} images: largest difference, relative: {said}"
        if not max(largest.values()) <= TOLERANCE:
            what = f"{what}; more than {TOLERANCE:.0e}, so its labels would be others"
            if self._spec.engine != "tensorflow":
                self._refusal = ModelError(f"model.engine: {what}; use model.engine: tensorflow")
                raise self._refusal
            if compared:
                _remember(self._spec, self._title, Compared(what, False))
            raise ModelError(what)
        _log.info("%s; %.0e is allowed", what, TOLERANCE)
        _remember(self._spec, self._title, Compared(what, True))


def differences(found: Outputs, expected: Outputs) -> dict[str, float]:
    """For each output the largest difference as a part of the largest value expected.

    What is NaN or infinite must be so in both; otherwise the difference is infinite.
    """
    return {kind: _difference(found[kind], expected[kind]) for kind in expected}


def _difference(found: np.ndarray, expected: np.ndarray) -> float:
    if found.shape != expected.shape:
        return np.inf
    finite = np.isfinite(expected)
    if not np.array_equal(finite, np.isfinite(found)):
        return np.inf
    found, expected = found[finite].astype(np.float64), expected[finite].astype(np.float64)
    largest = np.abs(expected).max(initial=0.0)
    return (
        float(np.abs(found - expected).max(initial=0.0) / largest) if largest else float(np.abs(found).max(initial=0.0))
    )


def remembered(spec: ModelSpec, title: str) -> Compared | None:
    """What an earlier comparison of this model and engine on such a machine has found; None where there was none.

    Args:
        spec, title: as `Comparison` takes them.
    """
    place = _place(spec, _titled(spec, title))
    if place is None:
        return None
    try:
        found = json.loads(place.read_text(encoding="utf-8"))
        return Compared(str(found["compared"]), bool(found["agrees"]))
    except (OSError, ValueError, KeyError, TypeError):  # there is none, or it is damaged: compare again
        return None


def _titled(spec: ModelSpec, title: str) -> str:
    return f"{title} (rewritten)" if spec.engine == "tensorflow" else title


def _remember(spec: ModelSpec, title: str, compared: Compared) -> None:
    place = _place(spec, title)
    if place is None:
        return
    with contextlib.suppress(OSError):  # a home that cannot be written to: the next run compares again
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=place.parent, delete=False, encoding="utf-8") as file:
            json.dump({"compared": compared.said, "agrees": compared.agrees, "model": spec.path}, file)
        os.replace(file.name, place)


def _place(spec: ModelSpec, title: str) -> Path | None:
    """The file for this model, called so, by this engine, on such a processor."""
    if not spec.fingerprint:
        return None
    called = [spec.fingerprint, spec.signature, spec.input, spec.outputs, spec.image_shape, spec.dtype]
    machine = [title, metadata.version("tensorflow"), platform.machine(), processor()]
    key = hashlib.sha256(json.dumps([called, machine, _rewriting(spec)]).encode()).hexdigest()
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(base) / "hublabel" / "engines" / f"{key}.json"


def _rewriting(spec: ModelSpec) -> list[object]:
    """What a rewritten graph depends on beside the model."""
    if spec.engine != "tensorflow":
        return []
    from transforms.engines.rewriting import version

    return [version(), spec.batch_size]
