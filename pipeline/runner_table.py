"""The runners: what the launcher must know of each before it imports Beam. `runners` makes them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal, get_args

RunnerName = Literal["DirectRunner", "FlinkRunner", "DataflowRunner", "PortableRunner", "PrismRunner"]
RUNNERS: tuple[str, ...] = get_args(RunnerName)
LOCAL: Final = "DirectRunner"
DATAFLOW: Final = "DataflowRunner"

OWN_FLINK = ("[auto]", "[local]")  # of `flink_master`: inside the job server; the first is what Beam takes for none

# Options that say where a remote runner is.
PLACES: dict[str, tuple[str, ...]] = {
    "FlinkRunner": ("job_endpoint", "flink_master"),
    "DataflowRunner": ("project", "region"),
    "PortableRunner": ("job_endpoint",),
    "PrismRunner": ("job_endpoint",),
}

LOSES = "loses elements silently with Beam 2.77"
HANGS = "hangs for ever with Beam 2.77 when a worker process dies"
IN_MEMORY = "it must be in_memory, which runs direct_num_workers bundles at a time"
WORKERS = "it must be LOOPBACK, EXTERNAL, PROCESS or DOCKER"
# Of an option, the values that lose or hang data, and why: (beginning of the value, reason, what it must be).
# `multi_threading` is the embedded gRPC environment, and flushes its buffers on a timer, without a lock; the
# experiment makes every worker do so, whatever the runner.
REFUSED: dict[str, list[tuple[str, str, str]]] = {
    "direct_running_mode": [("multi_threading", LOSES, IN_MEMORY), ("multi_processing", HANGS, IN_MEMORY)],
    "environment_type": [
        ("beam:env:embedded_python_grpc:", LOSES, WORKERS),
        ("beam:env:harness_subprocess_python:", HANGS, WORKERS),
    ],
    "experiments": [("data_buffer_time_limit_ms", LOSES, "")],
}


def is_remote(runner: str) -> bool:
    """Whether workers of `runner` are other processes, maybe elsewhere, and its jobs outlive the launcher."""
    return runner != LOCAL


def place(runner: str, options: Mapping[str, Any]) -> str:
    """Where the remote `runner` is, for people."""
    found = [str(options[option]) for option in PLACES[runner] if options.get(option)]
    return "/".join(found) or "this machine"


def workers_are_here(runner: str, options: Mapping[str, Any]) -> bool:
    """Whether the workers are threads of the process that submits: they see its files, and end with it."""
    if runner == LOCAL:
        return True
    if runner == DATAFLOW:
        return False
    if environment := options.get("environment_type"):
        return bool(environment == "LOOPBACK")
    # Beam's defaults: these two run on this machine unless told otherwise.
    local_flink = runner == "FlinkRunner" and options.get("flink_master", OWN_FLINK[0]) in OWN_FLINK
    return local_flink or runner == "PrismRunner"


def ends_with_launcher(runner: str, options: Mapping[str, Any]) -> bool:
    """Whether a job of the remote `runner` cannot go on without its launcher, or nobody could attach to it then.

    Its workers are threads there, or the job service that knows it is a process that the launcher has started.
    """
    own_service = runner in ("FlinkRunner", "PrismRunner") and not options.get("job_endpoint")
    return own_service or workers_are_here(runner, options)


def refusals(options: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The options that lose or hang data: name, and what is wrong with the value."""
    for name, refused in REFUSED.items():
        for value in _values(options.get(name)):
            for beginning, why, must_be in refused:
                if value.startswith(beginning):
                    yield name, f"{value!r} {why}; {must_be or 'remove it'}"


def _values(given: Any) -> list[str]:
    """Each of the values that an option is given: Beam takes `a,b` for a list too."""
    items = given if isinstance(given, list) else [given]
    return [part.strip() for item in items if isinstance(item, str) for part in item.split(",")]
