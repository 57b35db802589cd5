"""The launcher of the Dataflow flex template: plans a run and makes its job, which Dataflow then starts itself.

Dataflow gives it the parameters of `deploy/flex_template.json`, and Beam's options: project, region, job_name,
template_location, ... Nobody waits for the job here: `hublabel run` with the same config attaches to it, or finishes
the output once it is done.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.config import RunConfig, load_config
from pipeline.console import Voice, plain_console
from pipeline.coverage import Coverage
from pipeline.errors import HublabelError, UsageError
from pipeline.job_record import JobRecord, load_job, save_job, utc_now
from pipeline.lock import output_lock
from pipeline.pinning import pinned_record
from pipeline.reachable import check_reachable
from pipeline.runner_table import DATAFLOW, place
from pipeline.signals import stop_signals
from pipeline.submission import pipeline_for
from transforms.storage import Storage, is_remote, open_storage

# Parameter of the template -> the key it overrides, and whether it must be given.
PARAMETERS = {
    "config": (None, True),
    "input": ("input.path", False),
    "output": ("output.path", False),
    "model": ("model.handle", False),
    "staging": ("model.staging", False),
    "overrides": (None, False),
}


def main(arguments: Sequence[str], configs: Path) -> int:
    """Make the job that `arguments` describe; returns the exit code.

    Args:
        configs: folder of the shipped configs: beside them, labels of one that is fetched are looked up.
    """
    console = plain_console(stderr=True)
    try:
        parsed, beam_arguments = _parser().parse_known_args(arguments)
        make_job(flex_config(parsed, beam_arguments, configs), console)
    except HublabelError as error:
        console.print(f"hublabel: {error}")
        return error.exit_code
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="flex_template", allow_abbrev=False)
    for name, (_, required) in PARAMETERS.items():
        parser.add_argument(f"--{name}", required=required)
    return parser


def flex_config(parsed: argparse.Namespace, beam_arguments: Sequence[str], configs: Path) -> RunConfig:
    """The config that the template's parameters name, with those that override a key, and with Beam's options.

    Raises:
        UsageError: it cannot be read, or a value is not valid.
    """
    given = {key: getattr(parsed, name) for name, (key, _) in PARAMETERS.items() if key}
    overrides = [f"{key}={json.dumps(value)}" for key, value in given.items() if value]
    try:
        further = json.loads(parsed.overrides or "{}")
        overrides += [f"{key}={json.dumps(value)}" for key, value in further.items()]
    except (ValueError, AttributeError):
        raise UsageError(f"overrides: {parsed.overrides!r} is not a JSON object of keys and values") from None
    path = _local_copy(parsed.config, configs)
    options = {**load_config(path, overrides).runner.options, **_options(beam_arguments)}
    return load_config(path, [*overrides, f"runner.name={DATAFLOW}", f"runner.options={json.dumps(options)}"])


def _local_copy(uri: str, configs: Path) -> str:
    """The config file at `uri`, put into the folder `configs` if it has to be fetched."""
    if not is_remote(uri):
        return uri
    folder, _, name = uri.rpartition("/")
    try:
        text = open_storage(folder).read(name)
    except (ValueError, OSError) as error:
        raise UsageError(f"config: {uri} cannot be read: {error}") from None
    target = configs / f"fetched-{name}"
    target.write_bytes(text)
    return str(target)


def _options(arguments: Sequence[str]) -> dict[str, Any]:
    """Beam's options among `arguments`, those that differ from their defaults."""
    from apache_beam.options.pipeline_options import PipelineOptions

    found = PipelineOptions(list(arguments)).get_all_options(drop_default=True)
    return {name: value for name, value in found.items() if name != "runner" and value is not None}


def make_job(config: RunConfig, console: Voice) -> None:
    """Plan the run and make its job: `template_location` gets it.

    Raises:
        UsageError: there is nothing to do, or the run's last job may still go on.
        HublabelError: as a run's.
    """
    check_reachable(config)
    storage = open_storage(config.output.path)
    with output_lock(storage.root, console.print) as lock, stop_signals(lock.check) as signals:
        _check_last_job(config, storage)
        record = pinned_record(config, storage, console, signals)
        coverage = Coverage(storage, record.plan, record.fingerprint)
        coverage.refresh()
        coverage.mend(console.warn)
        shards = list(coverage.pending())
        if not shards:
            raise UsageError(f"{storage.root}: every image has its row already; `hublabel run` writes the report")
        options = config.runner.options
        name = str(options.get("job_name", "hublabel"))
        pipeline = pipeline_for(storage, record, config, shards, name, console.print)
        pipeline.run()
        save_job(storage, JobRecord(DATAFLOW, place(DATAFLOW, options), name, submitted=utc_now()))
        console.print(f"made the job {name}: {len(shards):,} shards of {record.plan.shards:,}")


def _check_last_job(config: RunConfig, storage: Storage) -> None:
    from pipeline.runners import find_job

    last = load_job(storage)
    if last is None or last.ended:
        return
    if find_job(last.runner, config.runner.options, last.name, last.id) is not None:
        raise UsageError(f"{storage.root}: {last} may still go on; wait for it, or cancel it")
