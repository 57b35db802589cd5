"""A SavedModel as TensorFlow runs it."""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from transforms.engines.agreement import remembered
from transforms.engines.division import Division, divide, shared
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
from transforms.engines.processor import has_bfloat16
from transforms.engines.saved_model import takes_any_number
from transforms.pools import processors

_log = logging.getLogger(__name__)


class TensorFlowEngine:
    """A SavedModel, loaded by TensorFlow; see `engine.Engine`.

    Raises:
        ModelError: the directory holds no SavedModel, or it has no such signature or input, or other images.
    """

    def __init__(self, spec: ModelSpec) -> None:
        import tensorflow as tf

        self.title = f"TensorFlow {tf.__version__}"
        self._spec, self._gpu = spec, _gpu()
        self.division = _division(spec, self._gpu)
        _choose_precision(spec.precision, self._gpu)
        self._function = _load(spec)
        self.rewritten = spec.rewriting and spec.precision == "float32" and self._gpu is None
        if self._gpu is not None:
            _log.info("%s on %s: whole batches, the next one copied ahead, %s", self.title, self._gpu, spec.precision)

    def ahead(self, images: np.ndarray) -> Any:
        """A copy on the GPU, if there is one."""
        import tensorflow as tf

        if self._gpu is None:
            return images
        try:
            with tf.device(self._gpu):
                return tf.identity(_tensor(images))
        except tf.errors.ResourceExhaustedError:  # the call will halve the batch
            return images

    def compile(self, batch_size: int) -> Call:
        """A function of images [batch_size, H, W, 3], traced for this one shape."""
        import tensorflow as tf

        try:
            traced = _traced(self._spec, self._function, batch_size)
            serving = self._faster(traced, batch_size) if self.rewritten else None
            self.rewritten = serving is not None
            if serving is None:
                serving = _with_constants(traced, self._spec) if _gains_by_constants(traced) else traced
        except ModelError:
            raise
        except (TypeError, ValueError, tf.errors.OpError) as error:
            shape = [batch_size, *self._spec.image_shape]
            raise ModelError(f"the model does not take {self._spec.dtype} {shape}: {_first_line(error)}") from error
        return _call(serving)

    def _faster(self, traced: Any, batch_size: int) -> Any:
        """The function rewritten, where that gains, can be done and is not known to give something else."""
        import tensorflow as tf

        if not _has(traced, "Erf"):
            return None
        before = remembered(replace(self._spec, batch_size=batch_size), self.title)
        if before is not None and not before.agrees:
            _log.warning("%s; compared by an earlier run: the model's graph is used as it is", before.said)
            return None
        from transforms.engines.rewriting import rewritten

        try:
            fast, plain = _by_kind(rewritten(traced), self._spec), traced
        except (TypeError, ValueError, tf.errors.OpError) as error:  # all that is not known there ends in one of these
            _log.info("the model's graph is used as it is: %s", _first_line(error))
            return None

        def call(images: Any) -> Any:
            nonlocal fast
            try:
                return fast(images)
            except tf.errors.ResourceExhaustedError:
                raise
            except tf.errors.OpError as error:
                found = plain(images)  # which raises when it is not for the rewriting
                _log.warning("the model's graph is used as it is; rewritten it fails: %s", _first_line(error))
                fast, self.rewritten = plain, False
                return found

        return call


def _division(spec: ModelSpec, gpu: str | None) -> Division:
    """How batches are spread; TensorFlow's threads are set to fit, if it has not started."""
    if gpu is not None:
        return Division(spec.batch_size, 1)
    wanted = divide(spec.batch_size, processors(), least=4, most=8)
    if wanted.calls > 1 and not (takes_any_number(spec) and _a_thread_a_call()):
        return shared(spec.batch_size, processors())
    return wanted


def _a_thread_a_call() -> bool:
    """Have TensorFlow compute each call in one thread, in all of the process; False where it cannot be any more."""
    import tensorflow as tf

    if os.environ.get("TF_NUM_INTRAOP_THREADS"):  # the user has chosen
        return False
    try:
        tf.config.threading.set_intra_op_parallelism_threads(1)
    except RuntimeError:  # it has its threads already
        return tf.config.threading.get_intra_op_parallelism_threads() == 1
    return True


def _gpu() -> str | None:
    """The first GPU that TensorFlow may use, found without starting it."""
    import tensorflow as tf

    return "/device:GPU:0" if tf.config.get_visible_devices("GPU") else None


def _choose_precision(precision: str, gpu: str | None) -> None:
    """Let TensorFlow multiply in `precision` from now on, in all of the process.

    Raises:
        ModelError: the device cannot.
    """
    import tensorflow as tf

    if precision == "int8":
        raise ModelError("model.precision: int8 is OpenVINO's; use model.engine: openvino")
    if precision == "float16" and gpu is None:
        raise ModelError("model.precision: float16 needs a GPU, and TensorFlow sees none; on processors use bfloat16")
    if precision == "bfloat16" and gpu is not None:
        raise ModelError("model.precision: bfloat16 is for processors; on a GPU use float16")
    if precision == "bfloat16" and not has_bfloat16():
        raise ModelError(f"model.precision: {NO_BFLOAT16}")
    # Grappler's passes: float32 stays where less is not safe (the lists of auto_mixed_precision_lists.h).
    passes = {"auto_mixed_precision": "float16", "auto_mixed_precision_onednn_bfloat16": "bfloat16"}
    tf.config.optimizer.set_experimental_options({name: precision == chosen for name, chosen in passes.items()})
    if gpu is not None:  # NVIDIA's GPUs from Ampere on would take 10 bits of float32's 23 by default
        tf.config.experimental.enable_tensor_float_32_execution(precision != "float32")


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


def _traced(spec: ModelSpec, function: Any, batch_size: int) -> Any:
    """A concrete function of images [batch_size, H, W, 3] to the spec's outputs."""
    import tensorflow as tf

    # Autograph has nothing to translate here, and would wrap what the model raises in a page of its own.
    @tf.function(
        input_signature=[tf.TensorSpec((batch_size, *spec.image_shape), spec.dtype, name="images")], autograph=False
    )
    def serve(images: Any) -> dict[str, Any]:
        return _choose_outputs(function(images), spec)

    return serve.get_concrete_function()


def _call(serving: Any) -> Call:
    """`serving` as a function of arrays."""
    import tensorflow as tf

    def call(images: np.ndarray) -> Outputs:
        try:
            return {name: output.numpy() for name, output in serving(_tensor(images)).items()}
        except tf.errors.OpError as error:
            exhausted = isinstance(error, tf.errors.ResourceExhaustedError)
            raise ModelCallError(f"{type(error).__name__}: {_reason(error)}", exhausted) from error

    return call


def _gains_by_constants(traced: Any) -> bool:
    """Whether batch normalization is spelled out in the graph, over variables.

    Then TensorFlow folds it into the convolutions once the variables are constants: 8 % faster. Without it constants
    gain nothing, and making them takes a second and half a gigabyte for a model of 19 MB (TensorFlow 2.16).
    """
    return bool(traced.captured_inputs) and _has(traced, "Rsqrt")


def _has(traced: Any, kind: str) -> bool:
    """Whether the graph, or a function in it, has an operation of this kind."""
    graph = traced.graph.as_graph_def()
    nodes = itertools.chain(graph.node, *(function.node_def for function in graph.library.function))
    return any(node.op == kind for node in nodes)


def _with_constants(traced: Any, spec: ModelSpec) -> Any:
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    return _by_kind(convert_variables_to_constants_v2(traced), spec)


def _by_kind(function: Any, spec: ModelSpec) -> Any:
    kinds = sorted(kind for kind, _ in spec.outputs)  # a function's dict comes out flattened in this order
    return lambda images: dict(zip(kinds, function(images), strict=True))


def _tensor(images: Any) -> Any:
    """`images` as a tensor, which they may be already, without a copy where TensorFlow can read them where they are."""
    import tensorflow as tf

    if not isinstance(images, np.ndarray):
        return images
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
            raise missing_output(kind, name, outputs)
        chosen[kind] = tf.cast(outputs[name], tf.float32)
    return chosen


def _callable(module: Any, spec: ModelSpec) -> Any:
    """A function of one tensor: the signature, or the object's call with the right argument."""
    if spec.signature is not None:
        signatures = getattr(module, "signatures", {})
        if spec.signature not in signatures:
            known = listed(signatures) or "none; set model.signature to null to call the object itself"
            raise ModelError(f"model.signature: no signature {spec.signature!r}; the model has {known}")
        function = signatures[spec.signature]
        inputs = function.structured_input_signature[1]
        name = choose_input(list(inputs), spec)
        _check_images([inputs[name]], spec)
        return lambda images: function(**{name: images})
    if not callable(module):
        raise ModelError("model.signature is null, and the model's object cannot be called; name a signature")
    calls = _call_inputs(module)
    if not calls:  # it does not tell
        return module
    name = choose_input(list(dict.fromkeys(name for call in calls for name in call)), spec)
    parameters = [call[name] for call in calls if name in call]
    _check_images([parameter.type_constraint for parameter in parameters], spec)
    if parameters[0].kind is parameters[0].POSITIONAL_ONLY:
        return module
    return lambda images: module(**{name: images})


def _check_images(takes: Sequence[Any], spec: ModelSpec) -> None:
    """Raises ModelError when none of the tensor specs `takes` fits a batch."""
    shape = (spec.batch_size, *spec.image_shape)
    if not any(take.shape.is_compatible_with(shape) and take.dtype.name == spec.dtype for take in takes):
        raise unfit(" or ".join(f"{take.dtype.name} {_shape(take)}" for take in takes), spec)


def _shape(take: Any) -> str:
    if take.shape.rank is None:
        return "of any shape"
    return str([-1 if length is None else length for length in take.shape])


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


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def _reason(error: BaseException) -> str:
    """What an operation says: TensorFlow puts it between a page of stack traces and the operation's name."""
    lines = [line.strip() for line in str(error).partition("[[{{")[0].splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
