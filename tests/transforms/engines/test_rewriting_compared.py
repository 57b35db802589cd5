"""A rewritten graph against the model's own: compared before the first label, remembered, not used where it differs."""

from __future__ import annotations

import json
import logging
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.saved_models import SIZE, save_signature
from tests.transforms.test_model import SPEC, Memory, images_of
from transforms.engines import rewriting
from transforms.engines.engine import ModelCallError, ModelSpec, Outputs
from transforms.engines.graphs import NotRewritableError
from transforms.engines.reference import Reference
from transforms.engines.tensorflow import TensorFlowEngine
from transforms.isolation import _classifier
from transforms.model import Classifier

REAL = rewriting.rewritten
KERNEL = np.random.default_rng(0).standard_normal((3, 3, 3, 3), np.float32) / 5
TITLE = f"TensorFlow {tf.__version__} (rewritten)"
AS_IT_IS = "the model's graph is used as it is"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "hublabel" / "engines"


@pytest.fixture(autouse=True)
def told(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, logger="transforms")
    return caplog


def serve(input: Any) -> dict[str, Any]:
    return {"output": tf.reduce_mean(tf.nn.gelu(tf.nn.conv2d(input, KERNEL, 1, "SAME")), [1, 2])}


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
    """Of a model that is rewritten."""
    path = save_signature(tmp_path_factory.mktemp("model") / "gelu", serve)
    return replace(SPEC, path=str(path), fingerprint="f" * 64)


def noise(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((4, SIZE, SIZE, 3), np.float32)


def own(spec: ModelSpec, images: np.ndarray) -> list[list[float]]:
    """The logits of the model's own graph, to the last digit."""
    return TensorFlowEngine(replace(spec, rewriting=False)).compile(len(images))(images)["logits"].tolist()


class Broken:
    """Rewrites so that the outputs are off by `error`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, error: float) -> None:
        self.error, self.rewritten = error, 0
        self.saw: Callable[[Any], None] = lambda images: None
        monkeypatch.setattr(rewriting, "rewritten", self)

    def __call__(self, function: Any) -> Any:
        self.rewritten += 1
        real = REAL(function)

        def call(images: Any) -> list[Any]:
            self.saw(images)
            return [output + self.error for output in real(images)]

        return call


class Oracle:
    """Stands in for the reference's process: knows the model's own outputs."""

    title = "oracle 1.0"

    def __init__(self, monkeypatch: pytest.MonkeyPatch, spec: ModelSpec) -> None:
        self._spec, self.started, self.asked, self.closed = spec, 0, 0, 0
        self.meanwhile: Callable[[], None] = lambda: None
        monkeypatch.setattr("transforms.engines.reference.Reference", self._start)

    def _start(self, spec: ModelSpec) -> Oracle:
        self.started += 1
        return self

    def outputs(self, batches: Sequence[np.ndarray]) -> list[Outputs | str]:
        self.asked += 1
        self.meanwhile()
        return [{"logits": np.array(own(self._spec, batch), np.float32)} for batch in batches]

    def close(self) -> None:
        self.closed += 1


def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reference that is started fails the test."""
    monkeypatch.setattr("transforms.engines.reference.Reference", None)


# What agrees is used.


def test_a_good_rewriting_is_compared_once_and_remembered(
    spec: ModelSpec, cache: Path, monkeypatch: pytest.MonkeyPatch, told: pytest.LogCaptureFixture
) -> None:
    model = Classifier(spec)
    assert not cache.exists()
    for seed in range(2):
        found = model(noise(seed))["logits"]
        assert found.tolist() == TensorFlowEngine(spec).compile(4)(noise(seed))["logits"].tolist()
    (line,) = told.messages
    assert line.startswith(
        f"{TITLE} and TensorFlow {tf.__version__} on 8 images: largest difference, relative: logits "
    )
    assert line.endswith("; 1e-04 is allowed")
    (file,) = cache.iterdir()
    assert json.loads(file.read_text())["agrees"] is True
    nobody(monkeypatch)
    again = Classifier(spec)
    assert again._engine.rewritten
    again(noise())
    assert told.messages[1:] == [line.replace("; 1e-04 is allowed", " (compared by an earlier run)")]


def test_what_is_rewritten_for_another_size_or_by_other_code_is_compared_anew(
    spec: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    oracle = Oracle(monkeypatch, spec)
    for count, change in ((1, {}), (1, {}), (2, {"batch_size": 2}), (3, {"fingerprint": "e" * 64})):
        model = Classifier(replace(spec, **change))  # type: ignore[arg-type]
        model(noise()[: model.spec.batch_size])
        assert oracle.asked == count
    monkeypatch.setattr(rewriting, "version", lambda: "another")
    Classifier(spec)(noise())
    assert oracle.asked == 4


def test_the_version_is_of_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    before = rewriting.version.__wrapped__()
    read = rewriting.pkgutil.get_data
    for changed in ("clusters.py", "graphs.py", "layout.py", "rewriting.py"):
        monkeypatch.setattr(
            rewriting.pkgutil, "get_data", lambda package, name, at=changed: read(package, name) + b" " * (name == at)
        )
        assert rewriting.version.__wrapped__() != before


# What does not is not.


@pytest.mark.parametrize("error", [1.0, 1e-3, np.nan])
def test_a_broken_rewriting_never_reaches_a_label(
    spec: ModelSpec, cache: Path, monkeypatch: pytest.MonkeyPatch, told: pytest.LogCaptureFixture, error: float
) -> None:
    """With the real reference."""
    broken = Broken(monkeypatch, error)
    model = Classifier(spec)
    for seed in range(2):
        assert model(noise(seed))["logits"].tolist() == own(spec, noise(seed))
    (line,) = told.messages
    assert line.startswith(
        f"{TITLE} and TensorFlow {tf.__version__} on 8 images: largest difference, relative: logits "
    )
    assert line.endswith(f"; more than 1e-04, so its labels would be others: {AS_IT_IS}")
    (file,) = cache.iterdir()
    assert json.loads(file.read_text())["agrees"] is False
    nobody(monkeypatch)
    assert Classifier(spec)(noise())["logits"].tolist() == own(spec, noise())
    assert broken.rewritten == 1  # not tried again
    assert told.messages[1].endswith(f", so its labels would be others; compared by an earlier run: {AS_IT_IS}")


def test_a_batch_computed_meanwhile_is_computed_again(spec: ModelSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the time the first batch is found wrong, another thread holds outputs of the broken rewriting."""
    broken, oracle = Broken(monkeypatch, 1.0), Oracle(monkeypatch, spec)
    model = Classifier(spec)
    computed, found = threading.Event(), {}
    second = threading.Thread(target=lambda: found.update(model(noise(2))))

    def meanwhile() -> None:
        broken.saw = lambda images: computed.set()
        second.start()
        assert computed.wait(timeout=30)

    oracle.meanwhile = meanwhile
    assert model(noise(1))["logits"].tolist() == own(spec, noise(1))
    second.join()
    assert found["logits"].tolist() == own(spec, noise(2))
    assert oracle.asked == 1


def test_a_batch_that_comes_too_late_to_be_compared_is_computed_again(
    spec: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Computed by the broken rewriting, and handed on only when the first batch has been found wrong."""
    Broken(monkeypatch, 1.0)
    oracle = Oracle(monkeypatch, spec)
    model = Classifier(spec)
    computed, compared, found = threading.Event(), threading.Event(), {}
    real = model._in_ever_smaller_pieces
    second = threading.Thread(target=lambda: found.update(model(noise(2))))

    def held(images: Any) -> Outputs:
        outputs = real(images)
        if threading.current_thread() is second and not computed.is_set():
            computed.set()
            assert compared.wait(timeout=30)
        return outputs

    def meanwhile() -> None:
        second.start()
        assert computed.wait(timeout=30)

    monkeypatch.setattr(model, "_in_ever_smaller_pieces", held)
    oracle.meanwhile = meanwhile
    assert model(noise(1))["logits"].tolist() == own(spec, noise(1))
    compared.set()
    second.join()
    assert found["logits"].tolist() == own(spec, noise(2))


def test_a_reference_that_dies_leaves_the_models_own_graph(
    spec: ModelSpec, cache: Path, monkeypatch: pytest.MonkeyPatch, told: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("transforms.engines.reference.program", lambda module: [sys.executable, "-c", "exit(3)"])
    assert Classifier(spec)(noise())["logits"].tolist() == own(spec, noise())
    assert told.messages == [f"the process that asks TensorFlow died (exit code 3): {AS_IT_IS}"]
    assert not cache.exists()  # nothing is known: the next run tries again


def test_a_rewriting_that_fails_on_the_first_batch_is_not_taken_for_compared(
    spec: ModelSpec, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken, oracle = Broken(monkeypatch, 1.0), Oracle(monkeypatch, spec)
    model = Classifier(spec)

    def fail(images: Any) -> None:
        raise tf.errors.InvalidArgumentError(None, None, "XLA does not know this")

    broken.saw = fail
    assert model(noise())["logits"].tolist() == own(spec, noise())
    assert (oracle.asked, oracle.closed) == (0, 1)
    assert not cache.exists()


@pytest.mark.parametrize("both", [True, False])
def test_a_batch_that_the_rewriting_fails_on(
    spec: ModelSpec, cache: Path, monkeypatch: pytest.MonkeyPatch, both: bool
) -> None:
    """What is made up may be too strange for the model itself: no difference, and no image's fault."""
    broken, oracle = Broken(monkeypatch, 0.0), Oracle(monkeypatch, spec)
    model = Classifier(spec)

    def fail(images: Any) -> None:
        if not np.array_equal(images, noise(1)):
            raise ModelCallError("too strange")

    broken.saw = fail
    real = oracle.outputs
    if both:
        monkeypatch.setattr(oracle, "outputs", lambda batches: ["too strange", *real(batches[1:])])
    assert np.abs(model(noise(1))["logits"] - own(spec, noise(1))).max() < 1e-6
    assert model._engine.rewritten is both
    (file,) = cache.iterdir()
    assert json.loads(file.read_text())["agrees"] is both


def test_a_size_that_was_not_compared_is_not_rewritten(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = Memory(monkeypatch, fits=10, piece=10)
    memory.rewritten = True
    oracle = Oracle(monkeypatch, SPEC)
    model = Classifier(replace(SPEC, batch_size=10))
    memory.fits = 5
    model(images_of(1, batch_size=10))
    assert memory.rewritten is False
    assert (oracle.started, oracle.asked, oracle.closed) == (1, 0, 1)


def wrong_shape(function: Any, images: Any) -> list[Any]:
    return [tf.transpose(output) for output in function(images)]


def wrong_type(function: Any, images: Any) -> list[Any]:
    return [tf.cast(output, tf.float64) for output in function(images)]


@pytest.mark.parametrize("wrong", [wrong_shape, wrong_type])
def test_outputs_of_another_shape_or_type_are_no_rewriting(wrong: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    function = tf.function(serve, input_signature=[tf.TensorSpec((4, SIZE, SIZE, 3))]).get_concrete_function()
    monkeypatch.setattr(rewriting, "with_clusters", wrong)
    with pytest.raises(NotRewritableError, match=r"^rewritten it gives float(32|64) \("):
        REAL(function)


# What pays nothing.


def test_a_graph_that_is_not_rewritten_starts_nothing(
    spec: ModelSpec, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, told: pytest.LogCaptureFixture
) -> None:
    def relu(input: Any) -> dict[str, Any]:
        return {"output": tf.reduce_mean(tf.nn.relu(input), [1, 2])}

    nobody(monkeypatch)
    plain = replace(spec, path=str(save_signature(tmp_path / "m", relu)))
    for given in (plain, replace(spec, rewriting=False)):
        model = Classifier(given)
        assert model(noise())["logits"].tolist() == own(given, noise())
    assert told.messages == []
    assert not cache.exists()


def test_who_only_loads_a_model_starts_nothing(spec: ModelSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    nobody(monkeypatch)
    assert Classifier(spec).lengths == {"logits": 3}
    assert Classifier(replace(spec, engine="openvino")).lengths == {"logits": 3}


def test_images_in_isolation_have_the_models_own_graph(spec: ModelSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    nobody(monkeypatch)
    model = _classifier(spec)
    assert model(noise()[:1])["logits"].tolist() == own(spec, noise()[:1])


# The reference.


@pytest.mark.parametrize("engine", ["tensorflow", "openvino"])
def test_the_reference_is_the_models_own_graph(spec: ModelSpec, monkeypatch: pytest.MonkeyPatch, engine: str) -> None:
    """A reference that rewrote would die of it here."""
    code = (
        "import os; from transforms.engines import reference, rewriting; "
        "rewriting.rewritten = lambda function: os._exit(7); reference._serve(); os._exit(0)"
    )
    monkeypatch.setattr("transforms.engines.reference.program", lambda module: [sys.executable, "-c", code])
    (found,) = Reference(replace(spec, engine=engine)).outputs([noise()])
    assert isinstance(found, dict)
    assert np.abs(found["logits"] - own(spec, noise())).max() < 1e-6
