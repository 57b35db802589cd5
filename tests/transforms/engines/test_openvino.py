"""SavedModels as OpenVINO runs them: the same outputs as TensorFlow's, and what it does not take is told."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.saved_models import image_spec, means, save_callable, save_fussy, save_signature
from tests.transforms.test_model import SPEC, call, expected, images_of, logits_only
from transforms.engines.engine import ModelError
from transforms.engines.openvino import OpenVINOEngine
from transforms.engines.processor import has_bfloat16

OPENVINO = replace(SPEC, engine="openvino")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_signature(tmp_path_factory.mktemp("model") / "plain", logits_only)


def outputs(path: Path, images: np.ndarray, **changes: Any) -> dict[str, np.ndarray]:
    engine = OpenVINOEngine(replace(OPENVINO, path=str(path), **changes))
    return engine.compile(len(images))(images)


def test_a_signature_is_called(plain: Path) -> None:
    found = outputs(plain, images_of(1, 2, 3, 5))
    assert list(found) == ["logits"]
    assert found["logits"].dtype == np.float32
    assert found["logits"].tolist() == expected(1, 2, 3, 5)


def test_outputs_of_one_call_outlive_the_next(plain: Path) -> None:
    engine = OpenVINOEngine(replace(OPENVINO, path=str(plain)))
    call = engine.compile(4)
    first, images = call(images_of(1)), images_of(2)
    call(images)
    assert first["logits"].tolist() == expected(1)
    assert images.tolist() == images_of(2).tolist()


def test_several_outputs_are_told_apart(tmp_path: Path) -> None:
    import tensorflow as tf

    def serve(input: Any) -> dict[str, Any]:
        found = means(input)
        return {"z": found, "a": tf.concat([found, found], 1)[:, None, None, :], "m": found * 2, "unused": found[:, 0]}

    path = save_signature(tmp_path / "m", serve)
    chosen = (("embedding", "a"), ("logits", "z"), ("probabilities", "m"))
    found = outputs(path, images_of(1, 2), outputs=chosen)
    assert found["logits"].tolist() == expected(1, 2)
    assert found["embedding"].shape == (4, 1, 1, 6)
    assert found["probabilities"].tolist() == (2 * np.array(expected(1, 2))).tolist()


@pytest.mark.parametrize("same", [("z", "y"), ("y", "z")])
def test_an_output_with_two_names(tmp_path: Path, same: tuple[str, str]) -> None:
    def serve(input: Any) -> dict[str, Any]:
        found = means(input)
        return {"y": found, "z": found}

    path = save_signature(tmp_path / "m", serve)
    found = outputs(path, images_of(1, 2), outputs=(("embedding", same[0]), ("logits", same[1])))
    assert found["logits"].tolist() == found["embedding"].tolist() == expected(1, 2)


def test_uint8_images(tmp_path: Path) -> None:
    path = save_signature(tmp_path / "m", logits_only, image_spec("uint8"))
    found = outputs(path, images_of(80, 85, dtype="uint8"), dtype="uint8")
    assert found["logits"].tolist() == expected(80, 85)


def test_outputs_of_another_type_become_float32(tmp_path: Path) -> None:
    import tensorflow as tf

    path = save_signature(tmp_path / "m", lambda input: {"output": tf.cast(means(input), tf.float64)})
    found = outputs(path, images_of(1))["logits"]
    assert found.dtype == np.float32
    assert found.tolist() == expected(1)


def test_variables_are_read(tmp_path: Path) -> None:
    import tensorflow as tf

    module = tf.Module()
    module.gain = tf.Variable([2.0, 4.0, 8.0])
    module.serve = tf.function(lambda input: {"output": means(input) * module.gain}, input_signature=[image_spec()])
    tf.saved_model.save(module, str(tmp_path / "m"), signatures={"serving_default": module.serve})
    assert outputs(tmp_path / "m", images_of(1))["logits"][0].tolist() == [2.0, 8.0, 24.0]


TAKES = "the model takes float32 [-1, 4, 4, 3], and image.size, image.dtype and batch.size make"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"signature": None},
            "model.engine: OpenVINO calls the signature serving_default, not the object itself; "
            "use model.engine: tensorflow",
        ),
        (
            {"signature": "predict"},
            "model.engine: OpenVINO calls the signature serving_default, not signature 'predict'; "
            "use model.engine: tensorflow",
        ),
        ({"input": "image"}, "model.input: no input 'image'; the model has input"),
        ({"outputs": (("logits", "scores"),)}, "model.outputs.logits: no output 'scores'; the model has output"),
        ({"image_shape": (5, 4, 3)}, f"{TAKES} float32 [4, 5, 4, 3]"),
        ({"dtype": "uint8"}, f"{TAKES} uint8 [4, 4, 4, 3]"),
    ],
)
def test_what_does_not_fit_is_told_by_name(plain: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ModelError) as caught:
        OpenVINOEngine(replace(OPENVINO, path=str(plain), **changes))
    assert str(caught.value) == said


def test_a_model_of_one_batch_size(tmp_path: Path) -> None:
    path = save_signature(tmp_path / "m", logits_only, image_spec(batch=2))
    assert outputs(path, images_of(1, 2, batch_size=2), batch_size=2)["logits"].tolist() == expected(1, 2, batch_size=2)
    with pytest.raises(ModelError, match=r"takes float32 \[2, 4, 4, 3\], and .* make float32 \[4, 4, 4, 3\]"):
        outputs(path, images_of(1))


def test_one_of_several_inputs(tmp_path: Path) -> None:
    two = image_spec(name="a"), image_spec(name="b")
    path = save_signature(tmp_path / "m", lambda a, b: {"output": means(a) + means(b)}, *two)
    with pytest.raises(ModelError, match=r"^model.input: the model has several inputs; name one of a, b$"):
        outputs(path, images_of(1))
    with pytest.raises(ModelError, match=r"^the model does not take images alone: its inputs are a, b$"):
        outputs(path, images_of(1), input="b")


def numpy_inside(input: Any) -> dict[str, Any]:
    import tensorflow as tf

    return {"output": tf.numpy_function(lambda values: values, [means(input)], tf.float32)}


def with_strings(input: Any) -> dict[str, Any]:
    import tensorflow as tf

    return {"output": tf.strings.to_number(tf.strings.as_string(means(input)))}


@pytest.mark.parametrize(
    ("serve", "operations"), [(numpy_inside, "PyFunc"), (with_strings, "AsString, StringToNumber")]
)
def test_operations_it_does_not_know_are_named(tmp_path: Path, serve: Callable[..., Any], operations: str) -> None:
    path = save_signature(tmp_path / "m", serve)
    with pytest.raises(ModelError) as caught:
        outputs(path, images_of(1))
    assert str(caught.value) == (
        f"model.engine: OpenVINO cannot read {path}: No conversion rule found for operations: {operations}; "
        "use model.engine: tensorflow"
    )


def test_a_model_without_signatures(tmp_path: Path) -> None:
    path = save_callable(tmp_path / "m", call)
    with pytest.raises(ModelError) as caught:
        outputs(path, images_of(1))
    assert str(caught.value) == (
        "model.engine: the model has no signature that OpenVINO can call; use model.engine: tensorflow"
    )


def test_what_is_no_saved_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        outputs(tmp_path, images_of(1))
    assert str(caught.value) == (
        f'model.engine: OpenVINO cannot read {tmp_path}: Could not open the file: "{tmp_path}/saved_model.pb"; '
        "use model.engine: tensorflow"
    )


def test_openvino_that_is_not_installed(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ModelError, match=r"pip install 'hublabel\[openvino\]', or use model.engine: tensorflow$"):
        OpenVINOEngine(replace(OPENVINO, path=str(plain)))


def test_what_only_a_check_refuses_is_not_a_number(tmp_path: Path) -> None:
    """OpenVINO leaves `check_numerics` out: the row fails for its outputs instead."""
    found = outputs(save_fussy(tmp_path / "m"), images_of(1, 90))["logits"]
    assert np.isnan(found).all()


# Precision.


def product(input: Any) -> dict[str, Any]:
    """A product that needs more than the 8 bits of bfloat16."""
    import tensorflow as tf

    return {"output": tf.linalg.matmul(tf.reshape(input, [-1, 48]), np.full((48, 3), 1.001, np.float32))}


@pytest.mark.skipif(not has_bfloat16(), reason="this processor has no bfloat16")
def test_bfloat16_is_close_and_float32_exact(tmp_path: Path) -> None:
    path = save_signature(tmp_path / "m", product)
    images = np.random.default_rng(0).random((4, 4, 4, 3), np.float32)
    expected = images.reshape(4, 48).sum(axis=1, dtype=np.float64) * 1.001
    exact, fast = (outputs(path, images, precision=name)["logits"] for name in ("float32", "bfloat16"))
    assert np.abs(exact - expected[:, None]).max() < 1e-5 * expected.max()
    assert 1e-5 * expected.max() < np.abs(fast - expected[:, None]).max() < 1e-2 * expected.max()


class OldProcessor:
    """OpenVINO on a processor without bfloat16."""

    def get_property(self, device: str, name: str) -> list[str]:
        assert (device, name) == ("CPU", "OPTIMIZATION_CAPABILITIES")
        return ["FP32", "INT8"]


@pytest.mark.parametrize(
    ("precision", "said"),
    [
        ("bfloat16", "model.precision: this processor has no instructions for bfloat16; use float32"),
        ("float16", "model.precision: OpenVINO computes in float32, bfloat16, int8 here, not in float16"),
    ],
)
def test_a_precision_that_is_not_there(plain: Path, monkeypatch: pytest.MonkeyPatch, precision: str, said: str) -> None:
    monkeypatch.setattr("openvino.Core", OldProcessor)
    with pytest.raises(ModelError) as caught:
        OpenVINOEngine(replace(OPENVINO, path=str(plain), precision=precision))
    assert str(caught.value) == said
