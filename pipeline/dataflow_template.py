"""The child of `hublabel run --dry-run`: `python -m pipeline.dataflow_template FOLDER LIBRARY EVENTS_FD`.

It gets the resolved config as a line of JSON on its standard input, and writes into FOLDER what a run on Dataflow would
send there, without credentials or network: `template.json` (the job), `staging/pipeline.pb` (the graph) and
`staging/workflow.tar.gz` (the source package, where the config has `setup_file`).
"""

from __future__ import annotations

import json
import logging
import os
import sys
from dataclasses import replace

from pipeline.child import finish, root_cause
from pipeline.config import RunConfig, config_from_resolved
from pipeline.errors import HublabelError, UsageError
from pipeline.labels import load_labels
from pipeline.loading import columns_and_labels
from pipeline.model_staging import model_place, planned_source
from pipeline.plan import Plan
from pipeline.record import RunRecord, hash_folder, recorded
from pipeline.resolve import resolve_model
from transforms.masked_output import mask_output
from transforms.records import Columns
from transforms.storage import open_storage

TEMPLATE = "template.json"
UNSEEN = "0" * 64  # where there should be the digest of a model that is not on this machine


def write_template(config: RunConfig, folder: str) -> None:
    """Write the template of the run's job into `folder`.

    There is no plan: the job's list of shards is empty, and all else is as it will be.

    Raises:
        UsageError: the config does not do for Dataflow, or not without a model that is not on this machine.
    """
    import apache_beam as beam

    from pipeline.graph import label
    from pipeline.runners import check_dataflow, runner_and_options

    model = _model_here(config)
    columns, labels = _columns_and_labels(config, model)
    fingerprint = hash_folder(model) if model else UNSEEN
    plan = Plan(0, 0, 0, (), UNSEEN, {})
    output = open_storage(config.output.path).root
    record = RunRecord(output, recorded(config), model or "", {"model files": fingerprint}, plan, {})
    places = {name: os.path.join(folder, name) for name in ("staging", "temp")}
    for place in places.values():
        os.makedirs(place, exist_ok=True)
    local = {
        "template_location": os.path.join(folder, TEMPLATE),
        "staging_location": places["staging"],
        "temp_location": places["temp"],
        "no_auth": True,
        "dataflow_endpoint": "http://localhost:1",
    }
    given = config.runner.options
    check_dataflow(given)
    runner, options = runner_and_options(config.runner.name, {**given, **local}, _job_name(config))
    pipeline = beam.Pipeline(runner=runner, options=options)
    label(pipeline, config, record, [], columns, labels, source=planned_source(config, record))
    pipeline.run()


def _job_name(config: RunConfig) -> str:
    return str(config.runner.options.get("job_name", "hublabel"))


def _model_here(config: RunConfig) -> str | None:
    """Directory of the model where it is a local one; None where it would have to be fetched."""
    scheme = config.model.handle.partition("://")[0] if "://" in config.model.handle else "file"
    return os.path.abspath(resolve_model(config.model.handle, config.model.sha256)) if scheme == "file" else None


def _columns_and_labels(config: RunConfig, model: str | None) -> tuple[Columns, tuple[str, ...] | None]:
    carried = _carried(config)
    if model is not None:
        columns, labels = columns_and_labels(config, model)
        return replace(columns, carried=carried), labels
    for name in ("logits", "embedding"):
        if getattr(config.output, name):
            raise UsageError(
                f"output.{name}: its length is only known of a model on this machine; for a dry run set model.handle "
                "to a local copy"
            )
    names = tuple(load_labels(config.model.labels)) if config.model.labels else None
    return Columns(top_k=config.output.top_k if config.model.classifies else 0, carried=carried), names


def _carried(config: RunConfig) -> bytes:
    """The columns to carry, whose types only the plan knows: as strings."""
    import pyarrow as pa

    if not config.input.columns:
        return b""
    return pa.schema([(name, pa.string()) for name in config.input.columns]).serialize().to_pybytes()


def main(arguments: list[str]) -> int:
    """Write the template into the folder that the arguments name; returns the exit code."""
    folder, events = arguments[0], os.fdopen(int(arguments[2]), "w", buffering=1)

    def fail(error: Exception, code: int) -> int:
        events.write(json.dumps({"event": "error", "message": root_cause(error), "exit_code": code}) + "\n")
        return code

    import tensorflow  # noqa: F401  # whole before Beam

    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.WARNING)
    try:
        config = config_from_resolved(json.loads(sys.stdin.buffer.readline()), "the config")
        model_place(config)
        write_template(config, folder)
    except HublabelError as error:
        return fail(error, error.exit_code)
    except Exception as error:
        logging.exception("no template")
        return fail(error, 1)
    return 0


if __name__ == "__main__":
    mask_output()
    finish(main(sys.argv[1:]))
