"""The process that submits a run's job to a remote runner, or attaches to it, and watches it to its end.

`python -m pipeline.remote_child OUTPUT LIBRARY EVENTS_FD`, started by `supervise` as `child` is, and spoken with alike.
After the job line its parent may say `cancel`. When the pipe closes it ends, and the job goes on without it, unless it
cannot (see `runner_table.ends_with_launcher`): then it is cancelled.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from typing import Any, BinaryIO

from pipeline.agreement import float32_reference, telling_agreement
from pipeline.child import MARKS_PATIENCE, child_main, finish, root_cause
from pipeline.config import RunConfig, config_from_resolved
from pipeline.errors import HublabelError
from pipeline.job_record import ENDED, JobRecord, active_job, new_job, save_job
from pipeline.progress import LABELLING
from pipeline.record import RunRecord, load_record
from pipeline.runner_table import ends_with_launcher, place
from pipeline.submission import pipeline_for
from transforms.attempts import remove_marks, withdraw_marks
from transforms.masked_output import mask_output
from transforms.parts import newest_parts
from transforms.records import Shard
from transforms.storage import Storage, open_storage

POLL, SLOWEST_POLL = 0.2, 5.0  # seconds between looks at the job: often at first, then as the service likes it
NO_ANSWER = 600.0  # seconds without an answer after which the job is left to itself
GO_ON = "what is committed stays: run the same command again to go on"
Tell = Callable[..., None]


class Orders:
    """What the parent has said since the job was submitted."""

    def __init__(self) -> None:
        self.cancel = threading.Event()
        self.job: Any = None  # the job to cancel when the parent goes, if it ends with this process

    def listen(self, stream: BinaryIO, first: SimpleQueue[bytes]) -> None:
        """Take the first line, then orders; end the process when the pipe closes."""
        if line := stream.readline():
            first.put(line)
        while line := stream.readline():
            if line.strip() == b"cancel":
                self.cancel.set()
        _end_with_parent(self.job)


def _end_with_parent(job: Any) -> None:
    end = threading.Timer(MARKS_PATIENCE, os._exit, (1,))
    end.daemon = True
    end.start()
    with suppress(HublabelError):  # its runner does not answer
        if job is not None:
            job.cancel()
    withdraw_marks()
    os._exit(1)


def run(output: str, shards: list[Shard], tell: Tell, orders: Orders) -> None:
    """Label `shards` of the run in `output` by a job: the one that goes on already, or a new one.

    Raises:
        HublabelError: the run is not there, the model does not fit the config, the job failed, or its runner does not
            answer.
    """
    from pipeline.runners import find_job

    storage = open_storage(output)
    record = load_record(storage, output)
    if record is None:
        raise HublabelError(f"{output}: no run to go on with")
    config = config_from_resolved(record.config, f"{output}/run.yaml")
    bound = ends_with_launcher(config.runner.name, config.runner.options)
    known = active_job(storage)
    if known is not None:
        tell("phase", name="looking for the job")
        job = find_job(known.runner, config.runner.options, known.name, known.id)
        if job is None:
            tell("say", text=f"{known} is not known there any more")
        elif known.ends_with_launcher:
            job.cancel()
            tell("say", text=f"{known} cannot be attached to without its launcher, and is cancelled")
        else:
            known = save_job(storage, known, id=job.id)
            tell("say", text=f"attached to {known}")
            _see_to_the_end(storage, record, known, job, tell, orders)
            shards = _left(storage, record, shards)  # the job was submitted for others, if the run was extended
    if shards and not orders.cancel.is_set():
        known, job = _submit(storage, record, config, shards, tell)
        tell("say", text=f"submitted {known}")
        if bound:
            orders.job = job
        _see_to_the_end(storage, record, known, job, tell, orders)


def _left(storage: Storage, record: RunRecord, shards: list[Shard]) -> list[Shard]:
    """Those of `shards` that have no part yet."""
    parts = [newest_parts(storage, number) for number in range(len(record.plan.files))]
    return [shard for shard in shards if parts[shard.file].get(shard.row_group, (-1, ""))[0] < shard.generation]


def _submit(
    storage: Storage, record: RunRecord, config: RunConfig, shards: list[Shard], tell: Tell
) -> tuple[JobRecord, Any]:
    from pipeline.runners import submitted

    name, options = config.runner.name, config.runner.options
    tell("phase", name="loading the model")
    bound = ends_with_launcher(name, options)
    known = new_job(name, place(name, options), str(options.get("job_name", "hublabel")), bound)
    with float32_reference(config, record, storage) as reference:
        pipeline = pipeline_for(storage, record, config, shards, known.name, partial(_say, tell))
        with telling_agreement(reference, config, record, storage, shards, partial(_say, tell)):
            tell("phase", name="submitting the job")
            save_job(storage, known)
            job = submitted(name, pipeline.run())
            known = save_job(storage, known, id=job.id)
    return known, job


def _say(tell: Tell, text: str) -> None:
    tell("say", text=text)


def _see_to_the_end(
    storage: Storage, record: RunRecord, known: JobRecord, job: Any, tell: Tell, orders: Orders
) -> None:
    state = watch(job, tell, orders.cancel)
    save_job(storage, known, state=state)
    if state == "CANCELLED":
        for number in range(len(record.plan.files)):  # its workers were stopped, no image has killed them
            remove_marks(storage, number)
        if not orders.cancel.is_set():
            raise HublabelError(f"{known} was cancelled; {GO_ON}")
    elif state == "FAILED":
        why = job.failure()
        why = root_cause(RuntimeError(why)) if why else "the runner does not say why"
        raise HublabelError(f"{known} failed: {why}; {GO_ON}")


def watch(
    job: Any,
    tell: Tell,
    cancel: threading.Event,
    clock: Callable[[], float] = time.monotonic,
    wait: Callable[[float], None] = time.sleep,
) -> str:
    """Look at the job until it has ended; the state it ended in.

    Raises:
        NoAnswerError: its runner has not answered for `NO_ANSWER` seconds.
    """
    from pipeline.remote_jobs import NoAnswerError

    last, told_to_cancel = "", False
    began = heard = clock()
    while True:
        try:
            if cancel.is_set() and not told_to_cancel:
                job.cancel()
                told_to_cancel = True
            state = job.state()
            heard = clock()
        except NoAnswerError as error:
            if clock() - heard > NO_ANSWER:
                raise NoAnswerError(f"{error}; the job may go on: run the same command again to attach to it") from None
            state = last
        if state in ENDED:
            return state
        if state != last:
            tell("phase", name=LABELLING if state == "RUNNING" else f"job {state.lower()}")
            last = state
        wait(min(SLOWEST_POLL, POLL + (clock() - began) / 20))


def main(arguments: list[str]) -> int:
    """Run the job of the run in the output that the arguments name; returns the exit code."""
    orders = Orders()
    return child_main(arguments, orders.listen, partial(run, orders=orders))


def log_beam() -> None:
    """Have Beam tell what it does, without the type hints that it makes nothing of: dozens of lines a job."""
    logging.getLogger("apache_beam").setLevel(logging.INFO)
    logging.getLogger("apache_beam.typehints").setLevel(logging.WARNING)


if __name__ == "__main__":
    mask_output()
    log_beam()
    finish(main(sys.argv[1:]))
