"""The Hub module `rishit-dagli/convmixer-1024-20/1` in small: of the very shape that its converter left it in.

It came from PyTorch through ONNX: the network works on NCHW, the weights are constants (there are no variables), the
object takes keywords only and answers with a dict, and its wrapper turns NHWC into NCHW with `transpose(x, 1, 3)`, so
that the network sees height and width swapped. Images must be transposed for it to see them upright.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pipeline.models.convmixer import Architecture, parameter_shapes


def random_arrays(arch: Architecture, seed: int = 0) -> dict[str, np.ndarray]:
    """A checkpoint's arrays, named as timm names them, with activations that neither vanish nor explode."""
    rng = np.random.default_rng(seed)
    arrays = {}
    for name, shape in parameter_shapes(arch).items():
        values = rng.standard_normal(shape, dtype=np.float32)
        if name.endswith("running_var"):
            values = np.abs(values) + np.float32(0.5)
        elif len(shape) > 1:
            values /= np.float32(np.sqrt(np.prod(shape[1:])))
        elif name.endswith(("2.weight", "3.weight")):
            values = 1 + values / 5
        else:
            values /= 5
        arrays[name] = values
    return arrays


def save_published_module(
    folder: Path, arrays: dict[str, np.ndarray], arch: Architecture, image_size: int = 224
) -> Path:
    """Save the module with the weights of a timm state dict; returns `folder`.

    `serving_default`: `input` float32 `[-1, image_size, image_size, 3]` to `output` `[-1, classes]`.
    """
    import tensorflow as tf

    class Published(tf.Module):
        pass

    specification = tf.TensorSpec([None, image_size, image_size, 3], tf.float32, name="input")

    def call(**inputs: Any) -> dict[str, Any]:
        return {"output": _network(tf.transpose(inputs["input"], [0, 3, 2, 1]), arrays, arch)}

    module = Published()
    function = tf.function(call, autograph=False)
    concrete = function.get_concrete_function(input=specification)
    module.__call__ = function
    tf.saved_model.save(module, str(folder), signatures={"serving_default": concrete})
    return folder


def _network(x: Any, arrays: dict[str, np.ndarray], arch: Architecture) -> Any:
    """`[B, 3, H, W]` to logits; nothing folded. TensorFlow's CPU kernels want NHWC, so each convolution goes there."""
    import tensorflow as tf

    def weight(name: str) -> Any:
        return tf.constant(arrays[name])

    def per_channel(name: str) -> Any:
        return tf.reshape(weight(name), [1, -1, 1, 1])

    def convolve(x: Any, name: str, stride: int = 1, padding: str = "SAME") -> Any:
        kernel = weight(f"{name}.weight")
        x = tf.transpose(x, [0, 2, 3, 1])
        if kernel.shape[1] == 1 and kernel.shape[2] > 1:
            x = tf.nn.depthwise_conv2d(x, tf.transpose(kernel, [2, 3, 0, 1]), [1, 1, 1, 1], padding)
        else:
            x = tf.nn.conv2d(x, tf.transpose(kernel, [2, 3, 1, 0]), stride, padding)
        return tf.transpose(x, [0, 3, 1, 2]) + per_channel(f"{name}.bias")

    def normalize(x: Any, name: str) -> Any:
        deviation = tf.sqrt(per_channel(f"{name}.running_var") + 1e-5)
        x = (x - per_channel(f"{name}.running_mean")) / deviation
        return x * per_channel(f"{name}.weight") + per_channel(f"{name}.bias")

    activate = tf.nn.relu if arch.activation == "relu" else tf.nn.gelu
    x = normalize(activate(convolve(x, "stem.0", arch.patch_size, "VALID")), "stem.2")
    for i in range(arch.depth):
        x = normalize(activate(convolve(x, f"blocks.{i}.0.fn.0")), f"blocks.{i}.0.fn.2") + x
        x = normalize(activate(convolve(x, f"blocks.{i}.1")), f"blocks.{i}.3")
    return tf.reduce_mean(x, [2, 3]) @ tf.transpose(weight("head.weight")) + weight("head.bias")
