"""Write an image classifier as a TF2 SavedModel that TensorFlow Hub, Keras 2 and a bare signature call all take."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import tensorflow as tf

INPUT = "input"
OUTPUT = "output"

# Images `[B, height, width, 3]` and the weights by name, as given, to logits `[B, classes]`.
Forward = Callable[["tf.Tensor", Mapping[str, "tf.Variable"]], "tf.Tensor"]


def save_classifier(
    forward: Forward, weights: Mapping[str, np.ndarray], image_size: tuple[int, int], output_dir: str | Path
) -> None:
    """Save `forward` as a SavedModel; the folder appears whole or not at all, and replaces an older SavedModel.

    `serving_default` takes `input`, float32 `[-1, height, width, 3]`, and gives `output`, float32 `[-1, classes]`. The
    loaded object is a Reusable SavedModel of TensorFlow Hub: callable as `model(images)`, with `variables` and
    `trainable_variables`. Two fresh processes write the same bytes.

    Args:
        forward: traced once, with a batch of unknown size.
        weights: become variables, named so.
        image_size: height and width in pixels.
        output_dir: must be absent, empty or an older SavedModel.

    Raises:
        ValueError: `output_dir` holds something else.
    """
    output = Path(output_dir).expanduser().absolute()
    _refuse_foreign(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{output.name}.", dir=output.parent))
    try:
        new, old = scratch / "new", scratch / "old"
        _save(forward, weights, image_size, new)
        _make_durable(new)
        if output.exists():
            output.rename(old)
        new.rename(output)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _refuse_foreign(output: Path) -> None:
    if output.is_dir() and ((output / "saved_model.pb").is_file() or not any(output.iterdir())):
        return
    if output.exists() or output.is_symlink():
        raise ValueError(f"{output}: exists and is no SavedModel; name a new folder, or remove it first")


def _save(forward: Forward, weights: Mapping[str, np.ndarray], image_size: tuple[int, int], folder: Path) -> None:
    import tensorflow as tf

    class Classifier(tf.Module):
        # Attributes instead of tf.Module's properties: only attributes are saved, and hub.KerasLayer asks for these.
        variables: Any = ()
        trainable_variables: Any = ()

    module = Classifier()
    by_name = {name: tf.Variable(value, name=name) for name, value in weights.items()}
    module.variables = list(by_name.values())
    module.trainable_variables = list(by_name.values())
    images = tf.TensorSpec([None, *image_size, 3], tf.float32, name=INPUT)
    call = tf.function(lambda images: forward(images, by_name), input_signature=[images], autograph=False)
    serve = tf.function(lambda images: {OUTPUT: call(images)}, input_signature=[images], autograph=False)
    module.__call__ = call
    tf.saved_model.save(module, str(folder), signatures={"serving_default": serve})


def _make_durable(folder: Path) -> None:
    """Flush files to disk, so that a power cut after the rename cannot leave them empty."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
