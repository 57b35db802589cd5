"""`hublabel run CONFIG --dry-run`: what a run on Dataflow would send there, written to this machine instead."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.console import Voice, voice
from pipeline.errors import HublabelError, UsageError
from pipeline.process import Child
from pipeline.runner_table import DATAFLOW

if TYPE_CHECKING:
    from pipeline.config import RunConfig

MODULE = "pipeline.dataflow_template"
TICK = 0.1
FILES = {
    "template.json": "the job, as Dataflow would be asked for it",
    "staging/pipeline.pb": "the graph, as its workers would get it",
    "staging/workflow.tar.gz": "the source package that they would install",
}


def dry_run_command(path: str, overrides: Sequence[str], form: str | None) -> int:
    """Write the job of the config at `path` into `out/NAME-dry-run`; returns the exit code."""
    console = voice(form)
    console.say(f"hublabel: {path}", "start", config=path)

    from pipeline.config import load_config

    dry_run(load_config(path, overrides), f"out/{Path(path).stem}-dry-run", console)
    return 0


def dry_run(config: RunConfig, folder: str, console: Voice) -> None:
    """Write the job of a run into the local `folder`, replacing what another dry run has left there.

    Raises:
        UsageError: the runner is another, or the config does not do for it.
        HublabelError: Beam cannot make the job.
    """
    if config.runner.name != DATAFLOW:
        raise UsageError(
            f"--dry-run: it writes the job for {DATAFLOW}, and runner.name is {config.runner.name}; to try a config, "
            "run it with --limit 10"
        )
    from pipeline.reachable import check_reachable

    check_reachable(config)
    place = Path(folder).absolute()
    for name in ("staging", "temp"):
        shutil.rmtree(place / name, ignore_errors=True)
    place.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        (place / name).unlink(missing_ok=True)
    log = place / "dry_run.log"
    log.unlink(missing_ok=True)
    child = Child(MODULE, [os.fspath(place), "tensorflow"], os.fspath(log))
    try:
        child.give(json.dumps(config.resolved()))
        _wait(child, log)
    finally:
        child.stop()
    for name, what in FILES.items():
        if (place / name).exists():
            console.print(f"{place / name}: {what}")
    if not (place / "staging/workflow.tar.gz").exists():
        console.print("no source package: runner.options.setup_file is not set, so the image must hold hublabel")
    console.print("nothing was read from input.path, nor written to output.path; the job lists no shards yet")


def _wait(child: Child, log: Path) -> None:
    while (code := child.poll()) is None:
        time.sleep(TICK)
    for event in child.events():
        if event["event"] == "error":
            kind = UsageError if event["exit_code"] == UsageError.exit_code else HublabelError
            raise kind(event["message"])
    if code:
        raise HublabelError(f"the process that makes the job died (exit code {code}):\n{child.log_tail()}\n{log}")
