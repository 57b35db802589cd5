"""A SavedModel as a plain function from images to named outputs."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from transforms.pools import processors

KINDS = ("logits", "probabilities", "embedding")
PIECE = 8  # images a processor in one call, at least 16 in all; see `_piece`


class ModelError(ValueError):
    """The model does not fit its description; the message says what it has instead."""


@dataclass(frozen=True)
class ModelSpec:
    """How a model is loaded and called.

    Attributes:
        path: directory of the SavedModel.
        signature: name of the signature; None to call the object itself.
        input: name of the input; None when there is only one.
        outputs: pairs (logits | probabilities | embedding, the module's name for it).
        image_shape: (height, width, 3) as the model takes it.
        dtype: `float32` or `uint8`.
        batch_size: images handed over at a time.
    """

    path: str
    signature: str | None
    input: str | None
    outputs: tuple[tuple[str, str], ...]
    image_shape: tuple[int, int, int]
    dtype: str
    batch_size: int


class ModelCallError(RuntimeError):
    """The model raised on a batch.

    Attributes:
        exhausted: memory ran out; a smaller batch may do.
    """

    def __init__(self, message: str, exhausted: bool = False) -> None:
        super().__init__(message)
        self.exhausted = exhausted


class Classifier:
    """A loaded model, called with one fixed shape under one lock.

    The shape is a batch, or an equal part of it, see `_piece`.

    Attributes:
        lengths: classes or features of each output, such as `{"logits": 1000}`.
    """

    def __init__(self, spec: ModelSpec) -> None:
        self.spec = spec
        self._function = _load(spec)
        self._calls: dict[int, Any] = {}
        self._lock = threading.Lock()
        self._limit = _piece(spec.batch_size)
        try:
            self.lengths = self._try()
        except ModelError:
            if self._limit >= spec.batch_size:
                raise
            self._limit = spec.batch_size  # the model may take batches of that one size
            self.lengths = self._try()

    def _try(self) -> dict[str, int]:
        """Classes or features of each output, found by calling the model."""
        blank = self.blank()[: self._limit]
        try:
            return {name: output.shape[1] for name, output in self(blank).items()}
        except ModelCallError as error:
            raise ModelError(f"the model fails on {self.spec.dtype} {list(blank.shape)} of zeros: {error}") from error

    def blank(self) -> np.ndarray:
        """A batch of zeros, which any working model takes."""
        return np.zeros((self.spec.batch_size, *self.spec.image_shape), self.spec.dtype)

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Outputs for one batch.

        When memory runs out the batch is halved, and stays so for the process.

        Args:
            images: [B, *image_shape] of the spec's dtype, B at most batch_size.

        Returns:
            For each of the spec's outputs float32 [B, n].

        Raises:
            ModelCallError: the model failed on this batch.
        """
        with self._lock:  # one call uses all processors; two at a time only take each other's caches and memory
            while True:
                try:
                    return self._in_pieces(images)
                except ModelCallError as error:
                    if not error.exhausted or self._limit == 1:
                        raise
                    self._limit = (self._limit + 1) // 2

    def _in_pieces(self, images: np.ndarray) -> dict[str, np.ndarray]:
        if self._limit not in self._calls:
            self._calls = {self._limit: _freeze(self.spec, self._function, self._limit)}
        call = self._calls[self._limit]
        pieces: dict[str, list[np.ndarray]] = {}
        for start in range(0, len(images), self._limit):
            piece = images[start : start + self._limit]
            short = self._limit - len(piece)
            if short:
                piece = np.concatenate([piece, np.zeros((short, *piece.shape[1:]), piece.dtype)])
            for name, output in call(piece).items():
                if output.shape[:1] != (len(piece),):
                    wrong = f"its shape is {list(output.shape)} for {len(piece)} images"
                    raise ModelError(f"model.outputs.{name}: {wrong}; it must have a row for each")
                pieces.setdefault(name, []).append(output.reshape(len(piece), -1)[: len(piece) - short])
        return {name: np.concatenate(outputs) if len(outputs) > 1 else outputs[0] for name, outputs in pieces.items()}


def _piece(batch_size: int) -> int:
    """Images in one call of the model.

    On processors a few at a time, so that what passes between the layers stays in their caches and little memory is
    needed; too few, and the processors wait for each other after every layer (`python -m benchmarks.model_calls`). On
    a GPU the whole batch.
    """
    import tensorflow as tf

    if tf.config.list_physical_devices("GPU"):
        return batch_size
    pieces = -(-batch_size // max(16, PIECE * processors()))
    return -(-batch_size // pieces)


_loaded: dict[ModelSpec, Classifier] = {}
_loading = threading.Lock()


def load_classifier(spec: ModelSpec) -> Classifier:
    """The classifier of `spec`, loaded once a process and kept (Beam tears down idle DoFns after a minute).

    Raises:
        ModelError: the directory holds no SavedModel, or it has no such signature, input or output, or other shapes.
    """
    with _loading:
        if spec not in _loaded:
            _loaded.clear()  # a process works for one run at a time
            _loaded[spec] = Classifier(spec)
        return _loaded[spec]


def _load(spec: ModelSpec) -> Any:
    """A function of one tensor, as the SavedModel has it."""
    import tensorflow as tf

    # As `hub.load` does it: modules of TensorFlow 1 have no tags. Importing tensorflow_hub takes a quarter of a second.
    tags: list[str] | None = [] if tf.io.gfile.exists(os.path.join(spec.path, "tfhub_module.pb")) else None
    try:
        module = tf.saved_model.load(spec.path, tags=tags)
    except (OSError, ValueError, tf.errors.OpError) as error:
        raise ModelError(f"model.handle: {spec.path} cannot be loaded as a SavedModel: {_first_line(error)}") from error
    function = _callable(module, spec)
    function.keep_alive = module  # a signature alone does not keep the variables it reads
    return function


def _freeze(spec: ModelSpec, function: Any, batch_size: int) -> Any:
    """A function of an ndarray [batch_size, H, W, 3] to a dict of arrays."""
    import tensorflow as tf

    shape = (batch_size, *spec.image_shape)

    # Autograph has nothing to translate here, and would wrap what the model raises in a page of its own.
    @tf.function(input_signature=[tf.TensorSpec(shape, spec.dtype, name="images")], autograph=False)
    def serve(images: Any) -> dict[str, Any]:
        return _choose_outputs(function(images), spec)

    try:
        traced = serve.get_concrete_function()
        fixed = _with_constants(traced, spec) if _gains_by_constants(traced) else traced
    except ModelError:
        raise
    except (TypeError, ValueError, tf.errors.OpError) as error:
        raise ModelError(f"the model does not take {spec.dtype} {list(shape)}: {_first_line(error)}") from error

    def call(images: np.ndarray) -> dict[str, np.ndarray]:
        try:
            return {name: output.numpy() for name, output in fixed(_tensor(images)).items()}
        except tf.errors.OpError as error:
            exhausted = isinstance(error, tf.errors.ResourceExhaustedError)
            raise ModelCallError(f"{type(error).__name__}: {_reason(error)}", exhausted) from error

    return call


def _gains_by_constants(traced: Any) -> bool:
    """Whether batch normalization is spelled out in the graph, over variables.

    Then TensorFlow folds it into the convolutions once the variables are constants: 8 % faster. Without it constants
    gain nothing, and making them takes a second and half a gigabyte for a model of 19 MB (TensorFlow 2.16).
    """
    if not traced.captured_inputs:
        return False
    graph = traced.graph.as_graph_def()
    nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
    return any(node.op == "Rsqrt" for node in nodes)


def _with_constants(traced: Any, spec: ModelSpec) -> Any:
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    frozen = convert_variables_to_constants_v2(traced)
    names = sorted(kind for kind, _ in spec.outputs)  # a function's dict comes out flattened in this order
    return lambda images: dict(zip(names, frozen(images), strict=True))


def _tensor(images: np.ndarray) -> Any:
    """`images` as a tensor, without a copy where TensorFlow can read them where they are."""
    import tensorflow as tf

    flags = images.flags
    if images.ctypes.data % 64 == 0 and flags.c_contiguous and flags.writeable:
        return tf.experimental.dlpack.from_dlpack(images.__dlpack__())
    return tf.constant(images)


def _choose_outputs(found: Any, spec: ModelSpec) -> dict[str, Any]:
    import tensorflow as tf

    outputs = _named(found)
    chosen = {}
    for kind, name in spec.outputs:
        if name not in outputs and len(outputs) == 1 and spec.signature is None:
            name = next(iter(outputs))  # a bare tensor has no name
        if name not in outputs:
            raise ModelError(f"model.outputs.{kind}: no output {name!r}; the model has {_listed(outputs)}")
        chosen[kind] = tf.cast(outputs[name], tf.float32)
    return chosen


def _callable(module: Any, spec: ModelSpec) -> Any:
    """A function of one tensor: the signature, or the object's call with the right argument."""
    if spec.signature is not None:
        signatures = getattr(module, "signatures", {})
        if spec.signature not in signatures:
            known = _listed(signatures) or "none; set model.signature to null to call the object itself"
            raise ModelError(f"model.signature: no signature {spec.signature!r}; the model has {known}")
        function = signatures[spec.signature]
        inputs = function.structured_input_signature[1]
        name = _choose_input(list(inputs), spec)
        _check_images([inputs[name]], spec)
        return lambda images: function(**{name: images})
    if not callable(module):
        raise ModelError("model.signature is null, and the model's object cannot be called; name a signature")
    calls = _call_inputs(module)
    if not calls:  # it does not tell
        return module
    name = _choose_input(list(dict.fromkeys(name for call in calls for name in call)), spec)
    parameters = [call[name] for call in calls if name in call]
    _check_images([parameter.type_constraint for parameter in parameters], spec)
    if parameters[0].kind is parameters[0].POSITIONAL_ONLY:
        return module
    return lambda images: module(**{name: images})


def _check_images(takes: Sequence[Any], spec: ModelSpec) -> None:
    """Raises ModelError when none of the tensor specs `takes` fits a batch."""
    shape = (spec.batch_size, *spec.image_shape)
    if not any(take.shape.is_compatible_with(shape) and take.dtype.name == spec.dtype for take in takes):
        known = " or ".join(f"{take.dtype.name} {_shape(take)}" for take in takes)
        raise ModelError(
            f"the model takes {known}, and image.size, image.dtype and batch.size make {spec.dtype} {list(shape)}"
        )


def _shape(take: Any) -> str:
    if take.shape.rank is None:
        return "of any shape"
    return str([-1 if length is None else length for length in take.shape])


def _choose_input(names: Sequence[str], spec: ModelSpec) -> str:
    if spec.input is not None:
        if spec.input not in names:
            raise ModelError(f"model.input: no input {spec.input!r}; the model has {_listed(names)}")
        return spec.input
    if len(names) != 1:
        raise ModelError(f"model.input: the model has several inputs; name one of {_listed(names)}")
    return names[0]


def _call_inputs(module: Any) -> list[dict[str, Any]]:
    """For each form of the restored object's call, its parameters that take tensors, by name."""
    import tensorflow as tf

    functions = getattr(getattr(module, "__call__", None), "concrete_functions", None) or []  # noqa: B004
    forms = [
        {
            name: parameter
            for name, parameter in function.function_type.parameters.items()
            if isinstance(parameter.type_constraint, tf.TensorSpec)
        }
        for function in functions
    ]
    return [form for form in forms if form]


def _named(outputs: Any) -> Mapping[str, Any]:
    if isinstance(outputs, Mapping):
        return outputs
    if isinstance(outputs, (list, tuple)):
        return {str(i): output for i, output in enumerate(outputs)}
    return {"output": outputs}


def _listed(names: Any) -> str:
    return ", ".join(sorted(map(str, names)))


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def _reason(error: BaseException) -> str:
    """What an operation says: TensorFlow puts it between a page of stack traces and the operation's name."""
    lines = [line.strip() for line in str(error).partition("[[{{")[0].splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
