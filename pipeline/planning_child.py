"""The process that has workers plan: `python -m pipeline.planning_child OUTPUT LIBRARY EVENTS_FD`.

It is spoken with as `remote_child` is; its job is a line of JSON, see `worker_planning.planning_job`. The job that it
submits is worth nothing without its launcher, which begins anew: so it is cancelled when the pipe closes, and one that
an earlier launcher could not cancel any more is cancelled first. `plan.partial/job.json` remembers it.
"""

from __future__ import annotations

import json
import os
import sys
from functools import partial
from typing import Any

from pipeline.child import child_main, finish, root_cause
from pipeline.config import RunConfig, config_from_resolved
from pipeline.errors import HublabelError
from pipeline.job_record import ENDED, active_job, new_job, save_job
from pipeline.remote_child import Orders, Tell, log_beam, watch
from pipeline.runner_table import place
from pipeline.worker_planning import FOLDER
from transforms.masked_output import mask_output
from transforms.plan_pieces import Piece
from transforms.storage import Storage, open_storage

AGAIN = "run the same command again to plan anew"


def run(output: str, told: dict[str, Any], tell: Tell, orders: Orders) -> None:
    """Plan the pieces of `told` in `output` by a job, and watch it to its end.

    Raises:
        HublabelError: the job failed, or its runner does not answer.
    """
    from pipeline.remote_jobs import NoAnswerError
    from pipeline.runners import submitted

    config = config_from_resolved(told["config"], "the config")
    name, options = config.runner.name, config.runner.options
    records = open_storage(f"{output}/{FOLDER}")
    _end_earlier(config, records, tell)
    if orders.cancel.is_set():
        return
    known = new_job(name, place(name, options), f"{options.get('job_name', 'hublabel')}-plan")
    pieces = [Piece(number, os.fsencode(location), *rest) for number, location, *rest in told["pieces"]]
    pipeline = planning_pipeline(config, output, told["prefix"], pieces, known.name)
    save_job(records, known)
    job = orders.job = submitted(name, pipeline.run())
    known = save_job(records, known, id=job.id)
    tell("say", text=f"submitted {known}, which plans")
    try:
        state = watch(job, _silent, orders.cancel)
    except NoAnswerError:
        raise HublabelError(f"{known}, which plans: its runner does not answer any more; {AGAIN}") from None
    save_job(records, known, state=state)
    if state == "FAILED":
        why = job.failure()
        raise HublabelError(f"{known}, which plans, failed: {root_cause(RuntimeError(why or 'no reason given'))}")
    if state == "CANCELLED" and not orders.cancel.is_set():
        raise HublabelError(f"{known}, which plans, was cancelled; {AGAIN}")


def _end_earlier(config: RunConfig, records: Storage, tell: Tell) -> None:
    """Cancel the job of a launcher that died. Raises HublabelError: its runner does not answer."""
    from pipeline.runners import find_job

    known = active_job(records)
    if known is None or known.runner != config.runner.name:  # of another runner: what it makes is not looked at
        return
    job = find_job(known.runner, config.runner.options, known.name, known.id)
    if job is not None and job.state() not in ENDED:
        job.cancel()
        tell("say", text=f"{known}, which planned for an earlier launcher, is cancelled")


def planning_pipeline(config: RunConfig, output: str, prefix: str, pieces: list[Piece], job_name: str) -> Any:
    """The pipeline that plans `pieces`, ready to run. Raises UsageError: an option is wrong."""
    import apache_beam as beam

    from pipeline.runners import runner_and_options
    from transforms.plan_lists import PlanLists

    runner, options = runner_and_options(config.runner.name, config.runner.options, job_name)
    pipeline = beam.Pipeline(runner=runner, options=options)
    given = config.run.shard_size
    step = PlanLists(output, prefix, config.batch.size, None if given == "auto" else int(given))
    _ = pipeline | "Pieces" >> beam.Create(pieces) | "PlanLists" >> step
    return pipeline


def _silent(event: str, **values: Any) -> None:
    """The parent tells how far planning is by what workers have left."""


def main(arguments: list[str]) -> int:
    """Plan for the run in the output that the arguments name; returns the exit code."""
    orders = Orders()
    return child_main(arguments, orders.listen, partial(run, orders=orders), json.loads)


if __name__ == "__main__":
    mask_output()
    log_beam()
    finish(main(sys.argv[1:]))
