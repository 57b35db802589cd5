"""What a SavedModel's file tells of it before it is loaded."""

from __future__ import annotations

import os

from transforms.engines.engine import ModelSpec


def takes_any_number(spec: ModelSpec) -> bool:
    """Whether the model is known to take any number of images: its signature's input leaves it open.

    False for a signature of one batch size, and where the file does not tell: of the object's call, or damaged.
    """
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    if spec.signature is None:
        return False
    try:
        with open(os.path.join(spec.path, "saved_model.pb"), "rb") as file:
            graphs = SavedModel.FromString(file.read()).meta_graphs
    except (OSError, DecodeError):  # loading will tell
        return False
    signatures = [graph.signature_def[spec.signature] for graph in graphs if spec.signature in graph.signature_def]
    inputs = [signature.inputs.items() for signature in signatures]
    shapes = [given.tensor_shape for found in inputs for name, given in found if spec.input in (None, name)]
    return bool(shapes) and all(shape.unknown_rank or (shape.dim[:1] and shape.dim[0].size == -1) for shape in shapes)
