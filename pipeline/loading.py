"""The model of a run, as its config describes it: what it is called with, and what it says of itself."""

from __future__ import annotations

from pipeline.config import RunConfig
from pipeline.errors import UsageError
from pipeline.labels import check_label_count, load_labels
from transforms.model import ModelError, ModelSpec, load_classifier
from transforms.model_source import ModelSource
from transforms.records import Columns


def model_spec(config: RunConfig, path: str, fingerprint: str = "", source: ModelSource | None = None) -> ModelSpec:
    """How the model at `path`, whose files have this digest, is loaded and called under `config`.

    Args:
        source: where workers elsewhere get it from.
    """
    return ModelSpec(
        path=path,
        signature=config.model.signature,
        input=config.model.input,
        outputs=tuple(sorted(config.model.outputs.items())),
        image_shape=config.preprocessing().model_shape,
        dtype=config.image.dtype,
        batch_size=config.batch.size,
        engine=config.model.engine,
        precision=config.model.precision,
        fingerprint=fingerprint,
        source=source,
    )


def columns_and_labels(
    config: RunConfig, model_path: str, fingerprint: str = ""
) -> tuple[Columns, tuple[str, ...] | None]:
    """The optional columns and the labels of a run; loads the model, which the pipeline's steps then share.

    Raises:
        UsageError: the model has no such signature or output, takes other images, or has another number of classes.
    """
    try:
        lengths = load_classifier(model_spec(config, model_path, fingerprint)).lengths
    except ModelError as error:
        raise UsageError(str(error)) from None
    labels = load_labels(config.model.labels) if config.model.labels else None
    classes = lengths.get("probabilities", lengths.get("logits"))
    if labels is not None and classes is not None:
        check_label_count(labels, classes, config.model.label_offset, config.model.labels or "")
    columns = Columns(
        top_k=config.output.top_k if config.model.classifies else 0,
        logits=lengths["logits"] if config.output.logits else 0,
        embedding=lengths["embedding"] if config.output.embedding else 0,
    )
    return columns, tuple(labels) if labels is not None else None
