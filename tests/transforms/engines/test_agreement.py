"""Another engine's outputs against TensorFlow's: compared once, remembered, refused when they differ."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.saved_models import save_fussy, save_signature
from tests.transforms.test_model import SPEC, expected, images_of, logits_only
from transforms import model as model_module
from transforms.engines import agreement
from transforms.engines.agreement import TOLERANCE, Comparison, differences, remembered
from transforms.engines.engine import ModelError, ModelSpec, Outputs
from transforms.engines.openvino import OpenVINOEngine
from transforms.engines.reference import Reference
from transforms.model import Classifier

SPEC_OV = replace(SPEC, engine="openvino", fingerprint="f" * 64)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "hublabel" / "engines"


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_signature(tmp_path_factory.mktemp("model") / "plain", logits_only)


class Oracle:
    """Knows the outputs, but for `error`, which it adds to those of the batch `wrong`."""

    title = "oracle 1.0"

    def __init__(self, error: float = 0.0, wrong: int = 0, fails: Sequence[int] = ()) -> None:
        self.error, self.wrong, self.fails = error, wrong, fails
        self.asked: list[np.ndarray] = []
        self.closed = False

    def outputs(self, batches: Sequence[np.ndarray]) -> list[Outputs | str]:
        self.asked += batches
        found: list[Outputs | str] = [{"logits": batch.mean((1, 2))} for batch in batches]
        found[self.wrong]["logits"][1, 2] += self.error  # type: ignore[index]
        for number in self.fails:
            found[number] = "InvalidArgumentError: it is bad"
        return found

    def close(self) -> None:
        self.closed = True


def classifier(monkeypatch: pytest.MonkeyPatch, plain: Path, oracle: Oracle, **changes: Any) -> Classifier:
    spec = replace(SPEC_OV, path=str(plain), **changes)
    monkeypatch.setattr("transforms.engines.reference.Reference", lambda spec: oracle)
    return Classifier(spec)


# What is compared, and when.


def test_the_first_batch_and_a_synthetic_one_are_compared_and_no_more(
    plain: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    oracle = Oracle()
    model = classifier(monkeypatch, plain, oracle)
    assert oracle.asked == []  # the zeros it is tried with say nothing
    for value in (3, 4):
        assert model(images_of(1, 2, value))["logits"].tolist() == expected(1, 2, value)
    synthetic, first = oracle.asked
    assert first.tolist() == images_of(1, 2, 3).tolist()
    assert synthetic.shape == first.shape
    assert 0.5 < synthetic.std() < 2
    import openvino

    title = f"OpenVINO {openvino.__version__.partition('-')[0]}"
    assert caplog.messages[0].startswith(f"{title} and oracle 1.0 on 8 images: largest difference, relative: logits ")
    assert caplog.messages[0].endswith("; 1e-04 is allowed")
    assert len(caplog.messages) == 1


def test_a_first_batch_that_is_short_is_compared_as_well(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    oracle = Oracle()
    model = classifier(monkeypatch, plain, oracle)
    assert model(images_of(1, 2)[:2])["logits"].tolist() == expected(1, 2)[:2]
    assert oracle.asked[1].tolist() == images_of(1, 2).tolist()


@pytest.mark.parametrize("wrong", [0, 1])
def test_outputs_that_differ_are_refused(plain: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, wrong: int) -> None:
    model = classifier(monkeypatch, plain, oracle := Oracle(error=0.5, wrong=wrong))
    for _ in range(2):  # and not let through the next time
        with pytest.raises(ModelError) as caught:
            model(images_of(100, 200, 300))
    said = str(caught.value)
    assert said.startswith("model.engine: OpenVINO ")
    assert said.endswith("more than 1e-04, so its labels would be others; use model.engine: tensorflow")
    assert "\n" not in said
    assert len(oracle.asked) == 2
    assert not cache.exists()


def test_tensorflow_that_cannot_be_asked_is_told_to_every_thread(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transforms.engines.reference.program", lambda module: [sys.executable, "-c", "exit(3)"])
    model = Classifier(replace(SPEC_OV, path=str(plain)))
    for _ in range(2):  # it is a process that has died, and can be asked once only
        with pytest.raises(ModelError, match=r"^the process that asks TensorFlow died \(exit code 3\)$"):
            model(images_of(1))


def test_what_is_within_the_tolerance_passes(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = classifier(monkeypatch, plain, Oracle(error=900 * TOLERANCE * 0.9, wrong=1))
    assert model(images_of(100, 200, 300))["logits"].tolist() == expected(100, 200, 300)
    model = classifier(monkeypatch, plain, Oracle(error=900 * TOLERANCE * 1.1, wrong=1), fingerprint="")
    with pytest.raises(ModelError, match=r"logits 1.1e-04; more than"):
        model(images_of(100, 200, 300))


def test_a_batch_that_tensorflow_does_not_take_is_left_out(
    plain: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    model = classifier(monkeypatch, plain, Oracle(fails=[1]))
    assert model(images_of(1))["logits"].tolist() == expected(1)
    assert " on 4 images: " in caplog.messages[0]
    model = classifier(monkeypatch, plain, Oracle(fails=[0, 1]), fingerprint="")
    with pytest.raises(ModelError, match=r" on 0 images: largest difference, relative: logits inf; more than"):
        model(images_of(1))


# What is remembered.


def test_a_comparison_is_remembered(
    plain: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    classifier(monkeypatch, plain, Oracle())(images_of(1))
    assert len(list(cache.iterdir())) == 1
    oracle = Oracle(error=9.0)
    for batch_size in (4, 2):
        again = classifier(monkeypatch, plain, oracle, batch_size=batch_size)
        assert again(images_of(1, batch_size=batch_size))["logits"].tolist() == expected(1, batch_size=batch_size)
    assert oracle.asked == []
    assert caplog.messages[1] == caplog.messages[0].replace("; 1e-04 is allowed", " (compared by an earlier run)")


@pytest.mark.parametrize(
    "change",
    [
        {"fingerprint": "e" * 64},
        {"fingerprint": ""},
        {"image_shape": (8, 8, 3)},
        {"outputs": (("embedding", "output"),)},
    ],
)
def test_another_model_is_compared_anew(plain: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]) -> None:
    classifier(monkeypatch, plain, Oracle())(images_of(1))
    before = replace(SPEC_OV, path=str(plain))
    title = OpenVINOEngine(before).title
    assert remembered(before, title) is not None
    assert remembered(replace(before, **change), title) is None
    assert remembered(before, "OpenVINO 1.0") is None
    monkeypatch.setattr(agreement, "processor", lambda: "another one")
    assert remembered(before, title) is None


def test_a_damaged_memory_is_no_memory(plain: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    classifier(monkeypatch, plain, Oracle())(images_of(1))
    (file,) = cache.iterdir()
    for text in ("", "{", "[]", "{}"):
        file.write_text(text)
        oracle = Oracle()
        classifier(monkeypatch, plain, oracle)(images_of(1))
        assert len(oracle.asked) == 2


def test_a_cache_that_cannot_be_written_to_is_done_without(
    plain: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.parent.mkdir(parents=True)
    cache.write_text("a file where the folder would be")
    assert classifier(monkeypatch, plain, Oracle())(images_of(1))["logits"].tolist() == expected(1)


# Differences.


@pytest.mark.parametrize(
    ("found", "expected", "difference"),
    [
        ([[1.0, 2.0]], [[1.0, 4.0]], 0.5),
        ([[1.0, -2.0]], [[1.0, -4.0]], 0.5),
        ([[0.5, 0.0]], [[0.0, 0.0]], 0.5),
        ([[0.0, 0.0]], [[0.0, 0.0]], 0.0),
        ([[np.nan, 2.0]], [[np.inf, 2.0]], 0.0),
        ([[1.0, 2.0]], [[np.nan, 2.0]], np.inf),
        ([[np.nan, 2.0]], [[1.0, 2.0]], np.inf),
        ([[1.0, 2.0, 3.0]], [[1.0, 2.0]], np.inf),
    ],
)
def test_differences(found: list[list[float]], expected: list[list[float]], difference: float) -> None:
    arrays = [{"logits": np.array(values, np.float32)} for values in (found, expected)]
    assert differences(*arrays) == {"logits": difference}


def test_synthetic_images_of_bytes() -> None:
    images = Comparison(replace(SPEC, dtype="uint8"), "", Oracle).synthetic(5)
    assert images.shape == (5, *SPEC.image_shape)
    assert images.dtype == np.uint8
    assert images.min() < 20
    assert images.max() > 235


# The real reference.


def test_the_reference_is_tensorflow(plain: Path, caplog: pytest.LogCaptureFixture) -> None:
    import tensorflow as tf

    caplog.set_level(logging.INFO)
    model = Classifier(replace(SPEC_OV, path=str(plain)))
    assert model(images_of(1, 2))["logits"].tolist() == expected(1, 2)
    assert f" and TensorFlow {tf.__version__} on 8 images: " in caplog.messages[0]


def test_the_reference_tells_what_tensorflow_fails_with(tmp_path: Path) -> None:
    spec = replace(SPEC_OV, path=str(save_fussy(tmp_path / "fussy")))
    bad, good = Reference(spec).outputs([images_of(1, 90), images_of(1)])
    assert isinstance(bad, str)
    assert bad.startswith("InvalidArgumentError: ")
    assert isinstance(good, dict)
    assert good["logits"].tolist() == expected(1)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (
            replace(SPEC_OV, outputs=(("logits", "scores"),)),
            "model.outputs.logits: no output 'scores'; the model has output",
        ),
        (
            replace(SPEC_OV, signature="predict"),
            "model.signature: no signature 'predict'; the model has serving_default",
        ),
    ],
)
def test_a_model_that_tensorflow_does_not_take(plain: Path, spec: ModelSpec, said: str) -> None:
    with pytest.raises(ModelError) as caught:
        Reference(replace(spec, path=str(plain))).outputs([images_of(1)])
    assert str(caught.value) == said


def test_a_reference_that_dies_is_told(plain: Path) -> None:
    reference = Reference(replace(SPEC_OV, path=str(plain)))
    reference._process.kill()
    with pytest.raises(ModelError, match=r"the process that asks TensorFlow died \(exit code -9\)"):
        reference.outputs([images_of(1)])


def test_a_reference_that_nobody_asks_ends(plain: Path) -> None:
    process = Reference(replace(SPEC_OV, path=str(plain)))._process
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(timeout=60) == 0


def test_tensorflow_is_not_compared_with_itself(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transforms.engines.reference.Reference", None)
    assert (
        model_module._comparison(replace(SPEC, path=str(plain)), OpenVINOEngine(replace(SPEC_OV, path=str(plain))))
        is None
    )
