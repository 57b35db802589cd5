"""A SavedModel as OpenVINO runs it: read from its directory, without TensorFlow."""

from __future__ import annotations

import os
import re
import threading
from typing import Any

import numpy as np

from transforms.engines.division import Division, divide
from transforms.engines.engine import (
    NO_BFLOAT16,
    Call,
    ModelCallError,
    ModelError,
    ModelSpec,
    Outputs,
    choose_input,
    listed,
    missing_output,
    unfit,
)
from transforms.lean import import_lean
from transforms.pools import processors

SIGNATURE = "serving_default"  # the one that OpenVINO looks for
INSTEAD = "use model.engine: tensorflow"
PRECISIONS = {"float32": "f32", "bfloat16": "bf16", "int8": "f32"}  # int8 says itself what is quantized
QUANTIZED = "openvino_int8.xml"  # beside the SavedModel it was made of; its weights lie in the .bin of that name
PINNING = {"ENABLE_CPU_PINNING": False}  # the next images are decoded meanwhile, on the same processors
_BORING = re.compile(
    r"Exception from|Check '|FrontEnd API failed|Model wasn't fully converted|Summary:|To facilitate the conversion"
)


class OpenVINOEngine:
    """A SavedModel, read by OpenVINO; see `engine.Engine`.

    Attributes:
        model: openvino.Model from the images to the spec's outputs.

    Raises:
        ModelError: it is no SavedModel, not one that OpenVINO takes, or has no such input or output, or other images.
    """

    rewritten = False  # to be compared it is in any case

    def __init__(self, spec: ModelSpec) -> None:
        if spec.signature != SIGNATURE:
            asked = "the object itself" if spec.signature is None else f"signature {spec.signature!r}"
            raise ModelError(f"model.engine: OpenVINO calls the signature {SIGNATURE}, not {asked}; {INSTEAD}")
        openvino = _openvino()
        self.title = f"OpenVINO {openvino.__version__.partition('-')[0]}"
        self._spec, self._core = spec, openvino.Core()
        hint = _hint(spec, self._core)
        path = _file(spec)
        try:
            model = self._core.read_model(path)
        except RuntimeError as error:
            raise ModelError(f"model.engine: OpenVINO cannot read {path}: {_reason(error)}; {INSTEAD}") from error
        self.model, self._places = _only_what_is_used(model, spec)
        self.division = _division(self.model, spec)
        self._settings = {**PINNING, **_streams(self.division), "INFERENCE_PRECISION_HINT": hint}

    def ahead(self, images: np.ndarray) -> np.ndarray:
        """The images themselves: they are read where they are."""
        return images

    def compile(self, batch_size: int) -> Call:
        """A function of images [batch_size, H, W, 3], compiled for this one shape."""
        import openvino

        shape = [batch_size, *self._spec.image_shape]
        model = self.model.clone()
        if not model.input().get_partial_shape().compatible(openvino.PartialShape(shape)):
            raise unfit(_described(model.input()), self._spec)
        try:
            model.reshape(shape)
            compiled = self._core.compile_model(model, "CPU", self._settings)
        except RuntimeError as error:
            reason = f"OpenVINO cannot compile the model for {batch_size} images: {_reason(error)}"
            raise ModelError(f"model.engine: {reason}; {INSTEAD}") from error
        places = self._places.items()
        mine = threading.local()  # a request computes one piece at a time

        def call(images: np.ndarray) -> Outputs:
            if not hasattr(mine, "request"):
                mine.request = compiled.create_infer_request()
            request = mine.request
            request.set_input_tensor(openvino.Tensor(images, shared_memory=True))
            try:
                request.infer()
            except RuntimeError as error:
                raise ModelCallError(_reason(error), exhausted="alloc" in str(error)) from error
            # A copy: this thread's next call writes its outputs to the same place.
            return {kind: np.array(request.get_output_tensor(place).data, np.float32) for kind, place in places}

        return call


def _division(model: Any, spec: ModelSpec) -> Division:
    if model.input().get_partial_shape()[0].is_static:
        return Division(spec.batch_size, 1)
    return divide(spec.batch_size, processors(), least=1, most=4)  # it takes hardly any Python, and packs weights


def _streams(division: Division) -> dict[str, Any]:
    """What OpenVINO calls it: a stream computes one piece."""
    if division.calls == 1:
        return {"PERFORMANCE_HINT": "LATENCY"}  # all processors for it
    return {"NUM_STREAMS": division.calls, "INFERENCE_NUM_THREADS": division.calls}


def _openvino() -> Any:
    try:
        return import_lean("openvino")
    except ImportError as error:
        raise ModelError(f"model.engine: {error}; pip install 'hublabel[openvino]', or {INSTEAD}") from None


def _file(spec: ModelSpec) -> str:
    """What is read: the SavedModel's directory, or the quantized model in it."""
    if spec.precision != "int8":
        return spec.path
    path = os.path.join(spec.path, QUANTIZED)
    if not os.path.exists(path):
        raise ModelError(
            f"model.precision: int8 needs a quantized model, and {spec.path} holds none; "
            "make one by `hublabel quantize CONFIG --output DIR` and let model.handle name it"
        )
    return path


def _hint(spec: ModelSpec, core: Any) -> str:
    """What OpenVINO calls the precision."""
    if spec.precision not in PRECISIONS:
        raise ModelError(f"model.precision: OpenVINO computes in {', '.join(PRECISIONS)} here, not in {spec.precision}")
    if spec.precision == "bfloat16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise ModelError(f"model.precision: {NO_BFLOAT16}")
    return PRECISIONS[spec.precision]


def _only_what_is_used(model: Any, spec: ModelSpec) -> tuple[Any, dict[str, int]]:
    """The model between the input for images and the spec's outputs, and by kind the place of each output."""
    import openvino

    inputs = {min(port.names): port for port in model.inputs if port.names}
    if not inputs:
        raise ModelError(f"model.engine: the model has no signature that OpenVINO can call; {INSTEAD}")
    taken = inputs[choose_input(list(inputs), spec)]
    if len(inputs) > 1:
        raise ModelError(f"the model does not take images alone: its inputs are {listed(inputs)}")
    fits = taken.get_partial_shape().compatible(openvino.PartialShape([spec.batch_size, *spec.image_shape]))
    if not fits or _dtype(taken) != spec.dtype:
        raise unfit(_described(taken), spec)
    outputs = {name: port for port in model.outputs for name in port.names}
    for kind, name in spec.outputs:
        if name not in outputs:
            raise missing_output(kind, name, outputs)
    wanted = {kind: model.get_result_index(outputs[name]) for kind, name in spec.outputs}
    used = sorted(set(wanted.values()))  # two names may be one output
    results = [model.get_results()[index] for index in used]
    return openvino.Model(results, [taken.get_node()]), {kind: used.index(index) for kind, index in wanted.items()}


def _dtype(port: Any) -> str:
    return np.dtype(port.get_element_type().to_dtype()).name


def _described(port: Any) -> str:
    shape = port.get_partial_shape()
    if shape.rank.is_dynamic:
        return f"{_dtype(port)} of any shape"
    return f"{_dtype(port)} {[-1 if length.is_dynamic else length.get_length() for length in shape]}"


def _reason(error: BaseException) -> str:
    """What an exception of OpenVINO says, between the places in its source and its general remarks."""
    lines = [line.strip(" -\t") for line in str(error).splitlines()]
    return next((line for line in lines if line and not _BORING.match(line)), type(error).__name__)
