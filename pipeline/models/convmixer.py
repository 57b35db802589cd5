"""ConvMixer: "Patches Are All You Need?" (Trockman, Kolter 2022, https://arxiv.org/abs/2201.09792) as a SavedModel.

A patch embedding (convolution p x p with stride p), then `depth` blocks of a residual depthwise convolution k x k and
a convolution 1 x 1, each followed by activation and batch normalization; global average pooling; a dense layer.

Batch normalization stands *behind* the activations, so it cannot simply be folded into the convolution before it.
`fold_weights` folds it into what comes after, without approximation. See there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pipeline.models.parameters import Parameters
from pipeline.models.saved_model import save_classifier
from pipeline.models.torch_checkpoint import CheckpointError, read_checkpoint

if TYPE_CHECKING:
    import tensorflow as tf

BATCH_NORM_EPSILON = 1e-5  # PyTorch's default
ACTIVATIONS = ("gelu", "relu")
IMAGE_SIZE = 224  # pixels

# Below this a channel's scale is taken for zero: dividing by it would leave the range of float32.
TINY = 1e-20


@dataclass(frozen=True)
class Architecture:
    """Hyperparameters of a ConvMixer.

    Attributes:
        dim: channels throughout.
        depth: number of blocks.
        kernel_size: of the depthwise convolutions, in patches.
        patch_size: in pixels.
        activation: `gelu` (exact, with erf) or `relu`.
        classes: number of logits.

    Raises:
        ValueError: a number is below 1, or the activation is unknown.
    """

    dim: int
    depth: int
    kernel_size: int
    patch_size: int
    activation: str = "gelu"
    classes: int = 1000

    def __post_init__(self) -> None:
        for name in ("dim", "depth", "kernel_size", "patch_size", "classes"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"ConvMixer: {name} is {value!r}; it must be a whole number of at least 1")
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"ConvMixer: activation is {self.activation!r}; it must be {' or '.join(ACTIVATIONS)}")


# The three models with published ImageNet weights.
VARIANTS = {
    "1024-20": Architecture(dim=1024, depth=20, kernel_size=9, patch_size=14),
    "768-32": Architecture(dim=768, depth=32, kernel_size=7, patch_size=7, activation="relu"),
    "1536-20": Architecture(dim=1536, depth=20, kernel_size=9, patch_size=7),
}


def architecture(variant: str | None = None, **hyperparameters: Any) -> Architecture:
    """A published variant, with the given hyperparameters in place of its own; or one from hyperparameters alone.

    Args:
        variant: a key of `VARIANTS`, or None.
        hyperparameters: attributes of `Architecture`; None counts as not given.

    Raises:
        ValueError: an unknown variant, a missing or a wrong hyperparameter.
    """
    given = {name: value for name, value in hyperparameters.items() if value is not None}
    if variant is not None:
        if variant not in VARIANTS:
            raise ValueError(f"ConvMixer: no variant {variant!r}; there are {', '.join(VARIANTS)}")
        return replace(VARIANTS[variant], **given)
    missing = [name for name in ("dim", "depth", "kernel_size", "patch_size") if name not in given]
    if missing:
        raise ValueError(f"ConvMixer: without a variant, {', '.join(missing)} must be given")
    return Architecture(**given)


def parameter_shapes(arch: Architecture) -> dict[str, tuple[int, ...]]:
    """Name and shape of every parameter and every running statistic, as timm's ConvMixer has them."""
    dim, kernel = arch.dim, arch.kernel_size
    shapes: dict[str, tuple[int, ...]] = {}

    def add(convolution: str, shape: tuple[int, ...], batch_norm: str) -> None:
        shapes.update({f"{convolution}.weight": shape, f"{convolution}.bias": (dim,)})
        for part in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{batch_norm}.{part}"] = (dim,)

    add("stem.0", (dim, 3, arch.patch_size, arch.patch_size), "stem.2")
    for i in range(arch.depth):
        add(f"blocks.{i}.0.fn.0", (dim, 1, kernel, kernel), f"blocks.{i}.0.fn.2")
        add(f"blocks.{i}.1", (dim, dim, 1, 1), f"blocks.{i}.3")
    return {**shapes, "head.weight": (arch.classes, dim), "head.bias": (arch.classes,)}


def trainable_parameters(arch: Architecture) -> int:
    """How many numbers training adjusts: everything but the running statistics of batch normalization."""
    return sum(math.prod(shape) for name, shape in parameter_shapes(arch).items() if ".running_" not in name)


def export_convmixer(
    checkpoint: str | Path, output_dir: str | Path, arch: Architecture, image_size: int = IMAGE_SIZE
) -> None:
    """Write a ConvMixer with the weights of a PyTorch checkpoint as a TF2 SavedModel, fit for TensorFlow Hub.

    `serving_default` takes `input`, float32 `[-1, image_size, image_size, 3]` (upright, normalized with ImageNet's
    mean and standard deviation), and gives `output`, logits float32 `[-1, classes]`. `model(images)` and
    `hub.KerasLayer` work too. The folder appears whole or not at all, and replaces an older SavedModel.

    Args:
        checkpoint: as `read_checkpoint` takes it, with the parameter names of timm or of locuslab/convmixer.
        output_dir: the SavedModel's folder.
        arch: must fit the checkpoint.
        image_size: height and width in pixels; what exceeds a multiple of the patch size is not looked at.

    Raises:
        CheckpointError: the checkpoint cannot be read, or a parameter is missing, unexpected or mis-shaped.
        ValueError: `image_size` is below the patch size, or `output_dir` holds something that is no SavedModel.
    """
    if image_size < arch.patch_size:
        raise ValueError(f"ConvMixer: image_size is {image_size}; it must be at least the patch size {arch.patch_size}")
    arrays = read_checkpoint(checkpoint)
    try:
        weights = fold_weights(arrays, arch)
    except CheckpointError as error:
        raise CheckpointError(f"{checkpoint}: {error}") from None
    save_classifier(lambda images, variables: forward(images, variables, arch), weights, (image_size,) * 2, output_dir)


def fold_weights(arrays: Mapping[str, np.ndarray], arch: Architecture) -> dict[str, np.ndarray]:
    """Take a checkpoint's parameters and fold batch normalization into the layers behind it.

    Let a block's input be x = s X, with s the scale of the batch normalization before it, channel by channel, and X
    what the graph carries. Then, with h the activation and batch normalization `scale h + shift`:

    - depthwise: its kernel times s takes X for x. Zero padding stays zero, so the borders stay right.
    - residual: x + scale h + shift = s (X + (scale / s) h) + shift: one factor for each channel is left.
    - 1 x 1: kernel times s, and `shift` goes into its bias: nobody else sees the residual's sum.
    - its batch normalization `scale' h + shift'` = s' (h + shift' / s') with s' = scale': one summand is left.
    - head: the pooling is linear, so s' and shift' go into the dense layer.

    GELU(z) = z (1 + erf(z / sqrt 2)) / 2. The layer before gives v = z / sqrt 2, the graph computes v + v erf(v) =
    sqrt 2 GELU(z), and the factor goes into the scales: two passes over the picture less, the same function.

    Args:
        arrays: as `read_checkpoint` returns them, named as timm or locuslab/convmixer name them.
        arch: what they must fit.

    Returns:
        Name to float32 array: `kernel` and `bias` of `stem`, `blocks.<i>/depthwise`, `blocks.<i>/pointwise` and `head`
        (kernels in TensorFlow's layout), `blocks.<i>/depthwise/scale` `[dim]`, `stem/shift` and
        `blocks.<i>/pointwise/shift` `[dim]` (not of the last block).

    Raises:
        CheckpointError: names a parameter that is missing, unexpected or mis-shaped.
    """
    parameters = Parameters(arrays, f"ConvMixer-{arch.dim}/{arch.depth}")
    names = _names(arrays, arch.depth)
    weights: dict[str, np.ndarray] = {}

    def put(layer: str, kernel: np.ndarray, bias: np.ndarray, scale: np.ndarray) -> np.ndarray:
        """Channels that batch normalization wipes out get zero weights, and so h = 0, and the scale 1."""
        alive = np.abs(scale) > TINY
        weights[f"{layer}/kernel"] = kernel * alive
        weights[f"{layer}/bias"] = bias * alive
        return np.where(alive, scale, 1.0)

    layer = _take_layer(parameters, arch, *names.stem, (3, arch.patch_size, arch.patch_size))
    place = "stem"
    s = put(place, layer.kernel.transpose(2, 3, 1, 0), layer.bias, layer.scale)
    for i in range(arch.depth):
        weights[f"{place}/shift"] = layer.shift / s
        depthwise = _take_layer(parameters, arch, *names.depthwise(i), (1, arch.kernel_size, arch.kernel_size))
        weights[f"blocks.{i}/depthwise/kernel"] = depthwise.kernel.transpose(2, 3, 0, 1) * s[:, None]
        weights[f"blocks.{i}/depthwise/bias"] = depthwise.bias
        weights[f"blocks.{i}/depthwise/scale"] = depthwise.scale / s
        layer = _take_layer(parameters, arch, *names.pointwise(i), (arch.dim, 1, 1))
        kernel = layer.kernel.transpose(2, 3, 1, 0)
        bias = layer.bias + depthwise.shift @ kernel[0, 0]
        place = f"blocks.{i}/pointwise"
        s = put(place, kernel * s[:, None], bias, layer.scale)
    kernel = parameters.take(f"{names.head}.weight", arch.classes, arch.dim).astype(np.float64).T
    weights["head/kernel"] = kernel * s[:, None]
    weights["head/bias"] = parameters.take(f"{names.head}.bias", arch.classes) + layer.shift @ kernel
    parameters.finish()
    return {name: np.ascontiguousarray(value, dtype=np.float32) for name, value in weights.items()}


class _Layer(NamedTuple):
    """A convolution, an activation, and the `scale` and `shift` of the batch normalization behind it; float64."""

    kernel: np.ndarray  # [out, in, height, width]
    bias: np.ndarray
    scale: np.ndarray
    shift: np.ndarray


def _take_layer(
    parameters: Parameters, arch: Architecture, convolution: str, batch_norm: str, shape: tuple[int, int, int]
) -> _Layer:
    """For GELU with the factor sqrt 1/2 on both sides of the activation. `shape`: the kernel's without `out`."""
    gain = math.sqrt(0.5) if arch.activation == "gelu" else 1.0
    kernel = parameters.take(f"{convolution}.weight", arch.dim, *shape).astype(np.float64)
    bias = parameters.take(f"{convolution}.bias", arch.dim).astype(np.float64)
    scale, shift = parameters.take_batch_norm(batch_norm, arch.dim, BATCH_NORM_EPSILON)
    return _Layer(kernel * gain, bias * gain, scale * gain, shift)


class _Names(NamedTuple):
    """How a checkpoint calls its layers: convolution and batch normalization, of blocks by their index."""

    stem: tuple[str, str]
    depthwise: Callable[[int], tuple[str, str]]
    pointwise: Callable[[int], tuple[str, str]]
    head: str


def _names(arrays: Mapping[str, np.ndarray], depth: int) -> _Names:
    # locuslab/convmixer is one nn.Sequential of stem (0 to 2), blocks, pooling, flattening and head.
    plain = "0.weight" in arrays
    stem, block, first, head = ("", "", 3, f"{depth + 5}") if plain else ("stem.", "blocks.", 0, "head")
    return _Names(
        stem=(f"{stem}0", f"{stem}2"),
        depthwise=lambda i: (f"{block}{first + i}.0.fn.0", f"{block}{first + i}.0.fn.2"),
        pointwise=lambda i: (f"{block}{first + i}.1", f"{block}{first + i}.3"),
        head=head,
    )


def forward(images: tf.Tensor, weights: Mapping[str, tf.Tensor], arch: Architecture) -> tf.Tensor:
    """Logits `[B, classes]` of normalized images `[B, H, W, 3]`, float32, with the weights of `fold_weights`.

    NHWC throughout. TensorFlow fuses each convolution with its bias, but GELU with neither a convolution nor a matrix
    product (2.16, oneDNN), so it is written with the fewest passes over the picture; see `fold_weights`.
    """
    import tensorflow as tf

    def activate(v: tf.Tensor) -> tf.Tensor:
        return tf.nn.relu(v) if arch.activation == "relu" else v + v * tf.math.erf(v)

    def add(x: tf.Tensor, name: str) -> tf.Tensor:
        return tf.nn.bias_add(x, weights[name])

    x = tf.nn.conv2d(images, weights["stem/kernel"], arch.patch_size, "VALID")
    x = add(activate(add(x, "stem/bias")), "stem/shift")
    for i in range(arch.depth):
        h = tf.nn.depthwise_conv2d(x, weights[f"blocks.{i}/depthwise/kernel"], [1, 1, 1, 1], "SAME")
        h = activate(add(h, f"blocks.{i}/depthwise/bias"))
        x = h * weights[f"blocks.{i}/depthwise/scale"] + x
        x = tf.nn.conv2d(x, weights[f"blocks.{i}/pointwise/kernel"], 1, "VALID")
        x = activate(add(x, f"blocks.{i}/pointwise/bias"))
        if i < arch.depth - 1:
            x = add(x, f"blocks.{i}/pointwise/shift")
    x = tf.matmul(tf.reduce_mean(x, axis=[1, 2]), weights["head/kernel"])
    return add(x, "head/bias")
