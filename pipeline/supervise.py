"""The parent of a run: lock, plan, child, signals, progress by listing, restart, finish.

Imports neither TensorFlow nor Beam, so it starts fast, stays small, and survives whatever they do.
"""

from __future__ import annotations

import time
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pipeline.children import Children, told_error
from pipeline.config import RunConfig
from pipeline.console import Voice
from pipeline.errors import HublabelError, TooManyFailedError, UsageError
from pipeline.job_record import active_job, check_job
from pipeline.leaving import leave
from pipeline.lock import output_lock
from pipeline.pinning import pinned_record
from pipeline.process import Child
from pipeline.progress import RunProgress
from pipeline.reachable import check_reachable
from pipeline.record import RunRecord
from pipeline.runner_table import is_remote
from pipeline.signals import Signals, StoppedError, stop_signals
from transforms.storage import Storage, open_storage

if TYPE_CHECKING:  # pyarrow: imported once the first line is out
    from pipeline.coverage import Coverage
    from pipeline.retry import Choose

REPORT = "report.json"
SUCCESS = "_SUCCESS"
# Native crashes in a row without a new part before a run is given up. Each of the shards at work at one time may die
# twice before it is tried in isolation; a process that dies before it labels will go on doing so.
CRASHES = 12
CRASHES_AT_START = 2
TICK = 0.1  # seconds between looks at the child
LISTING_SHARE = 0.1  # of the time that progress may spend on listing parts


@dataclass
class Outcome:
    """How a run ended, and what this call of it did.

    Attributes:
        record: what the run is pinned to.
        coverage: what its parts add up to.
        images: images that this call labelled, or found broken.
        seconds: from the start of the first child to its last part, by phase.
        finished: whether this call wrote the last of it: `_SUCCESS`.
    """

    record: RunRecord
    coverage: Coverage
    images: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    finished: bool = False


def run(config: RunConfig, console: Voice, extend: bool = False) -> Outcome:
    """Label what `config` names, or what is left of it, and finish the output.

    Args:
        extend: take up images that the input has got since.

    Raises:
        UsageError: the config does not fit what it names, or what the output was begun with.
        TooManyFailedError: more images failed than `run.max_failed` allows.
        StoppedError: Ctrl-C or SIGTERM.
        HublabelError: the pipeline failed.
    """
    storage = _storage(config)
    with (
        output_lock(storage.root, console.print) as lock,
        stop_signals(lock.check) as signals,
        closing(Children(storage, lock, signals, config.runner.name, config.first_library)) as children,
    ):
        check_job(storage, config.runner.name, config.runner.options)
        if not storage.exists(SUCCESS):
            children.start()  # its imports take as long as a plan
        record = pinned_record(config, storage, console, signals, extend, children=children)
        outcome = Outcome(record, _coverage(storage, record, console))
        _label_and_finish(config, storage, outcome, console, children)
        return outcome


def retry(config: RunConfig, console: Voice, choose: Choose) -> Outcome:
    """Label failed images of a run again, and finish the output.

    Args:
        config: of the run, as its output records it.
        choose: which rows of a part to take up again.

    Raises:
        As `run`, but for TooManyFailedError: there can only be fewer.
    """
    from pipeline.retry import shards_to_retry

    storage = _storage(config)
    with (
        output_lock(storage.root, console.print) as lock,
        stop_signals(lock.check) as signals,
        closing(Children(storage, lock, signals, config.runner.name, config.first_library)) as children,
    ):
        check_job(storage, config.runner.name, config.runner.options)
        record = pinned_record(config, storage, console, signals, keep_config=True)
        outcome = Outcome(record, _coverage(storage, record, console))
        coverage = outcome.coverage
        coverage.only_wanted = True
        coverage.wanted = {(shard.file, shard.row_group): shard for shard in shards_to_retry(coverage, choose)}
        images = sum(shard.rows for shard in coverage.wanted.values())
        shards = len(coverage.wanted)
        console.say(
            f"{images:,} failed images in {shards:,} shards to try again", "retry", images=images, shards=shards
        )
        _label_and_finish(config, storage, outcome, console, children)
        return outcome


def _label_and_finish(
    config: RunConfig, storage: Storage, outcome: Outcome, console: Voice, children: Children
) -> None:
    if active_job(storage) is None:  # else only an attached child can cancel it
        _check_budget(config, outcome.coverage)  # before TensorFlow is started for nothing, or it is finished over it
    if not outcome.coverage.complete:
        storage.delete(SUCCESS)
        try:
            _label(config, outcome, console, children)
        except (StoppedError, TooManyFailedError):
            _tell_what_is_kept(outcome.coverage, console)
            raise
    if outcome.coverage.covered and not (storage.exists(SUCCESS) and storage.exists(REPORT)):
        outcome.coverage.only_wanted = False
        _check_budget(config, outcome.coverage)  # a retry may not have mended enough
        _finish(storage, outcome)


def _tell_what_is_kept(coverage: Coverage, console: Voice) -> None:
    with suppress(OSError):  # no answer from the store: as much as is known
        coverage.refresh()
    images = coverage.plan.rows
    console.say(f"{coverage.rows:,} of {images:,} images are done", "kept", images=images, done=coverage.rows)


def _storage(config: RunConfig) -> Storage:
    """The output, once all is checked that the config alone tells."""
    if "template_location" in config.runner.options:  # Beam would write the job there, and submit none
        raise UsageError("runner.options.template_location: a run submits its job; to have it written use --dry-run")
    check_reachable(config)
    try:
        storage = open_storage(config.output.path)
        storage.prepare()
    except (ValueError, OSError) as error:
        raise UsageError(f"output.path: {config.output.path} cannot be written to: {error}") from None
    return storage


def _coverage(storage: Storage, record: RunRecord, console: Voice) -> Coverage:
    from pipeline.coverage import Coverage

    coverage = Coverage(storage, record.plan, record.fingerprint)
    coverage.refresh()
    coverage.mend(lambda line: console.warn(f"damaged: {line}"))
    coverage.take_new_failures()  # which are old
    if coverage.rows and not coverage.complete:
        text = f"going on: {coverage.rows:,} of {record.plan.rows:,} images are done"
        console.say(text, "resume", images=record.plan.rows, done=coverage.rows, failed=coverage.failed)
    return coverage


# Labelling.


def _label(config: RunConfig, outcome: Outcome, console: Voice, children: Children) -> None:
    """Run children until every shard has its part."""
    coverage = outcome.coverage
    total = sum(shard.rows for shard in coverage.pending())
    crashes = 0
    with RunProgress(console, outcome.record.plan.rows, coverage.rows) as progress:
        while not coverage.complete:
            before = coverage.progress
            with children.child(coverage.pending()) as child:
                try:
                    code = _watch(config, child, coverage, progress, children.signals)
                except (StoppedError, TooManyFailedError) as reason:
                    progress.hide()
                    if is_remote(config.runner.name):
                        leave(child, coverage.storage, reason, console)
                    raise
            coverage.refresh()
            _check_budget(config, coverage)
            if code == 0 and not coverage.complete:
                raise HublabelError(f"the pipeline ended without an error, and without {_missing(coverage)}")
            if code:
                crashes = 1 if coverage.progress > before else crashes + 1
                if crashes >= (CRASHES if progress.labelling else CRASHES_AT_START):
                    raise HublabelError(f"the pipeline's process died {crashes} times in a row:\n{child.log_tail()}")
                progress.say(f"the pipeline's process died ({_death(code)}); starting it again")
    outcome.images = total - sum(shard.rows for shard in coverage.pending())
    progress.close()
    outcome.seconds = dict(progress.seconds)


def _watch(config: RunConfig, child: Child, coverage: Coverage, progress: RunProgress, signals: Signals) -> int:
    """Wait for the child, showing progress; its exit code: 0, or what it died of without telling.

    Raises:
        HublabelError: the child failed for a reason it told.
    """
    next_listing = 0.0
    while True:
        code = child.poll()
        signals.check()  # first: when the output has gone, the child only knows of a file that it misses
        _heed(child, progress)
        if code is not None:
            return code
        if time.monotonic() >= next_listing:
            listing = time.monotonic()
            coverage.refresh()
            if progress.shows_failures:
                progress.failures(coverage.take_new_failures())
            progress.update(coverage.rows, coverage.failed)
            _check_budget(config, coverage)
            next_listing = time.monotonic() + max(2 * TICK, (time.monotonic() - listing) / LISTING_SHARE)
        child.wait(TICK)


def _heed(child: Child, progress: RunProgress) -> None:
    for event in child.events():
        if event["event"] == "phase":
            progress.phase(event["name"])
        elif event["event"] == "say":
            progress.say(event["text"])
        elif event["event"] == "error":
            raise told_error(event, child)


def _death(code: int) -> str:
    import signal

    number = -code if code < 0 else code - 128
    if number < 0:
        return f"exit code {code}"
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"exit code {code}"


def _missing(coverage: Coverage) -> str:
    pending = list(coverage.pending())
    return f"{len(pending)} of {coverage.plan.shards} shards, the first of them {pending[0]}"


def _check_budget(config: RunConfig, coverage: Coverage) -> None:
    if coverage.only_wanted:  # of rows that had failed before there can only be fewer
        return
    budget = config.run.max_failed
    allowed = max(budget.at_least, int(budget.fraction * coverage.plan.rows))
    if coverage.failed > allowed:
        raise TooManyFailedError(
            f"{coverage.failed:,} images failed, and run.max_failed allows {allowed:,} of {coverage.plan.rows:,}; "
            "what is done is kept: mend the cause or raise run.max_failed, and run again to go on"
        )


# Finishing.


def _finish(storage: Storage, outcome: Outcome) -> None:
    """Tidy up, write the report, then `_SUCCESS`, last."""
    from pipeline.report import write_report
    from transforms.attempts import remove_marks
    from transforms.parts import remove_superseded_parts, remove_temporary

    remove_temporary(storage)
    for number in range(len(outcome.record.plan.files)):
        remove_temporary(storage, number)
        remove_superseded_parts(storage, number)
        remove_marks(storage, number)
    write_report(storage, outcome.record, outcome.coverage, outcome.images, outcome.seconds)
    storage.replace(SUCCESS, f'{{"rows": {outcome.coverage.rows}, "failed": {outcome.coverage.failed}}}\n'.encode())
    outcome.finished = True
