"""Element-wise operations between two convolutions, made one function that XLA compiles into one pass."""

from __future__ import annotations

from typing import Any, NamedTuple

from transforms.engines.graphs import ELEMENTWISE, applied

SMALLEST = 3  # operations; of fewer TensorFlow makes few passes by itself
# Without those that may drop NaN: XLA's maximum does, and an image whose outputs are NaN is to fail.
JOINING = (ELEMENTWISE | {"BiasAdd"}) - {"Maximum", "Minimum", "Relu", "Relu6"}


class _Step(NamedTuple):
    """Operations that are computed together, or one after the other; `level` as of `_steps`."""

    level: int
    members: list[Any]
    joins: bool


def with_clusters(function: Any, images: Any) -> list[Any]:
    """Outputs of a concrete function for `images`, computed in the default graph, what is around an `Erf` by XLA.

    Args:
        function: of one tensor and captured constants, as `layout.laid_out` leaves it.
    """
    graph = function.graph
    values = dict(zip((tensor.name for tensor in graph.inputs), [images, *function.captured_inputs], strict=True))
    functions: dict[Any, Any] = {}
    for step in _steps(graph):
        if len(step.members) >= SMALLEST and any(member.type == "Erf" for member in step.members):
            _call(step.members, values, functions, {tensor.name for tensor in graph.outputs})
            continue
        for operation in step.members:
            outputs = applied(operation, [values[tensor.name] for tensor in operation.inputs])
            values.update({tensor.name: value for tensor, value in zip(operation.outputs, outputs, strict=True)})
    return [values[tensor.name] for tensor in graph.outputs]


def _steps(graph: Any) -> list[_Step]:
    """The operations, in an order in which each comes after what it needs.

    An operation's level is the number of those that do not join (convolutions and the like) on the longest way to it.
    Of two element-wise operations of one level neither waits for the other by way of a third that does not join: so
    those that are connected can be computed together.
    """
    levels = {tensor.op.name: 0 for tensor in graph.inputs}
    steps: list[_Step] = []
    joined: dict[str, _Step] = {}
    for operation in graph.get_operations():
        if operation.name in levels:
            continue
        inputs = [tensor.op.name for tensor in operation.inputs]
        joins = operation.type in JOINING and operation.outputs[0].dtype.name == "float32"
        level = levels[operation.name] = max((levels[name] for name in inputs), default=0) + (not joins)
        step = _Step(level, [operation], joins)
        steps.append(step)
        if joins:
            joined[operation.name] = step
            for name in inputs:
                if name in joined and joined[name].level == level and joined[name] is not joined[operation.name]:
                    _merge(joined[name], joined[operation.name], joined)
    return sorted((step for step in steps if step.members), key=lambda step: (step.level, step.joins))


def _merge(step: _Step, later: _Step, joined: dict[str, _Step]) -> None:
    """Give `step` the members of another one, and leave that empty."""
    for member in later.members:
        joined[member.name] = step
    step.members.extend(later.members)
    later.members.clear()


def _call(members: list[Any], values: dict[str, Any], functions: dict[Any, Any], wanted: set[str]) -> None:
    """Compute a cluster. Clusters that differ only in what they take are one function, which is compiled once."""
    places = {member.outputs[0].name: place for place, member in enumerate(members)}
    used = list(dict.fromkeys(t.name for member in members for t in member.inputs if t.name not in places))
    places.update({name: -1 - place for place, name in enumerate(used)})  # what is taken counts from -1 down
    wires = tuple(tuple(places[tensor.name] for tensor in member.inputs) for member in members)
    given = tuple(place for place, member in enumerate(members) if _is_wanted(member, places, wanted))
    key = (tuple((member.type, _attributes(member)) for member in members), wires, given)
    if key not in functions:
        functions[key] = _compiled(members, wires, given)
    results = functions[key](*(values[name] for name in used))
    values.update({members[place].outputs[0].name: result for place, result in zip(given, results, strict=True)})


def _is_wanted(member: Any, places: dict[str, int], wanted: set[str]) -> bool:
    output = member.outputs[0]
    return output.name in wanted or any(user.outputs[0].name not in places for user in output.consumers())


def _attributes(member: Any) -> bytes:
    attributes = member.node_def.attr
    return b"".join(
        name.encode() + attributes[name].SerializeToString() for name in sorted(attributes) if not name.startswith("_")
    )


def _compiled(members: list[Any], wires: tuple[tuple[int, ...], ...], given: tuple[int, ...]) -> Any:
    import tensorflow as tf

    def compute(*taken: Any) -> list[Any]:
        results: list[Any] = []
        for member, inputs in zip(members, wires, strict=True):
            results += applied(member, [results[place] if place >= 0 else taken[-1 - place] for place in inputs])
        return [results[place] for place in given]

    return tf.function(compute, jit_compile=True, autograph=False)
