"""The command `hublabel run`: from the config's file to a finished output and what is said of it."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence

from pipeline.console import plain_console
from pipeline.progress import readable_seconds

SMALL = 24  # rows that are shown as a table without being asked for


def run_command(path: str, overrides: Sequence[str]) -> int:
    """Label what the config at `path` names; returns the exit code."""
    console = plain_console(stderr=True)
    console.print(f"hublabel: {path}")

    from pipeline.config import load_config

    config = load_config(path, overrides)

    from pipeline.signals import StoppedError
    from pipeline.supervise import run

    try:
        outcome = run(config, console)
    except StoppedError as error:
        print(f"hublabel: {error}; what is committed stays. Go on with:\n  {_same_command()}", file=sys.stderr)
        return error.exit_code
    return _tell(outcome, config.output.path)


def _same_command() -> str:
    return shlex.join(["hublabel", *sys.argv[1:]])


def _tell(outcome, output: str) -> int:
    from pipeline.show import print_failures, print_table

    console = plain_console()
    coverage = outcome.coverage
    if coverage.rows <= SMALL:
        print_table(console, outcome.record.output, coverage.rows)
    if not outcome.images:
        console.print("nothing to do: every image has its row already")
    labelled = coverage.rows - coverage.failed
    console.print(f"{coverage.rows:,} images: {labelled:,} labelled, {coverage.failed:,} failed")
    print_failures(console, outcome.record.output)
    if outcome.images:
        rate = outcome.images / outcome.seconds
        took = readable_seconds(outcome.seconds)
        console.print(f"{rate:,.1f} images/s, {took} with the start of TensorFlow")
    console.print(f"predictions: {output}/predictions (Parquet)\nreport: {output}/report.json")
    return 0
