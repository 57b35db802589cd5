"""What a SavedModel does to its images before anything else: many rescale them themselves, and the config must not."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

PASSING = {"Identity", "Cast", "EnsureShape", "StopGradient", "Snapshot", "PreventGradient"}
CALLS = {"PartitionedCall", "StatefulPartitionedCall"}
STEPS = {"Mul", "Sub", "Add", "AddV2", "RealDiv", "BiasAdd"}
DEPTH = 20  # of nested functions


@dataclass(frozen=True)
class Rescaling:
    """`value * factor + offset`, the first thing done to the images; of several channels the mean.

    Attributes:
        factor: 1 where nothing is multiplied.
        offset: 0 where nothing is added.
    """

    factor: float
    offset: float


def find_rescaling(path: str, signature: str | None, input_name: str | None) -> Rescaling | None:
    """Follow the images into the graph of a SavedModel as long as nothing is done but arithmetic with constants.

    Args:
        path: directory of the SavedModel.
        signature: the one that is called; None for the object itself, into which this cannot look.
        input_name: of the signature's input; None when there is only one.

    Returns:
        None where the images are not rescaled, or where that cannot be told.
    """
    from tensorflow.core.protobuf import saved_model_pb2

    model = saved_model_pb2.SavedModel()
    try:
        with open(os.path.join(path, "saved_model.pb"), "rb") as file:
            model.ParseFromString(file.read())
        graph = model.meta_graphs[0]
        inputs = graph.signature_def[signature or ""].inputs
        name = input_name or next(iter(inputs))
        tensor = inputs[name].name.partition(":")[0]
    except (OSError, ValueError, IndexError, StopIteration):
        return None
    functions = {function.signature.name: function for function in graph.graph_def.library.function}
    return _follow(tensor, graph.graph_def.node, functions)


def _follow(tensor: str, nodes: Iterable[Any], functions: Mapping[str, Any]) -> Rescaling | None:
    factor, offset, steps = np.float64(1.0), np.float64(0.0), 0
    for _ in range(DEPTH * DEPTH):
        by_name = {node.name: node for node in nodes}
        users = [node for node in by_name.values() if tensor in map(_node_of, node.input)]
        users = [node for node in users if node.op not in ("Shape", "NoOp")]
        if len(users) != 1:
            break
        node = users[0]
        position = [_node_of(name) for name in node.input].index(tensor)
        if node.op in CALLS:
            function = functions.get(node.attr["f"].func.name)
            if function is None:
                break
            tensor, nodes = function.signature.input_arg[position].name, function.node_def
            continue
        if node.op in STEPS:
            other = _constant(by_name.get(_node_of(node.input[1 - position])), by_name)
            if other is None:
                break
            factor, offset = _step(node.op, position, factor, offset, other)
            steps += 1
        elif node.op not in PASSING:
            break
        tensor = node.name
    return Rescaling(float(np.mean(factor)), float(np.mean(offset))) if steps else None


def _node_of(name: str) -> str:
    """The node that an input names: `node`, `node:0`, or `node:output:0` within functions."""
    return name.partition(":")[0]


def _constant(node: Any, by_name: Mapping[str, Any]) -> np.ndarray | None:
    """A number, or one a channel."""
    from tensorflow import make_ndarray

    while node is not None and node.op in PASSING:
        node = by_name.get(_node_of(node.input[0]))
    if node is None or node.op != "Const":
        return None
    value = np.squeeze(make_ndarray(node.attr["value"].tensor)).astype(np.float64)
    return value if value.shape in ((), (3,)) else None


def _step(op: str, position: int, factor: Any, offset: Any, other: np.ndarray) -> tuple[Any, Any]:
    if op == "Mul":
        return factor * other, offset * other
    if op == "RealDiv":
        return (factor / other, offset / other) if position == 0 else (np.float64(np.nan), np.float64(np.nan))
    if op == "Sub":
        return (factor, offset - other) if position == 0 else (-factor, other - offset)
    return factor, offset + other
