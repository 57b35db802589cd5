"""Loading and calling SavedModels of every shape that published ones have."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.saved_models import SIZE, image_spec, means, save_callable, save_fussy, save_signature
from transforms import model as model_module
from transforms.buffers import BATCHES
from transforms.engines import tensorflow as tensorflow_engine
from transforms.engines.division import Division
from transforms.model import Classifier, ModelCallError, ModelError, ModelSpec, load_classifier

SPEC = ModelSpec(
    path="", signature="serving_default", input=None, outputs=(("logits", "output"),),
    image_shape=(SIZE, SIZE, 3), dtype="float32", batch_size=4,
)  # fmt: skip


def images_of(*values: float, dtype: str = "float32", batch_size: int = 4) -> np.ndarray:
    """Images of one value each in the first channel, twice and three times that in the others."""
    images = np.zeros((batch_size, SIZE, SIZE, 3), dtype)
    for slot, value in enumerate(values):
        images[slot] = np.array([value, 2 * value, 3 * value])
    return images


def expected(*values: float, batch_size: int = 4) -> list[list[float]]:
    return [[v, 2 * v, 3 * v] for v in (*values, *[0.0] * (batch_size - len(values)))]


def classifier(path: Path, **changes: Any) -> Classifier:
    return Classifier(replace(SPEC, path=str(path), **changes))


def logits_only(input: Any) -> dict[str, Any]:
    return {"output": means(input)}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_signature(tmp_path_factory.mktemp("model") / "plain", logits_only)


# Signatures.


def test_a_signature_is_called(plain: Path) -> None:
    model = classifier(plain)
    assert model.lengths == {"logits": 3}
    found = model(images_of(1, 2, 3, 5))
    assert list(found) == ["logits"]
    assert found["logits"].dtype == np.float32
    assert found["logits"].tolist() == expected(1, 2, 3, 5)
    assert model.blank().shape == (4, SIZE, SIZE, 3)
    assert not model.blank().any()


def test_a_signature_with_another_name_and_input(tmp_path: Path) -> None:
    def serve(pictures: Any) -> dict[str, Any]:
        return {"scores": means(pictures)}

    path = save_signature(tmp_path / "m", serve, image_spec(name="pictures"), name="classify")
    model = classifier(path, signature="classify", input="pictures", outputs=(("logits", "scores"),))
    assert model(images_of(7))["logits"].tolist() == expected(7)


def test_several_outputs_are_told_apart(tmp_path: Path) -> None:
    import tensorflow as tf

    def serve(input: Any) -> dict[str, Any]:
        found = means(input)
        features = tf.concat([found, found], 1)
        return {"z": found, "a": features[:, None, None, :], "m": tf.nn.softmax(found), "unused": found[:, 0]}

    path = save_signature(tmp_path / "m", serve)
    model = classifier(path, outputs=(("embedding", "a"), ("logits", "z"), ("probabilities", "m")))
    assert model.lengths == {"embedding": 6, "logits": 3, "probabilities": 3}
    found = model(images_of(1, 2))
    assert found["logits"].tolist() == expected(1, 2)
    assert found["embedding"].tolist() == [row * 2 for row in expected(1, 2)]  # [B, 1, 1, 6] is flattened
    assert found["probabilities"].sum(axis=1) == pytest.approx(np.ones(4))


def test_uint8_images(tmp_path: Path) -> None:
    path = save_signature(tmp_path / "m", logits_only, image_spec("uint8"))
    model = classifier(path, dtype="uint8")
    assert model.blank().dtype == np.uint8
    assert model(images_of(80, 85, dtype="uint8"))["logits"].tolist() == expected(80, 85)


def test_outputs_of_another_type_become_float32(tmp_path: Path) -> None:
    import tensorflow as tf

    path = save_signature(tmp_path / "m", lambda input: {"output": tf.cast(means(input), tf.float64)})
    found = classifier(path)(images_of(1))["logits"]
    assert found.dtype == np.float32
    assert found.tolist() == expected(1)


def test_a_model_of_one_batch_size(tmp_path: Path) -> None:
    path = save_signature(tmp_path / "m", logits_only, image_spec(batch=2))
    assert classifier(path, batch_size=2)(images_of(1, 2, batch_size=2))["logits"].tolist() == expected(
        1, 2, batch_size=2
    )
    with pytest.raises(ModelError, match=r"takes float32 \[2, 4, 4, 3\], and .* make float32 \[3, 4, 4, 3\]"):
        classifier(path, batch_size=3)


# The object's call.


def call(images: Any) -> Any:
    return means(images)


def call_with_flag(images: Any, training: bool = False) -> Any:
    return means(images) * (2.0 if training else 1.0)


def call_with_positional_only(images: Any, /) -> Any:
    return means(images)


def call_with_keyword_only(*, input: Any) -> dict[str, Any]:
    return {"output": means(input)}


@pytest.mark.parametrize(
    ("function", "keywords", "changes"),
    [
        (call, {}, {}),
        (call, {}, {"outputs": (("logits", "whatever"),)}),  # a bare tensor has no name
        (call, {}, {"input": "images"}),
        (call_with_flag, {}, {}),
        (call_with_positional_only, {}, {}),
        (call_with_keyword_only, {"input": image_spec}, {}),
        (call_with_keyword_only, {"input": image_spec}, {"input": "input"}),
        (lambda images: {"output": means(images), "else": images}, {}, {}),
        (lambda images: [images, means(images)], {}, {"outputs": (("logits", "1"),)}),
        (lambda images: (images, means(images)), {}, {"outputs": (("logits", "1"),)}),
    ],
)
def test_an_object_is_called(
    tmp_path: Path, function: Callable[..., Any], keywords: dict[str, Any], changes: dict[str, Any]
) -> None:
    path = save_callable(tmp_path / "m", function, **{name: make() for name, make in keywords.items()})
    model = classifier(path, signature=None, **changes)
    assert model(images_of(1, 2, 3))["logits"].tolist() == expected(1, 2, 3)


def test_an_object_that_cannot_be_called(plain: Path) -> None:
    with pytest.raises(ModelError, match=r"model.signature is null, and the model's object cannot be called"):
        classifier(plain, signature=None)


def test_a_callable_without_signatures_says_so(tmp_path: Path) -> None:
    path = save_callable(tmp_path / "m", call)
    with pytest.raises(ModelError, match=r"no signature 'serving_default'; the model has none; set model.signature to"):
        classifier(path)


# Calls.


@pytest.fixture(scope="module")
def fussy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_fussy(tmp_path_factory.mktemp("model") / "fussy")


def test_what_a_model_raises_is_one_line(fussy: Path) -> None:
    model = classifier(fussy)
    with pytest.raises(ModelCallError, match=r"^InvalidArgumentError: .*a value above 200") as caught:
        model(images_of(1, 90))
    assert not caught.value.exhausted
    assert "\n" not in str(caught.value)
    assert model(images_of(1))["logits"].tolist() == expected(1)


class Memory:
    """An engine in whose memory no more images fit than `fits`."""

    title, rewritten = "memory", False

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fits: int, piece: int, calls: int = 1) -> None:
        self.fits, self.calls, self.division = fits, [], Division(piece, calls)
        monkeypatch.setattr(model_module, "_engine", lambda _: self)

    def ahead(self, images: np.ndarray) -> np.ndarray:
        return images

    def compile(self, batch_size: int) -> Any:
        def call(images: np.ndarray) -> dict[str, np.ndarray]:
            assert len(images) == batch_size
            self.calls.append(batch_size)
            if batch_size > self.fits:
                raise ModelCallError("ResourceExhaustedError: too much", exhausted=True)
            return {"logits": images.mean(axis=(1, 2))}

        return call


def test_out_of_memory_halves_the_batch_for_good(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = Memory(monkeypatch, fits=3, piece=10)
    model = Classifier(replace(SPEC, batch_size=10))
    assert list(dict.fromkeys(memory.calls)) == [10, 5, 3]
    memory.calls.clear()
    values = range(1, 11)
    found = model(images_of(*values, batch_size=10))["logits"]
    assert found.tolist() == expected(*values, batch_size=10)  # the last piece of one image was padded
    assert memory.calls == [3, 3, 3, 3]


def test_large_batches_go_through_in_equal_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = Memory(monkeypatch, fits=99, piece=14)
    model = Classifier(replace(SPEC, batch_size=42))
    values = range(1, 43)
    memory.calls.clear()
    assert model(images_of(*values, batch_size=42))["logits"].tolist() == expected(*values, batch_size=42)
    assert memory.calls == [14, 14, 14]
    memory.calls.clear()
    assert model(images_of(*values, batch_size=42)[:17])["logits"].tolist() == expected(*range(1, 18), batch_size=17)
    assert memory.calls == [14, 14]


def test_a_model_of_one_batch_size_gets_whole_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tensorflow as tf

    monkeypatch.setattr(tensorflow_engine, "processors", lambda: 4)
    fixed = save_signature(tmp_path / "fixed", logits_only, tf.TensorSpec((20, SIZE, SIZE, 3), name="input"))
    model = classifier(fixed, batch_size=20)
    assert model._limit == 20
    assert model(images_of(*range(20), batch_size=20))["logits"].tolist() == expected(*range(20), batch_size=20)
    with pytest.raises(
        ModelError, match=r"the model takes float32 \[20, 4, 4, 3\], and .* make float32 \[40, 4, 4, 3\]"
    ):
        classifier(fixed, batch_size=40)


@pytest.mark.parametrize("spelled_out", [True, False])
def test_variables_and_their_constants_say_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spelled_out: bool
) -> None:
    import tensorflow as tf

    class Normalizing(tf.Module):
        def __init__(self) -> None:
            self.mean, self.variance = tf.Variable([1.0, 2.0, 3.0]), tf.Variable([4.0, 4.0, 4.0])
            self.gain = tf.Variable([2.0, 4.0, 6.0])

        @tf.function(input_signature=[image_spec()])
        def serve(self, input: Any) -> dict[str, Any]:
            if spelled_out:
                return {"output": tf.nn.batch_normalization(means(input), self.mean, self.variance, 0, self.gain, 0.0)}
            return {"output": (means(input) - self.mean) * self.gain / 2}

    made, real = [], tensorflow_engine._with_constants
    monkeypatch.setattr(tensorflow_engine, "_with_constants", lambda *given: made.append(1) or real(*given))
    module = Normalizing()
    tf.saved_model.save(module, str(tmp_path), signatures={"serving_default": module.serve})
    found = classifier(tmp_path)(images_of(1, 2, 3, 5))["logits"]
    assert found.tolist() == [[0.0, 0.0, 0.0], [1.0, 4.0, 9.0], [2.0, 8.0, 18.0], [4.0, 16.0, 36.0]]
    assert len(made) == spelled_out


def test_images_are_left_as_they_are(tmp_path: Path) -> None:
    """Read where they lie, and a first layer that could work in place does not."""
    import tensorflow as tf

    path = save_signature(tmp_path / "relu", lambda input: {"output": means(tf.nn.relu(input))})
    images = BATCHES.empty((4, SIZE, SIZE, 3), "float32")
    images[:] = -1
    assert classifier(path)(images)["logits"].tolist() == [[0.0] * 3] * 4
    assert (images == -1).all()
    unaligned = np.full(1 + 4 * SIZE * SIZE * 3, -1.0, np.float32)[1:].reshape(4, SIZE, SIZE, 3)
    assert classifier(path)(unaligned)["logits"].tolist() == [[0.0] * 3] * 4


def test_not_even_one_image_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = Memory(monkeypatch, fits=1, piece=2)
    model = Classifier(replace(SPEC, batch_size=2))
    memory.fits = 0
    with pytest.raises(ModelCallError) as caught:
        model(images_of(1, batch_size=2))
    assert caught.value.exhausted


class Together:
    """An engine whose calls each wait for another one that is under way, and may be told to fail for some images."""

    title, division, rewritten = "together", Division(2, 2), False

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.meet, self.most, self.under_way = threading.Barrier(2), 0, 0
        monkeypatch.setattr(model_module, "_engine", lambda _: self)

    def ahead(self, images: np.ndarray) -> np.ndarray:
        return images

    def compile(self, batch_size: int) -> Any:
        def call(images: np.ndarray) -> dict[str, np.ndarray]:
            if images.any():  # not the blank ones that the model is tried with
                self.under_way += 1
                self.most = max(self.most, self.under_way)
                self.meet.wait(timeout=10)
                self.under_way -= 1
            if (images == 66).any():
                raise ModelCallError("no 66")
            return {"logits": images.mean(axis=(1, 2))}

        return call


def test_pieces_are_called_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Together(monkeypatch)
    model = Classifier(replace(SPEC, batch_size=8))
    assert model(images_of(*range(1, 9), batch_size=8))["logits"].tolist() == expected(*range(1, 9), batch_size=8)
    assert engine.most == 2


def test_no_piece_is_under_way_when_a_batch_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its memory is used again."""
    engine = Together(monkeypatch)
    with pytest.raises(ModelCallError, match="no 66"):
        Classifier(SPEC)(images_of(66, 2, 3, 4))
    assert engine.under_way == 0


def test_a_call_has_a_thread_of_its_own(plain: Path) -> None:
    """In a process in which TensorFlow has not started; the one of these tests has its threads already."""
    code = f"""
import tensorflow as tf
from transforms.engines import tensorflow as engines
from transforms.model import ModelSpec
engines.processors = lambda: 2
spec = ModelSpec({str(plain)!r}, "serving_default", None, (("logits", "output"),), {SPEC.image_shape}, "float32", 32)
engine = engines.TensorFlowEngine(spec)
print(engine.division.piece, engine.division.calls, tf.config.threading.get_intra_op_parallelism_threads())
"""
    environment = {name: value for name, value in os.environ.items() if name != "TF_NUM_INTRAOP_THREADS"}
    for given, told in (({}, "8 2 1"), ({"TF_NUM_INTRAOP_THREADS": "2"}, "16 1 0")):
        done = subprocess.run(
            [sys.executable, "-c", code], env={**environment, **given}, capture_output=True, text=True, check=True
        )
        assert done.stdout.split("\n")[-2] == told


# Loaded once a process.


def test_a_model_is_loaded_once(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loads = []
    real = model_module._engine
    monkeypatch.setattr(model_module, "_engine", lambda spec: loads.append(spec) or real(spec))
    spec = replace(SPEC, path=str(plain))
    found: list[Classifier] = []
    threads = [threading.Thread(target=lambda: found.append(load_classifier(spec))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(loads) == 1
    assert all(model is found[0] for model in found)
    other = load_classifier(replace(spec, batch_size=2))
    assert other is not found[0]
    assert other.spec.batch_size == 2
