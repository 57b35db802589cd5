"""The whole dataflow on one screen."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import apache_beam as beam

from pipeline.config import RunConfig
from pipeline.config_running import RunSection
from pipeline.loading import model_spec
from pipeline.reading import reader
from pipeline.record import RunRecord
from transforms.ahead import Timeouts
from transforms.classify import ClassifyImages
from transforms.decode_images import DecodeImages
from transforms.isolation import IsolatedWork
from transforms.model_source import ModelSource
from transforms.records import Columns, Shard, register_coders
from transforms.write_shards import WriteShards


def label(
    root: beam.Pipeline,
    config: RunConfig,
    record: RunRecord,
    shards: Iterable[Shard],
    columns: Columns,
    labels: tuple[str, ...] | None,
    proven: bool = False,
    source: ModelSource | None = None,
) -> beam.PCollection:
    """Label the images of `shards` and commit a part for each.

    Args:
        root: the pipeline.
        config: the run's config.
        record: what the run is pinned to.
        shards: those that no part covers yet.
        columns: the optional columns of the output.
        labels: label of each class, or None.
        proven: whether the run has labels already, see `ClassifyImages`.
        source: where workers elsewhere get the model from.

    Returns:
        The shards that are covered now.
    """
    register_coders()
    output, spec = record.output, config.preprocessing()
    model = model_spec(config, record.model, record.model_fingerprint, source)
    read = reader(config)
    isolated = IsolatedWork(spec, model, config.model.activation, columns, read)
    return (
        root
        | "Shards" >> beam.Create(list(shards))
        # Spreads the shards over the workers; everything after it is one fused stage, and pixels never leave it.
        | "Spread" >> beam.Reshuffle()
        | "DecodeImages"
        >> DecodeImages(output, spec, config.batch.size, read, isolated=isolated, **reading(config.run))
        | "ClassifyImages" >> ClassifyImages(model, config.model.activation, columns, proven)
        | "WriteShards"
        >> WriteShards(
            output,
            columns,
            labels,
            config.model.label_offset,
            record.plan.fingerprint,
            record.fingerprint,
            strip_uris=config.output.uri == "stripped",
        )
    )


def reading(run: RunSection) -> dict[str, Any]:
    """Arguments of `DecodeImages` that change no row of an image that can be read."""
    return {"decode_threads": run.decode_threads, "timeouts": Timeouts(run.timeout.read, run.timeout.decode)}
