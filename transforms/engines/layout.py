"""A graph in the layout of its convolutions, its functions inlined and its constants computed.

Converters leave a transposition on both sides of each convolution. They are moved until two meet and vanish: each
tensor is known as a transposition of one that is computed; element-wise operations work on what is computed and hand
the transposition on; an operation that cares about axes gets its inputs as they were. Batch normalization becomes a
product and a sum.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from transforms.engines.graphs import ELEMENTWISE, applied

Order = tuple[int, ...]  # of the axes, as `tf.transpose` takes them; empty for as they are
_CALLS = ("PartitionedCall", "StatefulPartitionedCall")
_PASSING = ("Identity", "IdentityN", "StopGradient", "PreventGradient", "Snapshot")


class _Value(NamedTuple):
    """What a tensor of the old graph is in the new one: `tensor`, transposed by `order`.

    A constant is an eager tensor: the new graph takes it from outside instead of holding a copy.
    """

    tensor: Any
    order: Order = ()
    constant: bool = False


def laid_out(function: Any, images: Any) -> list[Any]:
    """Outputs of a concrete function of one tensor for `images`, computed in the default graph."""
    captured = [_Value(tensor, constant=True) for tensor in function.captured_inputs]
    return [_as_it_was(value) for value in _outputs(function.graph, [_Value(images), *captured])]


def _outputs(graph: Any, given: list[_Value]) -> list[_Value]:
    values = {tensor.name: value for tensor, value in zip(graph.inputs, given, strict=True)}
    for operation in graph.get_operations():
        if operation.type == "NoOp" or any(tensor.name in values for tensor in operation.outputs):
            continue
        found = _compute(operation, [values[tensor.name] for tensor in operation.inputs])
        values.update({tensor.name: value for tensor, value in zip(operation.outputs, found, strict=True)})
    return [values[tensor.name] for tensor in graph.outputs]


def _compute(operation: Any, inputs: list[_Value]) -> list[_Value]:
    import tensorflow as tf

    if operation.type in _CALLS:
        called = operation.graph._get_function(operation.get_attr("f").name)
        return _outputs(called.graph, inputs)
    if operation.type in _PASSING:
        return inputs
    if all(value.constant for value in inputs):  # of none as well
        with tf.init_scope():
            return [_Value(tensor, constant=True) for tensor in _constants(operation, inputs)]
    if operation.type == "Transpose" and inputs[1].constant:
        return [_transposed(inputs[0], inputs[1].tensor.numpy().tolist())]
    if operation.type in ELEMENTWISE and (order := _common(inputs)):
        (tensor,) = applied(operation, [_aligned(value, order) for value in inputs])
        return [_Value(tensor, order)]
    if _is_normalization(operation) and all(value.constant for value in inputs[1:]):
        return [_normalized(operation, inputs), *[_Value(None)] * 5]
    if operation.type == "Mean" and inputs[1].constant and (pooled := _pooled(operation, *inputs)) is not None:
        return [_Value(pooled)]
    return [_Value(tensor) for tensor in applied(operation, [_as_it_was(value) for value in inputs])]


def _constants(operation: Any, inputs: list[_Value]) -> list[Any]:
    import tensorflow as tf

    if operation.type == "ReadVariableOp":
        return [tf.raw_ops.ReadVariableOp(resource=inputs[0].tensor, dtype=operation.get_attr("dtype"))]
    return applied(operation, [value.tensor for value in inputs])


def _transposed(value: _Value, axes: list[int]) -> _Value:
    order = tuple(value.order[axis] if value.order else axis for axis in axes)
    return _Value(value.tensor, () if order == tuple(range(len(order))) else order)


def _as_it_was(value: _Value) -> Any:
    import tensorflow as tf

    return tf.transpose(value.tensor, value.order) if value.order else value.tensor


def _common(inputs: list[_Value]) -> Order:
    """The transposition that all inputs have which are not constants, if they have one, and constants no more axes."""
    orders = {value.order for value in inputs if not value.constant}
    order = orders.pop() if len(orders) == 1 else ()
    axes = max((value.tensor.shape.rank for value in inputs if value.constant), default=0)
    return order if axes <= len(order) else ()


def _aligned(value: _Value, order: Order) -> Any:
    """The input of an element-wise operation that works on what is transposed by `order` afterwards."""
    import tensorflow as tf

    if not value.constant or value.tensor.shape.rank == 0:
        return value.tensor
    with tf.init_scope():
        wide = tf.reshape(value.tensor, [1] * (len(order) - value.tensor.shape.rank) + value.tensor.shape.as_list())
        return tf.transpose(wide, np.argsort(order))


def _is_normalization(operation: Any) -> bool:
    """By constants; in training the batch's own mean and variance count."""
    return operation.type == "FusedBatchNormV3" and not operation.get_attr("is_training")


def _normalized(operation: Any, inputs: list[_Value]) -> _Value:
    """Batch normalization as a product and a sum, of which the constants are computed here."""
    import tensorflow as tf

    with tf.init_scope():
        parts = [value.tensor for value in inputs[1:]]
        if operation.get_attr("data_format") == b"NCHW":
            parts = [tf.reshape(part, [-1, 1, 1]) for part in parts]
        scale, offset, mean, variance = parts
        factor = scale * tf.math.rsqrt(variance + operation.get_attr("epsilon"))
        shift = offset - mean * factor
    order = inputs[0].order
    if not order:
        return _Value(inputs[0].tensor * factor + shift)
    aligned = [_aligned(_Value(part, constant=True), order) for part in (factor, shift)]
    return _Value(inputs[0].tensor * aligned[0] + aligned[1], order)


def _pooled(operation: Any, value: _Value, axes: _Value) -> Any:
    """The mean over axes of what is computed, if that leaves the other axes in order; else None."""
    import tensorflow as tf

    if not value.order or operation.get_attr("keep_dims"):
        return None
    taken = {value.order[axis] for axis in np.atleast_1d(axes.tensor.numpy())}
    left = [axis for axis in value.order if axis not in taken]
    return tf.reduce_mean(value.tensor, sorted(taken)) if left == sorted(left) else None
