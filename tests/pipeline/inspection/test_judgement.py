"""What outputs are, judged by values and last op alone."""

import numpy as np
import pytest

from pipeline.inspection.judgement import judge, pictures

RNG = np.random.default_rng(0)
SIGNED = RNG.standard_normal((8, 20)).astype(np.float32)
EXP = np.exp(SIGNED)
SOFTMAX = EXP / EXP.sum(axis=1, keepdims=True)


@pytest.mark.parametrize(
    ("name", "values", "operation", "kind"),
    [
        ("out", SIGNED, "BiasAdd", "logits"),
        ("out", SIGNED, None, "logits"),
        ("embedding", SIGNED, "BiasAdd", "features"),
        ("feature_vector", SIGNED, "MatMul", "features"),
        ("logits", SIGNED, "MatMul", "logits"),
        ("out", SIGNED, "Mean", "features"),
        ("out", np.tanh(SIGNED), "Tanh", "features"),
        ("out", np.abs(SIGNED), "BiasAdd", "features"),
        ("out", np.abs(SIGNED) / 10, "Relu", "features"),
        ("out", np.clip(SIGNED, 0, 6), "Relu6", "features"),
        ("out", SIGNED / np.linalg.norm(SIGNED, axis=1, keepdims=True), "Mul", "features"),
        ("out", SOFTMAX, "Softmax", "probabilities"),
        ("embedding", SOFTMAX, None, "probabilities"),
        ("out", np.log(SOFTMAX), "LogSoftmax", "logits"),
        ("out", 1 / (1 + np.exp(-SIGNED)), "Sigmoid", "probabilities"),
        ("out", 1 / (1 + np.exp(-SIGNED[:, :1])), "Sigmoid", "probabilities"),
        ("out", 1 / (1 + np.exp(-SIGNED)), None, "probabilities"),
        ("out", np.zeros((8, 20), np.float32), "BiasAdd", "features"),
        ("out", np.full((8, 20), np.nan, np.float32), "BiasAdd", "not finite"),
    ],
)
def test_kind(name: str, values: np.ndarray, operation: str | None, kind: str) -> None:
    judgement = judge(name, values, operation)
    assert judgement.kind == kind, judgement.why
    assert judgement.length == values.shape[1]
    assert judge(name, values, operation, spatial=True).kind == "feature maps"


def test_pictures_are_the_same_every_time_and_differ_from_each_other() -> None:
    first = pictures(20, 30, "float32")
    assert first.shape == (8, 20, 30, 3)
    assert first.dtype == np.float32
    np.testing.assert_array_equal(first, pictures(20, 30, "float32"))
    assert len({picture.tobytes() for picture in first}) == 8
    raw = pictures(20, 30, "uint8")
    assert (raw.dtype, raw.min(), raw.max()) == (np.uint8, 0, 255)
    np.testing.assert_allclose(
        first[0], (0 - np.array([0.485, 0.456, 0.406])) / [0.229, 0.224, 0.225] + 0 * first[0], rtol=1e-6
    )
