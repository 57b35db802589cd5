"""What the rewrites of graphs share."""

from __future__ import annotations

from typing import Any

# Operations of which each number depends on the numbers in the same place only, after broadcasting.
ELEMENTWISE = frozenset({
    "Add", "AddV2", "Erf", "Exp", "Maximum", "Minimum", "Mul", "Neg", "RealDiv", "Relu", "Relu6", "Rsqrt", "Sigmoid",
    "Sqrt", "Square", "SquaredDifference", "Sub", "Tanh",
})  # fmt: skip


class NotRewritableError(ValueError):
    """The graph has something in it that the rewrites do not know; it is used as it is."""


def applied(operation: Any, inputs: list[Any]) -> list[Any]:
    """The outputs of the same operation for other inputs, eager ones or of the graph that is being made.

    Raises:
        NotRewritableError: it has a state or an effect, or takes functions.
    """
    import tensorflow as tf
    from tensorflow.python.eager import context, execute
    from tensorflow.python.framework import op_def_registry

    definition = op_def_registry.get(operation.type)
    if definition is None or definition.is_stateful or any(attr.type == "func" for attr in definition.attr):
        raise NotRewritableError(f"{operation.type} has a state or an effect, or takes functions")
    if operation.type == "Const":
        return [tf.constant(tf.make_ndarray(operation.get_attr("value")))]
    types = [output.dtype for output in operation.outputs]
    if tf.executing_eagerly():
        pairs = [part for attr in definition.attr for part in (attr.name, _plain(operation.get_attr(attr.name)))]
        return list(execute.execute(operation.type, len(types), inputs, tuple(pairs), context.context()))
    attributes = {attr.name: operation.node_def.attr[attr.name] for attr in definition.attr}
    return list(tf.compat.v1.get_default_graph().create_op(operation.type, inputs, types, attrs=attributes).outputs)


def _plain(attribute: Any) -> Any:
    """Types as the numbers that an eager operation takes."""
    if isinstance(attribute, list):
        return [_plain(part) for part in attribute]
    return getattr(attribute, "as_datatype_enum", attribute)
