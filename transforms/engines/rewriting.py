"""Functions rewritten where TensorFlow is slow on processors; what they compute stays, but for rounding.

TensorFlow 2.16 fuses what follows a convolution only where it knows the pattern. An exact GELU (`Erf`), a batch
normalization and a residual behind it are operations of their own, each a pass over the whole picture. So a function
with `Erf` in it is laid out as its convolutions are (`layout`), and what then stands between two of them becomes one
function that XLA compiles into one pass (`clusters`). XLA's own convolutions are not used: on processors they are slow.
"""

from __future__ import annotations

from typing import Any

from transforms.engines.clusters import with_clusters
from transforms.engines.layout import laid_out


def rewritten(function: Any) -> Any:
    """A concrete function as `function`, which takes one tensor, but faster, its outputs flat.

    Raises:
        graphs.NotRewritableError: it has a state or an effect, or takes functions as arguments.
        TypeError, ValueError, tf.errors.OpError: it has something else that is not known here.
    """
    import tensorflow as tf

    for rewrite in (laid_out, with_clusters):

        def serve(images: Any, rewrite: Any = rewrite, function: Any = function) -> list[Any]:
            return rewrite(function, images)

        taken = tf.TensorSpec(function.inputs[0].shape, function.inputs[0].dtype, name="images")
        function = tf.function(serve, input_signature=[taken], autograph=False).get_concrete_function()
    return function
