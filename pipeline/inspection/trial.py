"""A model called on generated pictures, just as the pipeline would call it."""

from __future__ import annotations

from typing import Any

from pipeline.inspection.graph import freeze, last_operation, parameters
from pipeline.inspection.interface import Interface, named
from pipeline.inspection.judgement import Judgement, judge, pictures
from pipeline.inspection.snippet import image_size
from transforms.model import Classifier, ModelCallError, ModelError, ModelSpec

__all__ = ["ModelError", "try_out"]

BATCH = 8


def try_out(path: str, module: Any, interface: Interface) -> tuple[int | None, dict[str, Judgement]]:
    """Call `interface` of the loaded `module`.

    Args:
        path: directory of its SavedModel.

    Returns:
        How many parameters it computes with, and what its outputs are, by name.

    Raises:
        ModelError: it cannot be called so, or fails.
    """
    tensor = interface.image_input
    assert tensor is not None
    assert tensor.shape is not None
    shape = (*image_size(interface), 3)
    batch = tensor.shape[0] or BATCH
    names, operations, ranks, count = _trace(module, interface, (batch, *shape))
    spec = ModelSpec(
        path=path,
        signature=interface.signature,
        input=tensor.name if interface.signature is not None else None,
        outputs=tuple((name, name) for name in names),
        image_shape=shape,
        dtype=tensor.dtype,
        batch_size=batch,
        rewriting=False,  # for one batch it does not pay
    )
    try:
        values = Classifier(spec)(pictures(*shape[:2], tensor.dtype))
    except ModelCallError as error:
        raise ModelError(str(error)) from None
    judged = {name: judge(name, values[name], operations[name], ranks[name]) for name in names}
    return count, judged


def _trace(
    module: Any, interface: Interface, shape: tuple[int, ...]
) -> tuple[list[str], dict[str, str | None], dict[str, bool], int]:
    """Names of the outputs with a row an image, the op behind each, whether it has a height and width; parameters."""
    import tensorflow as tf

    tensor = interface.image_input
    assert tensor is not None
    keyword = tensor.name
    function = module.signatures[interface.signature] if interface.signature is not None else module
    by_keyword = interface.signature is not None or _keyword_only(module)

    names: list[str] = []

    def call(images: Any) -> list[Any]:
        outputs = named(function(**{keyword: images}) if by_keyword else function(images))
        names[:] = sorted(outputs)
        return [outputs[name] for name in names]

    try:
        frozen = freeze(call, [tf.TensorSpec(shape, tensor.dtype)])
    except (TypeError, ValueError, tf.errors.OpError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise ModelError(f"it does not take {tensor.dtype} {list(shape)}: {lines[0] if lines else error}") from None
    operations: dict[str, str | None] = {}
    spatial: dict[str, bool] = {}
    for name, output in zip(names, frozen.outputs, strict=True):
        rank = output.shape.rank
        if rank == 0 or not (output.dtype.is_floating or output.dtype.is_integer):
            continue
        operations[name] = last_operation(output)
        spatial[name] = rank is not None and rank > 2 and any(n != 1 for n in output.shape[1:-1])
    if not operations:
        raise ModelError("it gives no numbers for an image")
    return list(operations), operations, spatial, parameters(frozen.graph)


def _keyword_only(module: Any) -> bool:
    functions = getattr(module.__call__, "concrete_functions", None) or []
    return all(not function.structured_input_signature[0] for function in functions)
