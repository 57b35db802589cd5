"""What becomes of the job on a remote runner when its launcher is to end before it: it goes on, or is cancelled."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from rich.console import Console

from pipeline.errors import TooManyFailedError
from pipeline.job_record import JobRecord, active_job, load_job
from pipeline.process import Child
from pipeline.signals import StoppedError
from transforms.storage import Storage

CANCELLING = 120.0  # seconds that a runner is given to end a job
TICK = 0.1
QUESTION = "{job} goes on without this launcher. [d]etach from it, or [c]ancel it? [d] "


def leave(
    child: Child,
    storage: Storage,
    reason: StoppedError | TooManyFailedError,
    console: Console,
    clock: Callable[[], float] = time.monotonic,
    wait: Callable[[float], None] = time.sleep,
) -> None:
    """Cancel the job of the run in `storage`, or leave it to itself.

    A run with too many failed images is cancelled. One that is stopped goes on, unless it cannot, or somebody at a
    terminal says otherwise: a launcher may be stopped for reasons of its own machine, and running again attaches.
    """
    job = active_job(storage)
    if job is None:  # it has not come so far
        return
    stopped = isinstance(reason, StoppedError) and not job.ends_with_launcher
    if stopped and not _to_cancel(job, console):
        console.print(f"{job} goes on; the same command attaches to it")
        return
    console.print(f"cancelling {job} ...")
    if not cancelled(child, console, clock, wait):
        return
    errors = [event["message"] for event in child.events() if event["event"] == "error"]
    ended = load_job(storage)
    state = (ended and ended.state) or "gone"
    console.print(f"not cancelled: {errors[0]}" if errors else f"the job is {state.lower()}")


def cancelled(
    child: Child,
    console: Console,
    clock: Callable[[], float] = time.monotonic,
    wait: Callable[[float], None] = time.sleep,
) -> bool:
    """Have the child cancel its job: whether it has ended in time. If not, the console says so."""
    child.order("cancel")
    deadline = clock() + CANCELLING
    while child.poll() is None:
        if clock() > deadline:
            console.print(f"the runner has not ended it within {CANCELLING:g} seconds; look there whether it does")
            return False
        wait(TICK)
    return True


def _to_cancel(job: JobRecord, console: Console) -> bool:
    """What somebody at a terminal answers; without one, no."""
    if not (console.is_terminal and sys.stdin.isatty()):
        return False
    try:
        print(QUESTION.format(job=job), end="", file=sys.stderr, flush=True)  # to whoever asked for quiet, too
        return input().strip().lower() in ("c", "cancel")
    except EOFError:
        return False
