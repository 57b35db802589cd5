"""The parent of a run: lock, plan, child, signals, progress by listing, restart, finish.

Imports neither TensorFlow nor Beam, so it starts fast, stays small, and survives whatever they do.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rich.console import Console

from pipeline.config import RunConfig
from pipeline.errors import HublabelError, TooManyFailedError, UsageError
from pipeline.lock import output_lock
from pipeline.process import Child
from pipeline.progress import RunProgress
from pipeline.record import RunRecord, differences, load_record, make_pins, save_record
from pipeline.resolve import resolve_model
from pipeline.signals import Signals, stop_signals
from pipeline.versions import pinned_libraries, versions
from transforms.storage import LocalStorage, Storage, open_storage

if TYPE_CHECKING:  # pyarrow: imported once the first line is out
    from pipeline.coverage import Coverage

LOG = "run.log"
REPORT = "report.json"
SUCCESS = "_SUCCESS"
CRASHES = 4  # native crashes in a row without a new part before a run is given up
TICK = 0.1  # seconds between looks at the child
LISTING_SHARE = 0.1  # of the time that progress may spend on listing parts


@dataclass
class Outcome:
    """How a run ended, and what this call of it did.

    Attributes:
        record: what the run is pinned to.
        coverage: what its parts add up to.
        images: images that this call labelled, or found broken.
        seconds: from the start of the first child to its last part.
    """

    record: RunRecord
    coverage: Coverage
    images: int = 0
    seconds: float = 0.0


def run(config: RunConfig, console: Console) -> Outcome:
    """Label what `config` names, or what is left of it, and finish the output.

    Raises:
        UsageError: the config does not fit what it names, or what the output was begun with.
        TooManyFailedError: more images failed than `run.max_failed` allows.
        StoppedError: Ctrl-C or SIGTERM.
        HublabelError: the pipeline failed.
    """
    storage = _storage(config)
    with output_lock(storage.root) as lock, stop_signals() as signals:
        record = _pinned(config, storage, console, signals)
        outcome = Outcome(record, _coverage(storage, record, console))
        _check_budget(config, outcome.coverage)
        if not outcome.coverage.complete:
            storage.delete(SUCCESS)
            _label(config, storage, outcome, console, signals, lock)
        if not (storage.exists(SUCCESS) and storage.exists(REPORT)):
            _finish(storage, outcome)
        return outcome


def _storage(config: RunConfig) -> LocalStorage:
    try:
        storage = open_storage(config.output.path)
        os.makedirs(storage.root, exist_ok=True)
    except (ValueError, OSError) as error:
        raise UsageError(f"output.path: {config.output.path} cannot be written to: {error}") from None
    return storage


# Planning and pinning.


def _pinned(config: RunConfig, storage: Storage, console: Console, signals: Signals) -> RunRecord:
    """The record of the run, made now or found; a found one must be of the same run."""
    model = resolve_model(config.model.handle)
    pins = make_pins(config, model, pinned_libraries())
    signals.check()
    found = load_record(storage, storage.root)
    if found is not None:
        changed = differences(found.pins, pins)
        if not changed:
            record = replace(found, config=config.resolved(), model=model)
            if record != found:
                save_record(storage, record)
            return record
        if next(_parts(storage, found), None) is not None:
            lines = "\n  ".join(changed)
            raise UsageError(
                f"{storage.root} was begun with other settings, and one output holds labels of one kind:\n  {lines}\n"
                "choose another output.path, or go back to those settings"
            )
    return _planned(config, storage, console, signals, model, pins)


def _parts(storage: Storage, record: RunRecord):  # noqa: ANN202
    from transforms.parts import list_parts

    for number in range(len(record.plan.files)):
        yield from list_parts(storage, number)


def _planned(
    config: RunConfig, storage: Storage, console: Console, signals: Signals, model: str, pins: dict[str, object]
) -> RunRecord:
    from pipeline.plan import make_plan

    plan = make_plan(
        config.input.paths,
        storage.root,
        batch_size=config.batch.size,
        limit=config.input.limit,
        shard_size=config.run.shard_size,
        progress=lambda rows: signals.check(),  # noqa: ARG005
    )
    left_out = "".join(f", {count:,} left out ({reason.replace('_', ' ')})" for reason, count in plan.left_out.items())
    console.print(f"{plan.rows:,} images in {plan.shards:,} shards{left_out}")
    record = RunRecord(storage.root, config.resolved(), model, pins, plan, versions())
    save_record(storage, record)
    return record


def _coverage(storage: Storage, record: RunRecord, console: Console) -> Coverage:
    from pipeline.coverage import Coverage

    coverage = Coverage(storage, record.plan)
    coverage.refresh()
    coverage.mend(lambda line: console.print(f"damaged: {line}", style="yellow"))
    if coverage.rows and not coverage.complete:
        console.print(f"going on: {coverage.rows:,} of {record.plan.rows:,} images are done")
    return coverage


# Labelling.


def _label(
    config: RunConfig, storage: LocalStorage, outcome: Outcome, console: Console, signals: Signals, lock: int
) -> None:
    """Run children until every shard has its part."""
    coverage, began, before = outcome.coverage, time.monotonic(), outcome.coverage.rows
    crashes = 0
    with RunProgress(console, outcome.record.plan.rows, coverage.rows) as progress:
        while not coverage.complete:
            shards = coverage.shards
            child = Child("pipeline.child", [storage.root], storage.path(LOG), [lock])
            signals.at_once = child.kill
            try:
                code = _watch(config, child, coverage, progress, signals)
            finally:
                child.kill()
            coverage.refresh()
            _check_budget(config, coverage)
            if code == 0 and not coverage.complete:
                raise HublabelError(f"the pipeline ended without an error, and without {_missing(coverage)}")
            if code:
                crashes = 1 if coverage.shards > shards else crashes + 1
                if crashes >= CRASHES:
                    raise HublabelError(f"the pipeline's process died {crashes} times in a row:\n{child.log_tail()}")
                progress.say(f"the pipeline's process died ({_death(code)}); starting it again")
    outcome.images, outcome.seconds = coverage.rows - before, time.monotonic() - began


def _watch(config: RunConfig, child: Child, coverage: Coverage, progress: RunProgress, signals: Signals) -> int:
    """Wait for the child, showing progress; its exit code, 0 or that of a native crash.

    Raises:
        HublabelError: the child failed for a reason it told.
    """
    next_listing = 0.0
    while True:
        code = child.poll()
        _heed(child, code, progress)
        signals.check()
        if code is not None:
            return code
        if time.monotonic() >= next_listing:
            listing = time.monotonic()
            coverage.refresh()
            progress.update(coverage.rows, coverage.failed)
            _check_budget(config, coverage)
            next_listing = time.monotonic() + max(2 * TICK, (time.monotonic() - listing) / LISTING_SHARE)
        time.sleep(TICK)


def _heed(child: Child, code: int | None, progress: RunProgress) -> None:
    for event in child.events():
        if event["event"] == "phase":
            progress.phase(event["name"])
        elif event["event"] == "error":
            message = event["message"]
            if event["exit_code"] != UsageError.exit_code:
                message += f"\nThe end of {LOG}:\n{child.log_tail()}"
            error = UsageError if event["exit_code"] == UsageError.exit_code else HublabelError
            raise error(message)
    if code is not None and code > 0 and code < 128:
        raise HublabelError(f"the pipeline's process ended with exit code {code}:\n{child.log_tail()}")


def _death(code: int) -> str:
    import signal

    number = -code if code < 0 else code - 128
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"exit code {code}"


def _missing(coverage: Coverage) -> str:
    pending = list(coverage.pending())
    return f"{len(pending)} of {coverage.plan.shards} shards, the first of them {pending[0]}"


def _check_budget(config: RunConfig, coverage: Coverage) -> None:
    budget = config.run.max_failed
    allowed = max(budget.at_least, int(budget.fraction * coverage.plan.rows))
    if coverage.failed > allowed:
        raise TooManyFailedError(
            f"{coverage.failed:,} images failed, and run.max_failed allows {allowed:,} of {coverage.plan.rows:,}; "
            "what is done is kept: mend the cause or raise run.max_failed, and run again to go on"
        )


# Finishing.


def _finish(storage: LocalStorage, outcome: Outcome) -> None:
    """Tidy up, write the report, then `_SUCCESS`, last."""
    from pipeline.report import write_report
    from transforms.parts import remove_temporary

    for number in range(len(outcome.record.plan.files)):
        remove_temporary(storage, number)
    write_report(storage, outcome.record, outcome.coverage, outcome.images, outcome.seconds)
    storage.replace(SUCCESS, f'{{"rows": {outcome.coverage.rows}, "failed": {outcome.coverage.failed}}}\n'.encode())
