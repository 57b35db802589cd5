import json
from pathlib import Path

import numpy as np
import pytest

from pipeline.models.convmixer import (
    VARIANTS,
    Architecture,
    architecture,
    export_convmixer,
    fold_weights,
    forward,
    parameter_shapes,
    trainable_parameters,
)
from pipeline.models.torch_checkpoint import CheckpointError, read_checkpoint
from tests.pipeline.models.published_module import random_arrays
from tests.pipeline.models.torch_files import Writer, save_state_dict

DATA = Path(__file__).parents[2] / "data" / "convmixer"
SPECIFICATIONS = json.loads((DATA / "spec.json").read_text())
SMALL = Architecture(dim=8, depth=2, kernel_size=3, patch_size=4, classes=5)


def fixture_architecture(name):
    wanted = ("dim", "depth", "kernel_size", "patch_size", "activation", "classes")
    return architecture(**{key: SPECIFICATIONS[name][key] for key in wanted})


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Both fixtures, exported from their .pth files."""
    root = tmp_path_factory.mktemp("convmixer")
    for name, spec in SPECIFICATIONS.items():
        export_convmixer(DATA / f"{name}.pth", root / name, fixture_architecture(name), spec["image_size"])
    return root


def images_and_logits(name):
    with np.load(DATA / f"{name}_io.npz") as data:
        return data["images_nhwc"], data["logits"]


# --- the architecture ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variant", "count"), [("1024-20", 24_383_464), ("768-32", 21_110_248), ("1536-20", 51_625_960)]
)
def test_published_variants_have_exactly_their_parameters(variant, count):
    assert trainable_parameters(VARIANTS[variant]) == count


@pytest.mark.parametrize("name", SPECIFICATIONS)
def test_parameters_are_those_of_the_checkpoint(name):
    arch = fixture_architecture(name)
    arrays = read_checkpoint(DATA / f"{name}.safetensors")
    shapes = {key: array.shape for key, array in arrays.items() if not key.endswith("num_batches_tracked")}
    assert parameter_shapes(arch) == shapes
    assert trainable_parameters(arch) == SPECIFICATIONS[name]["trainable_parameters"]


def test_variant_with_other_hyperparameters():
    assert architecture("768-32", classes=10, dim=None) == Architecture(768, 32, 7, 7, "relu", 10)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"variant": "1024-21"}, "no variant '1024-21'; there are 1024-20, 768-32, 1536-20"),
        ({"dim": 8, "patch_size": 4}, "without a variant, depth, kernel_size must be given"),
        ({"variant": "768-32", "depth": 0}, "depth is 0; it must be a whole number of at least 1"),
        ({"variant": "768-32", "activation": "swish"}, "activation is 'swish'; it must be gelu or relu"),
    ],
)
def test_wrong_hyperparameters_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        architecture(**arguments)


# --- parity with PyTorch ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SPECIFICATIONS)
def test_logits_are_those_of_pytorch(name, exported):
    import tensorflow as tf

    images, logits = images_and_logits(name)
    found = tf.saved_model.load(str(exported / name))(images).numpy()
    np.testing.assert_allclose(found, logits, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", SPECIFICATIONS)
def test_parameter_names_of_locuslab(name):
    arch = fixture_architecture(name)
    arrays = read_checkpoint(DATA / f"{name}.safetensors")
    folded, same = fold_weights(arrays, arch), fold_weights(locuslab(arrays, arch.depth), arch)
    assert list(folded) == list(same)
    for key, array in folded.items():
        np.testing.assert_array_equal(array, same[key])


def locuslab(arrays, depth):
    """The same parameters as one nn.Sequential numbers them."""
    starts = {"stem": lambda parts: parts[1:], "head": lambda parts: [str(depth + 5), *parts[1:]]}
    starts["blocks"] = lambda parts: [str(int(parts[1]) + 3), *parts[2:]]
    return {".".join(starts[key.split(".")[0]](key.split("."))): array for key, array in arrays.items()}


@pytest.mark.parametrize("activation", ["gelu", "relu"])
def test_channels_that_batch_normalization_wipes_out(activation):
    arch = architecture(dim=8, depth=2, kernel_size=3, patch_size=4, classes=5, activation=activation)
    arrays = random_arrays(arch)
    for name in ("stem.2", "blocks.0.3", "blocks.1.3", "blocks.1.0.fn.2"):
        arrays[f"{name}.weight"][:3] = [0, 1e-30, -0.5]
    images = np.random.default_rng(1).standard_normal((2, 16, 16, 3), dtype=np.float32)
    expected = unfolded(arrays, images, arch)
    found = forward(np_tensor(images), fold_weights(arrays, arch), arch).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def unfolded(arrays, images, arch):
    """The network as the paper has it, in float64: nothing folded."""
    import tensorflow as tf

    def convolve(x, name, stride=1, padding="SAME"):
        kernel = arrays[f"{name}.weight"].astype(np.float64)
        if kernel.shape[1] == 1 and kernel.shape[2] > 1:
            x = tf.nn.depthwise_conv2d(x, kernel.transpose(2, 3, 0, 1), [1, 1, 1, 1], padding)
        else:
            x = tf.nn.conv2d(x, kernel.transpose(2, 3, 1, 0), stride, padding)
        return x + arrays[f"{name}.bias"]

    def normalize(x, name):
        weight, bias, mean, variance = (
            arrays[f"{name}.{part}"].astype(np.float64) for part in ("weight", "bias", "running_mean", "running_var")
        )
        return (x - mean) / np.sqrt(variance + 1e-5) * weight + bias

    activate = tf.nn.relu if arch.activation == "relu" else tf.nn.gelu
    x = normalize(activate(convolve(images.astype(np.float64), "stem.0", arch.patch_size, "VALID")), "stem.2")
    for i in range(arch.depth):
        x = normalize(activate(convolve(x, f"blocks.{i}.0.fn.0")), f"blocks.{i}.0.fn.2") + x
        x = normalize(activate(convolve(x, f"blocks.{i}.1")), f"blocks.{i}.3")
    return tf.reduce_mean(x, [1, 2]).numpy() @ arrays["head.weight"].T + arrays["head.bias"]


def np_tensor(array):
    import tensorflow as tf

    return tf.constant(array)


# --- the promises of the Hub page ------------------------------------------------------------------------------------

NAME = "gelu_k5_p7"


def test_hub_load_call_and_signature(exported):
    import tensorflow_hub as hub

    images, logits = images_and_logits(NAME)
    model = hub.load(str(exported / NAME))
    signature = model.signatures["serving_default"]
    (specification,) = signature.structured_input_signature[1].values()
    assert (specification.name, specification.dtype.name) == ("input", "float32")
    assert specification.shape.as_list() == [None, 56, 56, 3]
    for found in (model(images), signature(np_tensor(images))["output"], signature(input=np_tensor(images))["output"]):
        np.testing.assert_allclose(found.numpy(), logits, rtol=1e-4, atol=1e-6)


def test_keras_layer(exported):
    import tensorflow_hub as hub
    import tf_keras

    images, logits = images_and_logits(NAME)
    layer = hub.KerasLayer(str(exported / NAME))
    np.testing.assert_allclose(layer(images).numpy(), logits, rtol=1e-4, atol=1e-6)
    model = tf_keras.Sequential([tf_keras.Input((56, 56, 3)), layer])
    assert model.output_shape == (None, 10)
    np.testing.assert_allclose(model.predict(images, verbose=0), logits, rtol=1e-4, atol=1e-6)


def test_keras_layer_can_be_trained(exported):
    import tensorflow as tf
    import tensorflow_hub as hub

    images, _ = images_and_logits(NAME)
    layer = hub.KerasLayer(str(exported / NAME), trainable=True)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(images) ** 2)
    gradients = tape.gradient(loss, layer.trainable_variables)
    weights = fold_weights(read_checkpoint(DATA / f"{NAME}.pth"), fixture_architecture(NAME))
    assert [gradient.shape for gradient in gradients] == [array.shape for array in weights.values()]
    assert all(float(tf.reduce_max(tf.abs(gradient))) > 0 for gradient in gradients)


def test_graph_is_nhwc_without_transpositions_or_batch_normalization(exported):
    import tensorflow as tf

    graph = tf.saved_model.load(str(exported / NAME)).signatures["serving_default"].graph
    operations = {node.op for function in graph.as_graph_def().library.function for node in function.node_def}
    assert {"Conv2D", "DepthwiseConv2dNative", "Erf", "BiasAdd"} <= operations
    assert not {"Transpose", "FusedBatchNormV3", "Rsqrt"} & operations


# --- checkpoints that do not fit -------------------------------------------------------------------------------------


def test_missing_parameter_is_named_with_its_file(tmp_path):
    arrays = random_arrays(SMALL)
    del arrays["blocks.1.0.fn.2.running_var"]
    path = save_state_dict(tmp_path / "w.safetensors", arrays)
    message = r"w\.safetensors: ConvMixer-8/2: the checkpoint lacks the parameter 'blocks\.1\.0\.fn\.2\.running_var'"
    with pytest.raises(CheckpointError, match=message):
        export_convmixer(path, tmp_path / "model", SMALL, 16)
    assert [path.name for path in tmp_path.iterdir()] == ["w.safetensors"]


def test_misshaped_parameter_is_named_with_both_shapes():
    arrays = random_arrays(architecture(dim=8, depth=2, kernel_size=5, patch_size=4, classes=5))
    message = r"'blocks\.0\.0\.fn\.0\.weight' has shape \[8, 1, 5, 5\], expected \[8, 1, 3, 3\]"
    with pytest.raises(CheckpointError, match=message):
        fold_weights(arrays, SMALL)


def test_unexpected_parameters_are_named():
    arrays = random_arrays(architecture(dim=8, depth=3, kernel_size=3, patch_size=4, classes=5))
    with pytest.raises(CheckpointError, match=r"unexpected parameters: 'blocks\.2\.0\.fn\.0\.weight', .* and 9 more"):
        fold_weights(arrays, SMALL)


def test_image_below_the_patch_size(tmp_path):
    with pytest.raises(ValueError, match="image_size is 3; it must be at least the patch size 4"):
        export_convmixer(tmp_path / "w.pth", tmp_path / "model", SMALL, 3)


def test_image_that_is_no_multiple_of_the_patch_size(tmp_path):
    import tensorflow as tf

    path = save_state_dict(tmp_path / "w.pth", random_arrays(SMALL))
    export_convmixer(path, tmp_path / "model", SMALL, 19)
    model = tf.saved_model.load(str(tmp_path / "model"))
    images = np.random.default_rng(0).standard_normal((1, 19, 19, 3), dtype=np.float32)
    changed = images.copy()
    changed[:, 16:], changed[:, :, 16:] = 9, 9
    np.testing.assert_array_equal(model(images).numpy(), model(changed).numpy())


def test_nested_checkpoint_with_prefix(tmp_path):
    writer = Writer()
    arrays = random_arrays(SMALL)
    content = {"epoch": 90, "state_dict": {f"module.{name}": writer.add(array) for name, array in arrays.items()}}
    found = fold_weights(read_checkpoint(writer.save_legacy(tmp_path / "w.pth.tar", content)), SMALL)
    for name, array in fold_weights(arrays, SMALL).items():
        np.testing.assert_array_equal(found[name], array)
