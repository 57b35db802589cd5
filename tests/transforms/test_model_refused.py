"""Models that do not fit the config: told by name, with what the model has instead."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.saved_models import image_spec, means, save_callable, save_signature
from tests.transforms.test_model import call, call_with_keyword_only, classifier, logits_only
from transforms.model import ModelError


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_signature(tmp_path_factory.mktemp("model") / "plain", logits_only)


TAKES = "the model takes float32 [-1, 4, 4, 3], and image.size, image.dtype and batch.size make"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"signature": "predict"}, "model.signature: no signature 'predict'; the model has serving_default"),
        ({"input": "image"}, "model.input: no input 'image'; the model has input"),
        ({"outputs": (("logits", "scores"),)}, "model.outputs.logits: no output 'scores'; the model has output"),
        (
            {"outputs": (("embedding", "features"), ("logits", "output"))},
            "model.outputs.embedding: no output 'features'; the model has output",
        ),
        ({"image_shape": (5, 4, 3)}, f"{TAKES} float32 [4, 5, 4, 3]"),
        ({"dtype": "uint8"}, f"{TAKES} uint8 [4, 4, 4, 3]"),
    ],
)
def test_what_does_not_fit_is_told_by_name(plain: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ModelError) as caught:
        classifier(plain, **changes)
    assert str(caught.value) == said


@pytest.mark.parametrize("change", [{"image_shape": (5, 4, 3)}, {"dtype": "uint8"}])
@pytest.mark.parametrize("keyword_only", [False, True])
def test_an_object_that_takes_other_images(tmp_path: Path, keyword_only: bool, change: dict[str, Any]) -> None:
    keywords = {"input": image_spec()} if keyword_only else {}
    path = save_callable(tmp_path / "m", call_with_keyword_only if keyword_only else call, **keywords)
    with pytest.raises(ModelError, match=r"the model takes float32 .-1, 4, 4, 3., and image.size, image.dtype and"):
        classifier(path, signature=None, **change)


def test_an_object_with_several_inputs(tmp_path: Path) -> None:
    two = {"a": image_spec(name="a"), "b": image_spec(name="b")}
    path = save_callable(tmp_path / "m", lambda a, b: means(a) + means(b), **two)
    with pytest.raises(ModelError, match=r"model.input: the model has several inputs; name one of a, b"):
        classifier(path, signature=None)


def test_a_model_that_fails_on_anything(tmp_path: Path) -> None:
    import tensorflow as tf

    path = save_signature(
        tmp_path / "m", lambda input: {"output": tf.debugging.check_numerics(means(input) / 0.0, "!")}
    )
    with pytest.raises(
        ModelError, match=r"the model fails on float32 \[4, 4, 4, 3\] of zeros: InvalidArgumentError: !"
    ):
        classifier(path)


def test_an_output_that_is_not_by_image(tmp_path: Path) -> None:
    path = save_signature(tmp_path / "m", lambda input: {"output": means(input)[0]})
    with pytest.raises(ModelError) as caught:
        classifier(path)
    said = "model.outputs.logits: its shape is [3] for 4 images; it must have a row for each"
    assert str(caught.value) == said


def test_one_of_several_inputs_must_be_named(tmp_path: Path) -> None:
    path = save_signature(
        tmp_path / "m", lambda a, b: {"output": means(a) + means(b)}, image_spec(name="a"), image_spec(name="b")
    )
    with pytest.raises(ModelError, match=r"model.input: the model has several inputs; name one of a, b"):
        classifier(path)
    with pytest.raises(ModelError, match=r"the model does not take") as caught:  # it needs the other one as well
        classifier(path, input="a")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"not a graph", None])
def test_a_folder_that_is_no_saved_model(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "saved_model.pb").write_bytes(content)
    with pytest.raises(ModelError, match=f"model.handle: {tmp_path} cannot be loaded as a SavedModel: ") as caught:
        classifier(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_model_without_its_variables(tmp_path: Path, plain: Path) -> None:
    (tmp_path / "saved_model.pb").write_bytes((plain / "saved_model.pb").read_bytes())
    with pytest.raises(ModelError, match=f"model.handle: {tmp_path} cannot be loaded as a SavedModel: "):
        classifier(tmp_path)
