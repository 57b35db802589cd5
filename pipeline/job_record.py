"""`job.json`: the job that labels a run on a remote runner, so that running again attaches instead of submitting twice.

It is written before the job is submitted, with a name that is unique, and again with the id that the runner gave: when
the launcher dies between the two, the job is found by its name.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from pipeline.errors import UsageError
from pipeline.runner_table import place
from transforms.storage import Storage

NAME = "job.json"
ENDED = ("DONE", "DRAINED", "UPDATED", "FAILED", "CANCELLED")  # of Beam's states those after which nothing comes


@dataclass(frozen=True)
class JobRecord:
    """A job as the output remembers it.

    Attributes:
        runner: the config's `runner.name`.
        at: where the runner is: its endpoint, or project and region.
        name: unique, ours.
        id: the runner's; None until it has taken the job.
        submitted: UTC, ISO 8601.
        state: the last that is known, in Beam's words; None until there is one.
        ends_with_launcher: whether nobody can attach to it, see `runner_table.ends_with_launcher`.
    """

    runner: str
    at: str
    name: str
    id: str | None = None
    submitted: str = ""
    state: str | None = None
    ends_with_launcher: bool = False

    @property
    def ended(self) -> bool:
        """Whether it is known to have ended."""
        return self.state in ENDED

    def __str__(self) -> str:
        return f"job {self.id or self.name} ({self.runner} at {self.at})"


def new_job(runner: str, at: str, prefix: str = "hublabel", ends_with_launcher: bool = False) -> JobRecord:
    """The record of a job that is about to be submitted."""
    name = f"{prefix}-{uuid.uuid4().hex[:12]}"
    return JobRecord(runner, at, name, submitted=utc_now(), ends_with_launcher=ends_with_launcher)


def utc_now() -> str:
    """The time now, ISO 8601."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def save_job(storage: Storage, job: JobRecord, **changes: Any) -> JobRecord:
    """Write job.json, with `changes` to `job`; returns what was written."""
    job = replace(job, **changes)
    storage.replace(NAME, (json.dumps(asdict(job), indent=2) + "\n").encode())
    return job


def load_job(storage: Storage) -> JobRecord | None:
    """The last job of the run in this output, or None where there was none.

    Raises:
        UsageError: job.json is damaged.
    """
    try:
        return JobRecord(**json.loads(storage.read(NAME)))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise UsageError(
            f"{storage.root}/{NAME}: damaged ({error}); see on the runner whether the run's job still goes on, "
            "then delete the file"
        ) from None


def active_job(storage: Storage) -> JobRecord | None:
    """The run's last job, unless it is known to have ended. Raises UsageError as `load_job`."""
    job = load_job(storage)
    return None if job is None or job.ended else job


def check_job(storage: Storage, runner: str, options: Mapping[str, Any]) -> None:
    """See that no job of another runner, or in another place, may be at work on this output.

    Args:
        runner, options: those of the config.

    Raises:
        UsageError: naming it, or job.json is damaged.
    """
    job = active_job(storage)
    if job is None:
        return
    if job.runner != runner:
        now, again = f"runner.name is {runner} now", job.runner
    elif not job.ends_with_launcher and (at := place(runner, options)) != job.at:
        now, again = f"runner.options name {at} now", job.at
    else:
        return
    raise UsageError(
        f"{storage.root}: {job} may still go on, and {now}; attach to it by running with {again} again, or, when it "
        f"has ended, delete {storage.root}/{NAME}"
    )
