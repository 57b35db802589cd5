"""A plan made by workers, as the launcher sees it: what they are to do, how far they are, what came of it.

All they leave is in `plan.partial/`, under names that only this attempt has: workers of an earlier one that are late
cannot spoil this one's plan, which is what the launcher has moved to `plan/` once it is whole.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import TypeVar

from pipeline.children import Children, told_error
from pipeline.config import RunConfig
from pipeline.console import Voice
from pipeline.errors import HublabelError, UsageError
from pipeline.inputs.carried import CarriedTypes
from pipeline.inputs.text import check_text
from pipeline.job_record import NAME as JOB
from pipeline.job_record import JobRecord, active_job
from pipeline.leaving import cancelled
from pipeline.plan import PLAN_FOLDER, Plan, PlanFile, joint_fingerprint, nothing_matched
from pipeline.planning_place import TextList
from pipeline.process import Child
from pipeline.progress import PlanProgress
from pipeline.signals import StoppedError
from transforms.manifest_lines import LongLineError
from transforms.plan_files import SHARDS_PER_FILE, ceil_div
from transforms.plan_pieces import (
    COUNTED,
    WRITTEN,
    Layout,
    Piece,
    PieceCount,
    PieceFile,
    cut,
    lay_out,
    load_count,
    load_files,
    piece_file,
)
from transforms.plan_reader import plan_file
from transforms.storage import LocalStorage, Storage, explain, open_storage

FOLDER = f"{PLAN_FOLDER}.partial"
PIECE_BYTES = 128 << 20
MOST_PIECES = 200  # each has a plan file of its own at least, and progress lists as many folders
THREADS = 16  # requests to a store at a time
TICK = 0.1  # seconds between looks at the child
LISTING_SHARE = 0.1  # of the time that progress may spend on listing what workers have left
T = TypeVar("T")
R = TypeVar("R")


def plan_by_workers(
    config: RunConfig, storage: Storage, lists: Sequence[TextList], children: Children, console: Voice
) -> Plan:
    """The plan of `lists`, made by a job of the run's runner. It counts once the caller has recorded it.

    Raises:
        UsageError: a list is no text, holds no line, or one that is too long.
        StoppedError: Ctrl-C or SIGTERM; the job is cancelled.
        HublabelError: the job failed, or the plan cannot be written.
    """
    for found in lists:
        check_text(found.manifest)
    inputs = config.input.paths
    where = lists[0].source.name if len(inputs) == 1 else f"any of the {len(inputs)} inputs"
    CarriedTypes(config.input.columns).check_all_found(where)  # a text file has no column to carry
    try:
        pieces = cut_lists(lists)
        attempt = uuid.uuid4().hex[:12]
        prefix = f"{FOLDER}/{attempt}"
        tidy(storage)
        try:
            if pieces:
                _run(config, storage, prefix, pieces, children, console)
            children.signals.check()  # whether the output is still ours
            return _collected(config, storage, prefix, lists, pieces)
        finally:
            tidy(storage, attempt)
    except OSError as error:
        raise HublabelError(f"output.path: workers cannot plan in {storage.root!r}: {explain(error)}") from error


def cut_lists(lists: Sequence[TextList]) -> list[Piece]:
    """The pieces of all lists, in order."""
    size = max(PIECE_BYTES, ceil_div(sum(found.bytes for found in lists), MOST_PIECES))
    spans = [(found, *span) for found in lists for span in cut(found.bytes, size)]
    return [
        Piece(number, found.manifest.path, start, end, found.version)
        for number, (found, start, end) in enumerate(spans)
    ]


def tidy(storage: Storage, attempt: str = "") -> None:
    """Remove what workers that planned have left in an output, but for word of their job, if it may go on.

    Args:
        attempt: only what this one has left; empty for all.
    """
    going_on = planning_job_of(storage) is not None
    for name in list(storage.list(FOLDER)):
        if not going_on if name == f"{FOLDER}/{JOB}" else attempt in name:
            storage.delete(name)
    _remove_empty(storage)


def planning_job_of(storage: Storage) -> JobRecord | None:
    """The job of workers that plan in an output, or did, unless it is known to have ended.

    Raises:
        UsageError: what there is of it is damaged.
    """
    return active_job(open_storage(f"{storage.root}/{FOLDER}"))


def remove_all(storage: Storage) -> None:
    """Remove what workers that planned have left in an output that was planned without them."""
    for name in list(storage.list(FOLDER)):
        storage.delete(name)
    _remove_empty(storage)


def _remove_empty(storage: Storage) -> None:
    if isinstance(storage, LocalStorage):
        with contextlib.suppress(OSError):  # there is none, or it is not empty
            os.rmdir(storage.path(FOLDER))


# The job.


def planning_job(config: RunConfig, prefix: str, pieces: Sequence[Piece]) -> str:
    """What the child is told, on one line; `planning_child` reads it."""
    told = [[p.number, os.fsdecode(p.location), p.start, p.end, p.version] for p in pieces]
    return json.dumps({"config": config.resolved(), "prefix": prefix, "pieces": told})


def _run(
    config: RunConfig, storage: Storage, prefix: str, pieces: Sequence[Piece], children: Children, console: Voice
) -> None:
    with children.planner(planning_job(config, prefix, pieces)) as child, PlanProgress(console) as progress:
        try:
            _watch(child, storage, prefix, len(pieces), children.signals.check, console, progress)
        except StoppedError:
            console.print("cancelling the job that plans ...")
            cancelled(child, console)
            raise


def _watch(
    child: Child,
    storage: Storage,
    prefix: str,
    pieces: int,
    check: Callable[[], None],
    console: Voice,
    progress: PlanProgress,
) -> None:
    next_look = 0.0
    while True:
        code = child.poll()
        check()
        for event in child.events():
            if event["event"] == "say":
                console.print(event["text"])
            elif event["event"] == "error":
                raise told_error(event, child)
        if code is not None:
            if code:
                raise HublabelError(f"the process that plans died (exit code {code}):\n{child.log_tail()}")
            return
        if time.monotonic() >= next_look:
            began = time.monotonic()
            counted, written = _done(storage, prefix)
            text = f"planning on {pieces:,} pieces of the input: {counted:,} counted, {written:,} written"
            progress.show(text, pieces=pieces, counted=counted, written=written)
            next_look = time.monotonic() + max(1.0, (time.monotonic() - began) / LISTING_SHARE)
        time.sleep(TICK)


def _done(storage: Storage, prefix: str) -> tuple[int, int]:
    """Pieces that are counted, and that are written."""
    names = [name for name in storage.list(FOLDER) if name.startswith(prefix)]
    return sum(name.endswith(COUNTED) for name in names), sum(name.endswith(WRITTEN) for name in names)


# What came of it.


def _collected(
    config: RunConfig, storage: Storage, prefix: str, lists: Sequence[TextList], pieces: Sequence[Piece]
) -> Plan:
    """The plan, its files moved to where they belong."""
    counts = _each(lambda piece: load_count(storage, prefix, piece.number), pieces)
    left_out = _check_counts(lists, pieces, counts)
    given = config.run.shard_size
    layout = lay_out(counts, config.batch.size, None if given == "auto" else int(given))
    for name in list(storage.list(PLAN_FOLDER)):  # of a plan that was never recorded
        storage.delete(name)
    made = _each(lambda piece: load_files(storage, prefix, piece.number), pieces)
    names = [
        f"{prefix}-{piece_file(piece.number, index)}"
        for piece, of_piece in zip(pieces, made, strict=True)
        for index in range(len(of_piece))
    ]
    files = [_plan_file(number, file, layout) for number, file in enumerate(chain.from_iterable(made))]
    _each(lambda names: storage.move(*names), [(name, file.name) for name, file in zip(names, files, strict=True)])
    return Plan(
        layout.rows, sum(file.shards for file in files), layout.shard_size, tuple(files), joint_fingerprint(files),
        {"blank_line": left_out} if left_out else {},
    )  # fmt: skip


def _plan_file(number: int, file: PieceFile, layout: Layout) -> PlanFile:
    name = f"{PLAN_FOLDER}/{os.path.basename(plan_file('', number))}"
    shards = ceil_div(file.rows, layout.shard_size)
    assert 0 < shards <= SHARDS_PER_FILE, file
    return PlanFile(name, shards, file.rows, layout.shard_size, file.bytes, file.fingerprint)


def _check_counts(lists: Sequence[TextList], pieces: Sequence[Piece], counts: Sequence[PieceCount]) -> int:
    """Blank lines of all lists.

    Raises:
        UsageError: a line is too long, or an input holds none.
    """
    found = iter(zip(pieces, counts, strict=True))
    left_out: Counter[str] = Counter()
    rows: Counter[str] = Counter({found.source.key: 0 for found in lists})
    for one, following in zip(lists, [*lists[1:], None], strict=True):
        lines = end = 0
        while end < one.bytes:
            piece, count = next(found)
            end = piece.end
            left_out["blank_line"] += count.blank
            rows[one.source.key] += count.rows
            lines += count.lines
            if count.too_long:
                raise UsageError(f"{one.manifest.name}: {LongLineError(lines)}")
        if (following is None or following.source != one.source) and not rows[one.source.key]:
            raise UsageError(nothing_matched(one.source, +left_out))
    return left_out["blank_line"]


def _each(work: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """What `work` makes of each, several at a time."""
    with ThreadPoolExecutor(THREADS) as threads:
        return list(threads.map(work, items))
