"""What the graph behind a model's output tells: the op that makes it, and how many parameters it uses."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# Ops that only hand on, or only change the shape or dtype.
PASSING = {
    "Identity", "IdentityN", "Reshape", "Squeeze", "ExpandDims", "Cast", "EnsureShape", "StopGradient", "Transpose",
    "StridedSlice", "Snapshot", "PreventGradient",
}  # fmt: skip
FLOATS = ("float32", "float16", "bfloat16", "float64")


def freeze(call: Any, inputs: Sequence[Any]) -> Any:
    """The function `call` of one tensor as one flat graph, variables as constants.

    Raises:
        ValueError, TypeError or tensorflow.errors.OpError: it cannot be traced.
    """
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    function = tf.function(call, input_signature=list(inputs), autograph=False)
    return convert_variables_to_constants_v2(function.get_concrete_function())


def last_operation(output: Any) -> str | None:
    """The type of the op that makes the tensor `output`, such as `Softmax`; None if it is inside a function."""
    operation = output.op
    while operation.type in PASSING and operation.inputs:
        operation = operation.inputs[0].op
    return None if operation.type.endswith("PartitionedCall") or operation.type == "Placeholder" else operation.type


def parameters(graph: Any) -> int:
    """Numbers in the floating-point constants of a frozen graph: weights, and statistics of normalization layers."""
    return sum(
        math.prod(operation.outputs[0].shape.as_list())
        for operation in graph.get_operations()
        if operation.type == "Const"
        and operation.outputs[0].dtype.name in FLOATS
        and operation.outputs[0].shape.rank  # a single number is an epsilon or a factor
    )


def variables(folder: Path) -> int:
    """Numbers in the floating-point variables of a SavedModel, those of optimizers left out."""
    import tensorflow as tf

    if not (folder / "variables" / "variables.index").exists():
        return 0
    reader = tf.train.load_checkpoint(str(folder / "variables" / "variables"))
    types = reader.get_variable_to_dtype_map()
    return sum(
        math.prod(shape)
        for name, shape in reader.get_variable_to_shape_map().items()
        if types[name].name in FLOATS and ".OPTIMIZER_SLOT" not in name
    )
