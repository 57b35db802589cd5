"""Is the exported ConvMixer slower than a straightforward Keras build of the same network? Prints the ratio.

    python -m benchmarks.convmixer_export --variant 1024-20

Both have the same random weights and are called through `serving_default` of a SavedModel, frozen as the pipeline
freezes it and, with `--variables`, as it is. Rounds are paired: each times both, in turn first, so that a busy machine
slows both; a ratio is the median of the rounds'. Below 1 the export is faster. Other work on the machine blurs the
ratio of wall times more than that of processor times. Needs tf_keras, which tensorflow_hub brings.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pipeline.models.convmixer import BATCH_NORM_EPSILON, IMAGE_SIZE, VARIANTS, Architecture, fold_weights, forward
from pipeline.models.convmixer import parameter_shapes as shapes_of
from pipeline.models.saved_model import save_classifier

Arrays = dict[str, np.ndarray]


def random_arrays(arch: Architecture) -> Arrays:
    """Weights in the range of a trained network's, so that activations neither vanish nor overflow."""
    rng = np.random.default_rng(0)
    arrays = {}
    for name, shape in shapes_of(arch).items():
        values = rng.standard_normal(shape, dtype=np.float32)
        if name.endswith("running_var"):
            values = np.abs(values) + 0.5
        arrays[name] = values / np.float32(np.sqrt(np.prod(shape[1:]))) if len(shape) > 1 else values
    return arrays


def build_keras(arrays: Arrays, arch: Architecture) -> Any:
    """The paper's code in Keras 2, layer by layer."""
    import tf_keras as keras

    def normalize(x: Any, name: str) -> Any:
        parts = [arrays[f"{name}.{part}"] for part in ("weight", "bias", "running_mean", "running_var")]
        layer = keras.layers.BatchNormalization(epsilon=BATCH_NORM_EPSILON)
        x = layer(keras.layers.Activation(arch.activation)(x))
        layer.set_weights(parts)
        return x

    def convolve(x: Any, name: str, **options: Any) -> Any:
        kernel = arrays[f"{name}.weight"]
        layer = keras.layers.Conv2D(kernel.shape[0], kernel.shape[2], **options)
        x = layer(x)
        layer.set_weights([kernel.transpose(2, 3, 1, 0), arrays[f"{name}.bias"]])
        return x

    def convolve_depthwise(x: Any, name: str) -> Any:
        kernel = arrays[f"{name}.weight"]
        layer = keras.layers.DepthwiseConv2D(kernel.shape[2], padding="same")
        x = layer(x)
        layer.set_weights([kernel.transpose(2, 3, 0, 1), arrays[f"{name}.bias"]])
        return x

    images = keras.Input((IMAGE_SIZE, IMAGE_SIZE, 3), name="input")
    x = normalize(convolve(images, "stem.0", strides=arch.patch_size), "stem.2")
    for i in range(arch.depth):
        residual = normalize(convolve_depthwise(x, f"blocks.{i}.0.fn.0"), f"blocks.{i}.0.fn.2")
        x = keras.layers.Add()([residual, x])
        x = normalize(convolve(x, f"blocks.{i}.1"), f"blocks.{i}.3")
    x = keras.layers.GlobalAveragePooling2D()(x)
    head = keras.layers.Dense(arch.classes, name="output")
    model = keras.Model(images, head(x))
    head.set_weights([arrays["head.weight"].T, arrays["head.bias"]])
    return model


def save_keras(model: Any, folder: Path) -> None:
    import tensorflow as tf

    images = tf.TensorSpec([None, IMAGE_SIZE, IMAGE_SIZE, 3], tf.float32, name="input")
    serve = tf.function(lambda images: {"output": model(images, training=False)}, input_signature=[images])
    tf.saved_model.save(model, str(folder), signatures={"serving_default": serve})


def load(folder: Path, frozen: bool) -> Callable[[Any], Any]:
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    model = tf.saved_model.load(str(folder))
    serve = model.signatures["serving_default"]
    if frozen:
        constant = convert_variables_to_constants_v2(serve)
        return lambda images: constant(images)[0].numpy()
    serve._keep = model  # the signature holds its variables weakly
    return lambda images: serve(images)["output"].numpy()


class Timing(NamedTuple):
    """Seconds of one call."""

    wall: float
    processor: float  # of all threads


def timed(call: Callable[[], Any]) -> Timing:
    wall, processor = time.perf_counter(), time.process_time()
    call()
    return Timing(time.perf_counter() - wall, time.process_time() - processor)


def paired_rounds(first: Callable[[], Any], second: Callable[[], Any], rounds: int) -> list[tuple[Timing, Timing]]:
    """Timings of both, round by round; who begins changes from round to round."""
    pairs = []
    for i in range(rounds):
        if i % 2 == 0:
            pairs.append((timed(first), timed(second)))
        else:
            later, earlier = timed(second), timed(first)
            pairs.append((earlier, later))
    return pairs


def report(pairs: list[tuple[Timing, Timing]], batch: int) -> None:
    for field in Timing._fields:
        ours, keras = zip(*[(getattr(mine, field), getattr(other, field)) for mine, other in pairs], strict=True)
        ratio = statistics.median(mine / other for mine, other in zip(ours, keras, strict=True))
        mine, other = (statistics.median(column) / batch * 1000 for column in (ours, keras))
        print(f"{field} time: exported {mine:.1f} ms an image, Keras {other:.1f} ms an image, ratio {ratio:.3f}")
    print(f"ratios are medians of {len(pairs)} paired rounds; below 1 the export is faster")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--variant", choices=VARIANTS, default="1024-20")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--variables", action="store_true", help="call the SavedModels unfrozen")
    options = parser.parse_args()
    import tensorflow as tf

    arch = VARIANTS[options.variant]
    arrays = random_arrays(arch)
    shape = (options.batch, IMAGE_SIZE, IMAGE_SIZE, 3)
    images = tf.constant(np.random.default_rng(1).standard_normal(shape, dtype=np.float32))
    with tempfile.TemporaryDirectory() as scratch:
        exported, keras = Path(scratch, "exported"), Path(scratch, "keras")
        save_classifier(
            lambda x, weights: forward(x, weights, arch), fold_weights(arrays, arch), (IMAGE_SIZE, IMAGE_SIZE), exported
        )
        save_keras(build_keras(arrays, arch), keras)
        ours, theirs = (load(folder, not options.variables) for folder in (exported, keras))
        expected = theirs(images)
        difference = np.abs(ours(images) - expected).max() / np.abs(expected).max()
        pairs = paired_rounds(lambda: ours(images), lambda: theirs(images), options.rounds)
    print(f"ConvMixer-{options.variant}, batch {options.batch}, {'variables' if options.variables else 'frozen'}")
    print(f"largest difference of logits: {difference:.1e} of the largest logit")
    report(pairs, options.batch)


if __name__ == "__main__":
    main()
