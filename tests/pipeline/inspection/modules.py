"""SavedModels of the kinds that are published, small and with random weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

SIZE = 32


def images(dtype: str = "float32", batch: int | None = None, size: int | None = SIZE, name: str = "images") -> Any:
    import tensorflow as tf

    return tf.TensorSpec([batch, size, size, 3], dtype, name=name)


class Network:
    """A convolution, a pooling and dense layers, as variables of a `tf.Module`."""

    def __init__(self, classes: int = 10, features: int = 16) -> None:
        import tensorflow as tf

        rng = np.random.default_rng(1)

        def variable(*shape: int) -> Any:
            return tf.Variable(rng.standard_normal(shape, dtype=np.float32) / np.float32(np.sqrt(np.prod(shape[:-1]))))

        self.module = tf.Module()
        self.module.kernel = self.kernel = variable(4, 4, 3, features)
        self.module.dense = self.dense = variable(features, classes)
        self.module.bias = self.bias = variable(1, classes)

    def map(self, x: Any) -> Any:
        import tensorflow as tf

        return tf.nn.relu(tf.nn.conv2d(tf.cast(x, tf.float32), self.kernel, 4, "VALID"))

    def features(self, x: Any) -> Any:
        import tensorflow as tf

        return tf.reduce_mean(self.map(x), [1, 2])

    def logits(self, x: Any) -> Any:
        return self.features(x) @ self.dense + self.bias

    def softmax(self, x: Any) -> Any:
        import tensorflow as tf

        return tf.nn.softmax(self.logits(x))

    def sigmoid(self, x: Any) -> Any:
        import tensorflow as tf

        return tf.sigmoid(self.logits(x))

    def save(
        self, folder: Path, serve: Callable[..., dict[str, Any]], *specs: Any, name: str = "serving_default"
    ) -> Path:
        """With one signature, `serve`, which takes `specs` (float32 images unless given)."""
        import tensorflow as tf

        self.module.serve = tf.function(serve, input_signature=list(specs) or [images()])
        tf.saved_model.save(self.module, str(folder), signatures={name: self.module.serve})
        return folder

    def save_callable(
        self, folder: Path, call: Callable[..., Any], *traces: tuple[tuple[Any, ...], dict[str, Any]]
    ) -> Path:
        """Without signatures: the object is called, as it was traced."""
        import tensorflow as tf

        function = tf.function(call)
        for positional, keywords in traces or [((images(),), {})]:
            function.get_concrete_function(*positional, **keywords)
        setattr(self.module, "__call__", function)  # noqa: B010
        tf.saved_model.save(self.module, str(folder), signatures={})
        return folder
