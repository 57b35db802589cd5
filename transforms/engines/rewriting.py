"""Functions rewritten where TensorFlow is slow on processors; what they compute stays, but for rounding.

TensorFlow 2.16 fuses what follows a convolution only where it knows the pattern. An exact GELU (`Erf`), a batch
normalization and a residual behind it are operations of their own, each a pass over the whole picture. So a function
with `Erf` in it is laid out as its convolutions are (`layout`), and what then stands between two of them becomes one
function that XLA compiles into one pass (`clusters`). XLA's own convolutions are not used: on processors they are slow.
"""

from __future__ import annotations

import hashlib
import pkgutil
from functools import cache
from typing import Any

from transforms.engines.clusters import with_clusters
from transforms.engines.graphs import NotRewritableError
from transforms.engines.layout import laid_out


def rewritten(function: Any) -> Any:
    """A concrete function as `function`, which takes one tensor, but faster, its outputs flat.

    Raises:
        graphs.NotRewritableError: it has a state or an effect, or takes functions as arguments; or what came out has
            outputs of other shapes or types.
        TypeError, ValueError, tf.errors.OpError: it has something else that is not known here.
    """
    import tensorflow as tf

    expected = function.outputs
    for rewrite in (laid_out, with_clusters):

        def serve(images: Any, rewrite: Any = rewrite, function: Any = function) -> list[Any]:
            return rewrite(function, images)

        taken = tf.TensorSpec(function.inputs[0].shape, function.inputs[0].dtype, name="images")
        function = tf.function(serve, input_signature=[taken], autograph=False).get_concrete_function()
    for ours, theirs in zip(function.outputs, expected, strict=True):
        if ours.dtype != theirs.dtype or not ours.shape.is_compatible_with(theirs.shape):
            raise NotRewritableError(f"rewritten it gives {ours.dtype.name} {ours.shape}, not {theirs.shape}")
    return function


@cache
def version() -> str:
    """Digest of the code that rewrites: what is known of one version's graphs says nothing of another's."""
    digest = hashlib.sha256()
    for module in ("clusters", "graphs", "layout", "rewriting"):
        digest.update(pkgutil.get_data("transforms.engines", f"{module}.py") or b"")
    return digest.hexdigest()
