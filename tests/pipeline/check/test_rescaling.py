"""What models do to their input first, found in graphs as Keras, TensorFlow and hand-written modules leave them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.check.rescaling import Rescaling, find_rescaling
from tests.saved_models import means, save_callable, save_signature


@pytest.mark.parametrize(
    ("first", "found"),
    [
        (lambda x: x / 127.5 - 1.0, (1 / 127.5, -1.0)),
        (lambda x: (x - 127.0) * (1 / 128.0), (1 / 128, -127 / 128)),
        (lambda x: x * 2.0 - 1.0, (2.0, -1.0)),
        (lambda x: 1.0 - x / 255.0, (-1 / 255, 1.0)),
        (lambda x: (x - [124.0, 116.0, 104.0]) / [50.0, 50.0, 50.0], (1 / 50, -(124 + 116 + 104) / 3 / 50)),
        (lambda x: x, None),
    ],
)
def test_arithmetic_with_constants(tmp_path: Path, first: Callable[[Any], Any], found: Any) -> None:
    path = save_signature(tmp_path / "model", lambda input: {"output": means(first(input))})
    assert_found(find_rescaling(str(path), "serving_default", None), found)
    assert_found(find_rescaling(str(path), "serving_default", "input"), found)


def assert_found(rescaling: Rescaling | None, found: Any) -> None:
    if found is None:
        assert rescaling is None
    else:
        assert rescaling is not None
        assert (rescaling.factor, rescaling.offset) == pytest.approx(found, rel=1e-5)


def test_keras_rescaling(tmp_path: Path) -> None:
    import tensorflow as tf

    layers = [tf.keras.Input((8, 8, 3)), tf.keras.layers.Rescaling(1 / 127.5, -1), tf.keras.layers.Conv2D(2, 3)]
    tf.keras.Sequential(layers).export(str(tmp_path / "model"), verbose=False)
    assert_found(find_rescaling(str(tmp_path / "model"), "serving_default", None), (1 / 127.5, -1.0))


def test_where_it_cannot_look_it_finds_nothing(tmp_path: Path) -> None:
    path = save_signature(tmp_path / "model", lambda input: {"output": means(input / 255.0) + means(input)})
    assert find_rescaling(str(path), "serving_default", None) is None  # the images go two ways
    assert find_rescaling(str(path), "other", None) is None
    assert find_rescaling(str(path), "serving_default", "other") is None
    assert find_rescaling(str(save_callable(tmp_path / "call", lambda x: means(x / 255.0))), None, None) is None
    assert find_rescaling(str(tmp_path), "serving_default", None) is None
