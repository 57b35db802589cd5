"""The sections of a config on how a run goes: `run`, `report` and `runner`; see config_sections."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from pipeline.config_sections import Section, key, reason
from pipeline.runner_table import LOCAL, RUNNERS, RunnerName, refusals

# Lists, not tuples: Beam writes an option once for each item of a list only.
OptionValue = bool | int | float | str | list[bool | int | float | str]


class MaxFailed(Section):
    fraction: float = key(
        0.05, "a number from 0 to 1", "A run ends when more than this part of the images failed ...", ge=0, le=1
    )
    at_least: int = key(100, "a whole number from 0", "... and more images than this.", ge=0)


class TimeoutSection(Section):
    read: float = key(
        120.0, "a number of seconds from 0.1 to 86400", "A file that takes longer to read is a failed row.",
        ge=0.1, le=86_400,
    )  # fmt: skip
    decode: float = key(
        60.0, "a number of seconds from 0.1 to 86400", "A picture that takes longer to decode is a failed row.",
        ge=0.1, le=86_400,
    )  # fmt: skip


class RunSection(Section):
    shard_size: Literal["auto"] | Annotated[int, Field(ge=1, le=1_000_000)] = key(
        "auto",
        "auto or a whole number from 1 to 1000000",
        "Images in a shard, the unit of work, of commit and of resume.",
    )
    planning: Literal["auto", "launcher", "runner"] = key(
        "auto", "one of auto, launcher, runner", "Who cuts the input into shards; workers can: see runners.md.",
    )  # fmt: skip
    max_failed: MaxFailed = MaxFailed()
    timeout: TimeoutSection = TimeoutSection()
    decode_threads: int | None = key(
        None,
        "a whole number from 1 to 1024, or null for one a processor",
        "Threads that decode, in each worker process.",
        ge=1,
        le=1024,
    )


class ReportSection(Section):
    html: bool = key(True, "true or false", "Write `report.html` when every image has its row.")
    thumbnails: int = key(
        40, "a whole number from 0 to 400", "So many pictures in it, at most; 0 for none.", ge=0, le=400
    )
    remote_thumbnails: bool = key(
        False, "true or false", "Fetch thumbnails that are not on a local disk (http(s), object stores) as well."
    )
    thumbnail_seconds: float = key(
        10.0, "a number of seconds from 0.1 to 3600", "For reading all thumbnails; the page does without the rest.",
        ge=0.1, le=3600,
    )  # fmt: skip


class RunnerSection(Section):
    name: RunnerName = key(LOCAL, f"one of {', '.join(RUNNERS)}", "The Beam runner.")
    options: dict[str, OptionValue] = key(
        {},
        "a mapping from names of Beam pipeline options to a value or a list of values",
        "Pipeline options, without the leading dashes.",
    )

    @field_validator("options")
    @classmethod
    def _check_options(cls, options: dict[str, OptionValue]) -> dict[str, OptionValue]:
        if wrong := "; ".join(f"{name}: {problem}" for name, problem in refusals(options)):
            raise reason(wrong)
        return options
