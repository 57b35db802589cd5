"""From a run and its pending shards to a pipeline that a remote runner can be given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from pipeline.config import RunConfig
from pipeline.coverage import any_labelled
from pipeline.loading import columns_and_labels
from pipeline.model_staging import worker_model
from pipeline.record import RunRecord
from transforms.plan_reader import carried_columns
from transforms.records import Shard
from transforms.storage import Storage

if TYPE_CHECKING:
    import apache_beam as beam


def pipeline_for(
    storage: Storage,
    record: RunRecord,
    config: RunConfig,
    shards: list[Shard],
    job_name: str,
    say: Callable[[str], None],
) -> beam.Pipeline:
    """The pipeline that labels `shards`, ready to run; the model is where its workers find it.

    Args:
        job_name: what the runner is to call it.
        say: told what takes a while.

    Raises:
        UsageError: the model does not fit the config, or the workers cannot reach it; an option is wrong.
    """
    columns, labels = columns_and_labels(config, record.model, record.model_fingerprint)
    source = worker_model(config, record, say)
    import apache_beam as beam

    from pipeline.graph import label
    from pipeline.runners import runner_and_options

    columns = replace(columns, carried=carried_columns(storage, config.input.columns))
    runner, options = runner_and_options(config.runner.name, config.runner.options, job_name)
    pipeline = beam.Pipeline(runner=runner, options=options)
    label(pipeline, config, record, shards, columns, labels, any_labelled(storage, record.plan), source)
    return pipeline
