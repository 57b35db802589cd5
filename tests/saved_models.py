"""Small SavedModels of every shape that published ones have; each answers with the mean of an image's channels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

SIZE = 4  # height and width of the images, in pixels


def image_spec(dtype: str = "float32", batch: int | None = None, name: str = "input") -> Any:
    """The tensor spec of a batch of images."""
    import tensorflow as tf

    return tf.TensorSpec([batch, SIZE, SIZE, 3], dtype, name=name)


def means(images: Any) -> Any:
    """float32 [B, 3], the mean of each channel."""
    import tensorflow as tf

    return tf.reduce_mean(tf.cast(images, tf.float32), [1, 2])


def save_signature(
    folder: Path, serve: Callable[..., dict[str, Any]], *specs: Any, name: str = "serving_default"
) -> Path:
    """A SavedModel with one signature, `serve` of the inputs `specs` (one image batch unless given)."""
    import tensorflow as tf

    module = tf.Module()
    module.gain = tf.Variable(np.float32(1.0))
    module.serve = tf.function(serve, input_signature=list(specs) or [image_spec()])
    tf.saved_model.save(module, str(folder), signatures={name: module.serve})
    return folder


def save_callable(folder: Path, call: Callable[..., Any], **keywords: Any) -> Path:
    """A SavedModel without signatures, whose object is called with `keywords` only, or with one image batch."""
    import tensorflow as tf

    module = tf.Module()
    module.gain = tf.Variable(np.float32(1.0))
    function = tf.function(call)
    if keywords:
        function.get_concrete_function(**keywords)
    else:
        function.get_concrete_function(image_spec())
    setattr(module, "__call__", function)  # noqa: B010
    tf.saved_model.save(module, str(folder), signatures={})
    return folder


def save_fussy(folder: Path) -> Path:
    """A model that raises on a batch with a value above 200 in it; 100 gives infinite logits."""
    import tensorflow as tf

    def serve(input: Any) -> dict[str, Any]:
        found = means(input)
        checked = tf.debugging.check_numerics(tf.sqrt(200.0 - tf.reduce_max(input)), "a value above 200") * 0.0
        return {"output": tf.where(found == 100.0, np.inf, found) + checked}

    return save_signature(folder, serve)
