"""Another engine's outputs against TensorFlow's, before the first label: once a model, engine and machine."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import platform
import tempfile
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Protocol

import numpy as np

from transforms.engines.engine import ModelError, ModelSpec, Outputs
from transforms.engines.processor import processor

TOLERANCE = 1e-4  # of the largest output
_log = logging.getLogger(__name__)


class Asked(Protocol):
    """Who knows the right outputs; see `reference.Reference`."""

    title: str

    def outputs(self, batches: Sequence[np.ndarray]) -> list[Outputs | str]: ...


class Comparison:
    """Compares an engine with TensorFlow on a synthetic batch and on one of the run's own, and remembers that it did.

    Args:
        spec: of the model.
        title: the engine and its version.
        reference: what knows TensorFlow's outputs.
    """

    def __init__(self, spec: ModelSpec, title: str, reference: Asked) -> None:
        self._spec, self._title, self._reference = spec, title, reference
        self._refusal: ModelError | None = None

    def synthetic(self, count: int) -> np.ndarray:
        """Noise in the range of normalized images, the same each time: [count, H, W, 3] of the spec's dtype."""
        random = np.random.default_rng(0)
        shape = (count, *self._spec.image_shape)
        if self._spec.dtype == "uint8":
            return random.integers(0, 256, shape, np.uint8)
        return random.standard_normal(shape, np.float32)

    def check(self, batches: Sequence[np.ndarray], found: Sequence[Outputs]) -> None:
        """Ask TensorFlow for its outputs of `batches` and compare them with what the engine has `found`.

        Raises:
            ModelError: they differ by more than `TOLERANCE`, or TensorFlow cannot be asked.
        """
        if self._refusal is not None:  # another thread's batch has told
            raise self._refusal
        try:
            expected = self._reference.outputs(batches)
        except ModelError as error:
            self._refusal = error  # it cannot be asked again
            raise
        compared = []
        for outputs, answer in zip(found, expected, strict=True):
            if not isinstance(answer, str):  # TensorFlow does not take this batch: an image's fault, or a check's
                compared.append(differences(outputs, answer))
        largest = {kind: max((batch[kind] for batch in compared), default=np.inf) for kind, _ in self._spec.outputs}
        said = ", ".join(f"{kind} {difference:.1e}" for kind, difference in largest.items())
        images = len(compared) * len(batches[0])
        what = f"{self._title} and {self._reference.title} on {images} images: largest difference, relative: {said}"
        if not max(largest.values()) <= TOLERANCE:
            self._refusal = ModelError(
                f"model.engine: {what}; more than {TOLERANCE:.0e}, so its labels would be others; "
                "use model.engine: tensorflow"
            )
            raise self._refusal
        _log.info("%s; %.0e is allowed", what, TOLERANCE)
        _remember(self._spec, self._title, what)


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


def remembered(spec: ModelSpec, title: str) -> str | None:
    """What an earlier comparison of this model and engine on such a machine has found; None where there was none."""
    place = _place(spec, title)
    if place is None:
        return None
    try:
        return str(json.loads(place.read_text(encoding="utf-8"))["compared"])
    except (OSError, ValueError, KeyError, TypeError):  # there is none, or it is damaged: compare again
        return None


def _remember(spec: ModelSpec, title: str, compared: str) -> None:
    place = _place(spec, title)
    if place is None:
        return
    with contextlib.suppress(OSError):  # a home that cannot be written to: the next run compares again
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=place.parent, delete=False, encoding="utf-8") as file:
            json.dump({"compared": compared, "model": spec.path}, file)
        os.replace(file.name, place)


def _place(spec: ModelSpec, title: str) -> Path | None:
    """The file for this model, called so, by this engine, on such a processor."""
    if not spec.fingerprint:
        return None
    called = [spec.fingerprint, spec.signature, spec.input, spec.outputs, spec.image_shape, spec.dtype]
    machine = [title, metadata.version("tensorflow"), platform.machine(), processor()]
    key = hashlib.sha256(json.dumps([called, machine]).encode()).hexdigest()
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(base) / "hublabel" / "engines" / f"{key}.json"
