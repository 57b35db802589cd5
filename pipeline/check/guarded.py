"""`hublabel check` in a process of its own, since a picture may kill it; then begun anew without those that do."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from pipeline.console import plain_console
from pipeline.errors import HublabelError
from transforms.programs import program

if TYPE_CHECKING:
    from pipeline.config import RunConfig
    from pipeline.console import Voice
    from transforms.records import Row

PROGRAM = "pipeline.cli"
DEATHS = "HUBLABEL_CHECK_DEATHS"  # in the environment of the process that checks: how many before it have died
MOST_DEATHS = 2
ENDED = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)  # by somebody


def guarded(check: Callable[[], int], arguments: Sequence[str]) -> int:
    """The exit code of `check`, which the command line `arguments` asks for: done by a process of its own.

    Raises:
        HublabelError: the process dies, and not of a picture.
    """
    if DEATHS in os.environ:  # this is that process
        return check()
    console = plain_console(stderr=True)
    for deaths in range(MOST_DEATHS):
        code = _run(arguments, deaths)
        if code >= 0:
            return code
        death = signal.Signals(-code)
        if death in ENDED:
            return 128 + death
        if death == signal.SIGKILL:
            raise HublabelError("the process that checks was killed (SIGKILL); was there too little memory?")
        if not deaths:
            console.print(f"the process that checks died ({death.name}); trying its images one at a time")
    raise HublabelError(f"the process that checks died again ({death.name}), and none of its images alone kills it")


def _run(arguments: Sequence[str], deaths: int) -> int:
    command = program(PROGRAM, *arguments)
    if os.name == "posix":
        command = program("pipeline.end_with_parent", str(os.getpid()), *command)
    environment = {**os.environ, DEATHS: str(deaths)}
    if deaths:  # the processes that try images have their own standard error: this one
        environment["PYTHONWARNINGS"] = "ignore"
    return subprocess.run(command, env=environment, check=False).returncode


def fail_killers(rows: Sequence[Row], config: RunConfig, model: str, console: Voice) -> None:
    """Where a process before this one has died, fail those of `rows` that kill one, as a run does.

    Args:
        model: directory of the SavedModel.

    Raises:
        HublabelError: no process can be started to try them in.
    """
    if not int(os.environ.get(DEATHS, "0")):
        return
    from pipeline.check.progress import Progress
    from pipeline.loading import model_spec
    from pipeline.reading import reader
    from transforms.errors import ImageError
    from transforms.isolation import IsolatedWork, IsolationError, label_isolated
    from transforms.records import Columns

    columns = Columns(top_k=1 if config.model.classifies else 0)
    spec = model_spec(config, model)
    work = IsolatedWork(config.preprocessing(), spec, config.model.activation, columns, reader(config))
    limits = config.run.timeout
    try:
        with Progress(console, "one at a time", len(rows)) as progress:
            tried = label_isolated(rows, work, limits.read + limits.decode)
            for number, (row, found) in enumerate(zip(rows, tried, strict=True), start=1):
                if found.error_type == "crashed":
                    row.fail(ImageError(str(found.error_stage), "crashed", str(found.error_message)))
                progress.update(number)
    except IsolationError as error:
        raise HublabelError(str(error)) from None
