"""Before the first child: the record of a run, made, found again, or extended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from pipeline.config import RunConfig
from pipeline.console import Voice
from pipeline.errors import UsageError
from pipeline.inputs import Reading
from pipeline.job_record import NAME as JOB
from pipeline.job_record import active_job
from pipeline.plan import Plan
from pipeline.progress import PlanProgress
from pipeline.reachable import check_uris
from pipeline.reading import check_readable
from pipeline.record import RunRecord, differences, load_record, make_pins, recorded, save_record
from pipeline.resolve import resolve_model
from pipeline.runner_table import workers_are_here
from pipeline.signals import Signals
from pipeline.staging import plan_folder
from pipeline.versions import pinned_libraries, versions
from transforms.storage import Storage

if TYPE_CHECKING:
    from pipeline.children import Children


def pinned_record(
    config: RunConfig,
    storage: Storage,
    console: Voice,
    signals: Signals,
    extend: bool = False,
    keep_config: bool = False,
    children: Children | None = None,
) -> RunRecord:
    """The record of the run, made now or found; a found one must be of the same run.

    Args:
        extend: take up what the input has got since the plan was made.
        keep_config: leave the recorded config as it is, even where `config` differs in what may change.
        children: start the process that submits a job for planning; None where no such job can be submitted.

    Raises:
        UsageError: the output holds parts of a run that differs, or a job may go on that makes such; or there is
            nothing to extend.
    """
    model = resolve_model(config.model.handle, config.model.sha256, console, signals.check)
    pins = make_pins(config, model, pinned_libraries(config.model.engine))
    signals.check()
    found = load_record(storage, storage.root)
    if found is not None:
        changed = differences(found.pins, pins)
        if changed:
            _check_not_begun(storage, found, "\n  ".join(changed))
        if not changed:
            record = found if keep_config else replace(found, config=recorded(config), model=model)
            if extend:
                record = _extended(record, config, storage, console, signals)
            if record != found:
                save_record(storage, record)
            return record
    if extend:
        raise UsageError(f"{storage.root}: no run to extend; run without --extend")
    plan = _plan(config, storage, console, signals, children)
    signals.check()
    left_out = "".join(f", {count:,} left out ({reason.replace('_', ' ')})" for reason, count in plan.left_out.items())
    text = f"{plan.rows:,} images in {plan.shards:,} shards{left_out}"
    console.say(text, "plan", images=plan.rows, shards=plan.shards, left_out=plan.left_out)
    record = RunRecord(storage.root, recorded(config), model, pins, plan, versions())
    save_record(storage, record)
    return record


def _check_not_begun(storage: Storage, found: RunRecord, changed: str) -> None:
    """See that nothing was labelled for the run that was found, nor is going to be.

    Raises:
        UsageError: it was; the message has what has `changed`.
    """
    if _any_part(storage, found):
        raise UsageError(
            f"{storage.root} was begun with other settings, and one output holds labels of one kind:\n  {changed}\n"
            "choose another output.path, or go back to those settings"
        )
    job = active_job(storage)
    if job is not None and not job.ends_with_launcher:
        raise UsageError(
            f"{storage.root}: {job} may still go on, and labels with other settings:\n  {changed}\n"
            "choose another output.path, or go back to those settings to attach to it, or, when it has ended, delete "
            f"{storage.root}/{JOB}"
        )


def _any_part(storage: Storage, record: RunRecord) -> bool:
    from transforms.parts import list_parts

    return any(next(list_parts(storage, number), None) for number in range(len(record.plan.files)))


def _plan(config: RunConfig, storage: Storage, console: Voice, signals: Signals, children: Children | None) -> Plan:
    from pipeline.plan import make_plan
    from pipeline.planning_place import lists_for_workers
    from pipeline.worker_planning import plan_by_workers, planning_job_of, remove_all

    lists = lists_for_workers(config, children is not None, console.print)
    if lists is not None and children is not None:
        plan = plan_by_workers(config, storage, lists, children, console)
        _check_readable(config, storage.root, plan)
        return plan
    job = planning_job_of(storage)
    if job is not None:
        console.print(f"{job}, which plans, may still go on; what it makes is not looked at")
    with plan_folder(storage) as folder, PlanProgress(console) as progress:
        plan = make_plan(
            config.input.path,
            folder,
            batch_size=config.batch.size,
            limit=config.input.limit,
            shard_size=config.run.shard_size,
            reading=table_reading(config),
            progress=_both(progress.update, signals.check),
            skip=storage.root,
        )
        _check_readable(config, folder, plan)
    signals.check()  # whether the output is still ours
    remove_all(storage)
    return plan


def _both(update: Callable[[int], None], check: Callable[[], None]) -> Callable[[int], None]:
    def progress(images: int) -> None:
        check()
        update(images)

    return progress


def table_reading(config: RunConfig) -> Reading:
    """How the tables of the input are read."""
    return Reading(config.input.uri_column, config.input.columns, config.input.on_bad_line)


def _check_readable(config: RunConfig, folder: str, plan: Plan) -> None:
    """See that the workers can read the images, wherever they are: by the first shard of each plan file."""
    from transforms.plan_reader import plan_file, read_shard

    here = workers_are_here(config.runner.name, config.runner.options)
    for number in range(len(plan.files)):
        uris = read_shard(plan_file(folder, number), 0)["uri"].to_pylist()
        if here:
            check_readable(uris)
        else:
            check_uris(config, uris)


def _extended(record: RunRecord, config: RunConfig, storage: Storage, console: Voice, signals: Signals) -> RunRecord:
    from pipeline.extend import extend_plan

    if config.run.planning == "runner":
        raise UsageError(
            "run.planning: runner is not possible with --extend: the launcher looks for what is new; "
            "add --set run.planning=auto"
        )
    reading = table_reading(config)
    with plan_folder(storage, record.plan) as folder, PlanProgress(console) as progress:
        plan = extend_plan(
            record.plan,
            config.input.path,
            folder,
            batch_size=config.batch.size,
            shard_size=config.run.shard_size,
            reading=reading,
            progress=_both(progress.update, signals.check),
            skip=storage.root,
        )
    signals.check()
    new = plan.rows - record.plan.rows
    shards = plan.shards - record.plan.shards
    console.say(f"{new:,} new images in {shards:,} new shards", "plan", images=new, shards=shards, left_out={})
    return replace(record, plan=plan)
