"""Rewritten functions compute what they computed, in fewer passes; what is not understood is used as it is."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from pipeline.models.convmixer import architecture, fold_weights, forward
from pipeline.models.saved_model import save_classifier
from pipeline.models.torch_checkpoint import read_checkpoint
from tests.pipeline.models.published_module import save_published_module
from tests.transforms.test_model import SPEC
from transforms.engines.graphs import NotRewritableError
from transforms.engines.openvino import OpenVINOEngine
from transforms.engines.rewriting import rewritten
from transforms.engines.tensorflow import TensorFlowEngine

DATA = Path(__file__).parents[2] / "data" / "convmixer"
SHAPE = (2, 8, 8, 3)
CLOSE = 1e-6  # of the largest value


def random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


KERNEL, DEEP = random(3, 3, 3, 3) / 5, random(3, 3, 3, 1) / 3
SCALE, SHIFT = 1 + random(3, seed=1) / 5, random(3, seed=2) / 5
MEAN, VARIANCE = random(3, seed=3) / 5, np.abs(random(3, seed=4)) + 0.5


def gelu(x: Any) -> Any:
    return tf.nn.gelu(x)


def convolved(x: Any) -> Any:
    return tf.nn.bias_add(tf.nn.conv2d(x, KERNEL, 1, "SAME"), SHIFT)


def concrete(call: Callable[[Any], Any], shape: tuple[int, ...] = SHAPE) -> Any:
    return tf.function(call, input_signature=[tf.TensorSpec(shape)], autograph=False).get_concrete_function()


def flat(found: Any) -> list[np.ndarray]:
    return [tensor.numpy() for tensor in tf.nest.flatten(found)]


def check(function: Any, shape: tuple[int, ...] = SHAPE) -> Counter[str]:
    """See that `function` rewritten gives the same; the operations of the rewritten one, without its inputs."""
    images = random(*shape, seed=9)
    found, expected = rewritten(function), flat(function(tf.constant(images)))
    for ours, theirs in zip(flat(found(tf.constant(images))), expected, strict=True):
        assert ours.shape == theirs.shape
        assert np.abs(ours - theirs).max() <= CLOSE * np.abs(theirs).max()
    operations = Counter(operation.type for operation in found.graph.get_operations())
    for passing in ("Placeholder", "Identity", "Const"):
        operations.pop(passing, None)
    return operations


# What stands between two convolutions becomes one function.


def test_an_activation_and_an_affine_map_are_one_pass() -> None:
    function = concrete(lambda x: gelu(convolved(x)) * SCALE + SHIFT)
    assert check(function) == {"Conv2D": 1, "PartitionedCall": 1}


def test_batch_normalization_and_a_residual_join() -> None:
    def block(x: Any) -> Any:
        normal, *_ = tf.compat.v1.nn.fused_batch_norm(
            gelu(convolved(x)), SCALE, SHIFT, MEAN, VARIANCE, 1e-3, is_training=False
        )
        return normal + x

    assert check(concrete(lambda x: block(block(x)))) == {"Conv2D": 2, "PartitionedCall": 2}


def test_a_cluster_does_not_reach_around_a_convolution() -> None:
    """The residual connects what is before the convolution with what is behind it: two passes, not one in a circle."""

    def call(x: Any) -> Any:
        before = gelu(x) * SCALE
        return gelu(convolved(before)) + before

    assert check(concrete(call)) == {"Conv2D": 1, "PartitionedCall": 2}


def test_several_values_of_a_cluster_are_used() -> None:
    def call(x: Any) -> Any:
        inside = tf.math.erf(convolved(x))
        after = inside * SCALE + SHIFT
        return {"a": convolved(inside), "b": tf.reduce_mean(after, [1, 2]), "c": after}

    assert check(concrete(call)) == {"Conv2D": 2, "BiasAdd": 1, "PartitionedCall": 1, "Mean": 1}


def test_clusters_of_one_kind_are_one_function() -> None:
    found = rewritten(concrete(lambda x: gelu(convolved(gelu(convolved(gelu(convolved(x))))))))
    calls = [operation for operation in found.graph.get_operations() if operation.type == "PartitionedCall"]
    assert len(calls) == 3
    assert len({call.get_attr("f").name for call in calls}) == 1
    assert all(call.get_attr("_XlaMustCompile") for call in calls)


def test_without_an_erf_nothing_is_compiled() -> None:
    assert "PartitionedCall" not in check(concrete(lambda x: tf.nn.relu(convolved(x)) * SCALE + SHIFT))


def test_what_is_not_a_number_stays_so() -> None:
    images = random(*SHAPE)
    images[1, 3, 3, 0] = np.nan
    function = concrete(lambda x: tf.nn.relu(gelu(convolved(x))) * SCALE)
    assert check(function) == {"Conv2D": 1, "PartitionedCall": 1, "Relu": 1, "Mul": 1}  # XLA's maximum drops NaN
    (found,), (expected,) = flat(rewritten(function)(tf.constant(images))), flat(function(tf.constant(images)))
    assert np.isnan(found).tolist() == np.isnan(expected).tolist()
    assert np.isnan(found[1]).any()


# Transpositions meet and vanish.


def to_nchw(x: Any) -> Any:
    return tf.transpose(x, [0, 3, 1, 2])


def to_nhwc(x: Any) -> Any:
    return tf.transpose(x, [0, 2, 3, 1])


def per_channel(values: np.ndarray) -> Any:
    return tf.reshape(tf.constant(values), [1, -1, 1, 1])


def test_channels_first_is_turned_around() -> None:
    def call(x: Any) -> Any:
        x = to_nchw(x)
        for _ in range(2):
            inside = to_nchw(tf.nn.conv2d(to_nhwc(x), KERNEL, 1, "SAME")) + per_channel(SHIFT)
            x = (gelu(inside) - per_channel(MEAN)) / tf.sqrt(per_channel(VARIANCE) + 1e-5) + x
        return tf.reduce_mean(x, [2, 3])

    assert check(concrete(call)) == {"Conv2D": 2, "PartitionedCall": 2, "Mean": 1}


@pytest.mark.parametrize(
    "call",
    [
        lambda x: gelu(to_nchw(x)),  # the output is transposed
        lambda x: gelu(to_nchw(x)) + random(3, 8, 8),
        lambda x: gelu(to_nchw(x)) + random(8),
        lambda x: gelu(to_nchw(x)) + random(2, 1, 1, 1, 1),
        lambda x: gelu(to_nchw(x)) * np.float32(3.0),
        lambda x: gelu(to_nchw(x)) * np.array([3.0], np.float32),
        lambda x: gelu(to_nchw(x)) + tf.transpose(x, [0, 3, 2, 1]),  # of two kinds
        lambda x: gelu(to_nchw(x)) + tf.reduce_mean(x, [1, 2])[:, :, None, None],
        lambda x: gelu(tf.transpose(tf.transpose(x, [0, 3, 2, 1]), [0, 2, 3, 1])),
        lambda x: tf.reduce_mean(gelu(to_nchw(x)), [2, 3]),
        lambda x: tf.reduce_mean(gelu(to_nchw(x)), [2]),
        lambda x: tf.reduce_mean(gelu(to_nchw(x)), [1]),
        lambda x: tf.reduce_mean(gelu(to_nchw(x)), [2, 3], keepdims=True),
        lambda x: tf.reduce_mean(gelu(tf.transpose(x, [0, 3, 2, 1])), [3]),
        lambda x: tf.reduce_mean(gelu(to_nchw(x)), [-1, -2]),
        lambda x: tf.reshape(gelu(to_nchw(x)), [2, -1]),
        lambda x: tf.concat([gelu(to_nchw(x)), to_nchw(x)], 1),
        lambda x: tf.nn.bias_add(gelu(to_nchw(x)), random(8)),
        lambda x: gelu(x) @ random(3, 5),
        lambda x: tf.transpose(gelu(x), tf.range(3, -1, -1)),
        lambda x: tf.split(gelu(x), 2, axis=1),
        lambda x: tf.where(gelu(x) > 0, x, tf.zeros_like(x)),
        lambda x: x,
        lambda x: {"a": gelu(x), "b": tf.constant([1.0, 2.0])},
    ],
)  # fmt: skip
def test_any_use_of_what_is_transposed_gives_the_same(call: Callable[[Any], Any]) -> None:
    check(concrete(call))


@pytest.mark.parametrize("order", [None, [0, 3, 1, 2], [0, 2, 1, 3]])
@pytest.mark.parametrize("form", ["NHWC", "NCHW"])
def test_batch_normalization_of_what_is_transposed(order: list[int] | None, form: str) -> None:
    def call(x: Any) -> Any:
        x = tf.transpose(x, order) if order else x
        size = x.shape[1 if form == "NCHW" else 3]
        parts = [np.abs(random(size, seed=seed)) + 0.5 for seed in range(4)]
        outputs = tf.raw_ops.FusedBatchNormV3(
            x=gelu(x), scale=parts[0], offset=parts[1], mean=parts[2], variance=parts[3],
            epsilon=0.25, data_format=form, is_training=False,
        )  # fmt: skip
        return outputs.y

    images = tf.constant(random(*SHAPE, seed=9))
    (found,) = flat(rewritten(concrete(call))(images))
    axes = [1, 2, 3] if form == "NHWC" else [2, 3, 1]
    x = tf.transpose(images, order) if order else images
    parts = [np.abs(random(x.shape[axes[2]], seed=seed)) + 0.5 for seed in range(4)]
    wide = [part.reshape(-1, 1, 1) if form == "NCHW" else part for part in parts]
    expected = (gelu(x).numpy() - wide[2]) / np.sqrt(wide[3] + 0.25) * wide[0] + wide[1]
    assert np.abs(found - expected).max() <= CLOSE * np.abs(expected).max()


@pytest.mark.parametrize(("mean", "variance", "factor"), [(MEAN[:0], VARIANCE[:0], 1.0), (MEAN, VARIANCE, 0.5)])
def test_batch_normalization_by_the_batch_itself(mean: np.ndarray, variance: np.ndarray, factor: float) -> None:
    def call(x: Any) -> Any:
        outputs = tf.raw_ops.FusedBatchNormV3(
            x=gelu(x), scale=SCALE, offset=SHIFT, mean=mean, variance=variance,
            exponential_avg_factor=factor, is_training=True,
        )  # fmt: skip
        return outputs.y

    check(concrete(call))


# Functions and variables.


def test_functions_are_inlined_and_variables_read_once() -> None:
    kernel, shift = tf.Variable(KERNEL), tf.Variable(SHIFT)

    @tf.function
    def block(x: Any) -> Any:
        return gelu(tf.nn.bias_add(tf.nn.conv2d(x, kernel, 1, "SAME"), shift))

    function = concrete(lambda x: block(block(x)))
    assert check(function) == {"Conv2D": 2, "PartitionedCall": 2}
    kernel.assign(tf.zeros_like(kernel))  # the model is not trained any more: what was read stays
    images = tf.constant(random(*SHAPE))
    assert np.abs(flat(rewritten(function)(images))[0] - gelu(SHIFT).numpy()).max() < CLOSE


def counting(x: Any) -> Any:
    tf.print("side effect", output_stream="file:///dev/null")
    return gelu(x)


def stepping(x: Any) -> Any:
    return tf.while_loop(lambda x: tf.reduce_sum(x) < 0, lambda x: [gelu(x)], [x])[0]


@pytest.mark.parametrize(("call", "kind"), [(counting, "PrintV2"), (stepping, "StatelessWhile|While")])
def test_what_has_effects_or_takes_functions_is_left_alone(call: Callable[[Any], Any], kind: str) -> None:
    with pytest.raises(NotRewritableError, match=f"^({kind}) has a state or an effect, or takes functions"):
        rewritten(concrete(call))


# Whole models, as the engine loads them.


@pytest.fixture(scope="module", params=["relu_k7_p4", "gelu_k5_p7"])
def convmixer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A small ConvMixer in the forms that models come in, with images and logits of PyTorch's."""
    given = json.loads((DATA / "spec.json").read_text())[request.param]
    size = given["image_size"]
    names = ("dim", "depth", "kernel_size", "patch_size", "classes", "activation")
    arch = architecture(**{name: given[name] for name in names if name in given})
    arrays = read_checkpoint(DATA / f"{request.param}.pth")
    folder = tmp_path_factory.mktemp("convmixer")
    save_published_module(folder / "published", arrays, arch, size)
    save_classifier(lambda x, w: forward(x, w, arch), fold_weights(arrays, arch), (size, size), folder / "exported")
    with np.load(DATA / f"{request.param}_io.npz") as file:
        return {"folder": folder, "size": size, "images": file["images_nhwc"], "logits": file["logits"]}


@pytest.mark.parametrize("engine", [TensorFlowEngine, OpenVINOEngine])
@pytest.mark.parametrize("form", ["published", "exported"])
def test_a_convmixer_still_gives_pytorchs_logits(
    convmixer: dict[str, Any], form: str, engine: Any, caplog: pytest.LogCaptureFixture
) -> None:
    images = convmixer["images"]
    if form == "published":
        images = np.ascontiguousarray(images.transpose(0, 2, 1, 3))  # it sees height and width swapped
    spec = replace(
        SPEC, path=str(convmixer["folder"] / form), image_shape=images.shape[1:], batch_size=len(images)
    )  # fmt: skip
    found = engine(spec).compile(len(images))(images)["logits"]
    np.testing.assert_allclose(found, convmixer["logits"], rtol=1e-4, atol=1e-6)
    assert caplog.messages == []


def saved(folder: Path, call: Callable[[Any], Any]) -> str:
    module = tf.Module()
    module.serve = tf.function(lambda input: {"output": call(input)}, input_signature=[tf.TensorSpec(SHAPE)])
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.serve})
    return str(folder)


def test_a_model_that_cannot_be_rewritten_is_used_as_it_is(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    path = saved(tmp_path / "m", lambda x: tf.reduce_mean(counting(x), [1, 2]))
    images = random(*SHAPE)
    caplog.clear()
    found = TensorFlowEngine(replace(SPEC, path=path, image_shape=SHAPE[1:], batch_size=2)).compile(2)(images)["logits"]
    assert np.abs(found - gelu(images).numpy().mean((1, 2))).max() < CLOSE
    assert caplog.messages == [
        "the model's graph is used as it is: PrintV2 has a state or an effect, or takes functions"
    ]


@pytest.mark.parametrize(
    "error",
    [
        TypeError("unhashable"),
        ValueError("Dimensions must be equal"),
        tf.errors.InvalidArgumentError(None, None, "Incompatible shapes: [3] vs. [0]"),
    ],
)
def test_a_model_that_rewriting_fails_on_is_used_as_it_is(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def failing(function: Any) -> Any:
        raise error

    caplog.set_level(logging.INFO)
    monkeypatch.setattr("transforms.engines.rewriting.rewritten", failing)
    path = saved(tmp_path / "m", lambda x: tf.reduce_mean(gelu(x), [1, 2]))
    images = random(*SHAPE)
    call = TensorFlowEngine(replace(SPEC, path=path, image_shape=SHAPE[1:], batch_size=2)).compile(2)
    assert np.abs(call(images)["logits"] - gelu(images).numpy().mean((1, 2))).max() < CLOSE
    assert caplog.messages[-1] == f"the model's graph is used as it is: {error}"


def test_a_model_that_fails_rewritten_is_used_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    calls = []

    def failing(function: Any) -> Any:
        def call(images: Any) -> Any:
            calls.append(1)
            raise tf.errors.InvalidArgumentError(None, None, "XLA does not know this")

        return call

    monkeypatch.setattr("transforms.engines.rewriting.rewritten", failing)
    path = saved(tmp_path / "m", lambda x: tf.reduce_mean(gelu(x), [1, 2]))
    images = random(*SHAPE)
    call = TensorFlowEngine(replace(SPEC, path=path, image_shape=SHAPE[1:], batch_size=2)).compile(2)
    for _ in range(2):
        assert np.abs(call(images)["logits"] - gelu(images).numpy().mean((1, 2))).max() < CLOSE
    assert calls == [1]
    assert caplog.messages == ["the model's graph is used as it is; rewritten it fails: XLA does not know this"]
