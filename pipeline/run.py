"""The command `hublabel run`: from the config's file to a finished output and what is said of it."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from pipeline.console import Voice, plain_console, voice
from pipeline.progress import LABELLING, readable_seconds
from transforms.masking import mask_credentials

if TYPE_CHECKING:
    from pipeline.supervise import Outcome

SMALL = 24  # rows that are shown as a table without being asked for


def run_command(path: str, overrides: Sequence[str], extend: bool = False, form: str | None = None) -> int:
    """Label what the config at `path` names; returns the exit code.

    Args:
        form: what it says while it works: None, `quiet` or `json`, see `pipeline.console.voice`.
    """
    console = voice(form)
    console.say(f"hublabel: {path}", "start", config=path)

    from pipeline.config import load_config

    config = load_config(path, overrides)

    from pipeline.supervise import run

    return supervised(lambda: run(config, console, extend), config.output.path, console, form)


def supervised(work: Callable[[], Outcome], output: str, console: Voice, form: str | None) -> int:
    """Do `work` on the run in `output` and say how it ended; returns the exit code."""
    from pipeline.arrow import forgo_pandas
    from pipeline.signals import StoppedError

    forgo_pandas()
    try:
        outcome = work()
    except StoppedError as error:
        text = f"hublabel: {error}; what is committed stays. Go on with:\n  {_same_command()}"
        print(text, file=sys.stderr)
        if form == "json":
            console.say(text, "stopped", reason=str(error), exit_code=error.exit_code)
        return error.exit_code
    if form is None:
        _tell(outcome)
    report = _page(outcome, output, console)
    if form is None:
        plain_console().print(f"predictions: {output}/predictions (Parquet)\nreport: {report}")
    else:
        console.say("done", "end", **_summary(outcome, output, report))
    return 0


def _page(outcome: Outcome, output: str, console: Voice) -> str:
    """Write report.html where it is due; the path of the best report there is.

    The run is done, whatever becomes of its page.
    """
    from pipeline.report import NAME as JSON
    from transforms.storage import open_storage

    wanted = outcome.record.config.get("report", {}).get("html", True)
    if not wanted or not outcome.coverage.covered:
        return f"{output}/{JSON}"
    try:
        from pipeline.report_html import NAME, write_page

        storage = open_storage(outcome.record.output)
        if outcome.finished or not storage.exists(NAME):
            write_page(storage, outcome.record, outcome.coverage)
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        console.warn(
            f"report.html was not written ({reason}); the run is done, and `hublabel report {output}` tries again"
        )
        return f"{output}/{JSON}"
    return f"{output}/{NAME}"


def _summary(outcome: Outcome, output: str, report: str) -> dict[str, Any]:
    coverage, record = outcome.coverage, outcome.record
    return {
        "exit_code": 0,
        "images": record.plan.rows,
        "labelled": coverage.rows - coverage.failed,
        "failed": coverage.failed,
        "labelled_or_failed_now": outcome.images,
        "seconds": {name: round(value, 3) for name, value in outcome.seconds.items()},
        "predictions": f"{output}/predictions",
        "report": report,
    }


def _rate(outcome: Outcome) -> str:
    """Such as `2,000 images in 16 s: 149.3 images/s, and 5 s to start`."""
    labelling = outcome.seconds.get(LABELLING, 0.0)
    text = f"{outcome.images:,} images in {readable_seconds(sum(outcome.seconds.values()))}"
    if labelling:
        start = readable_seconds(sum(outcome.seconds.values()) - labelling)
        text += f": {outcome.images / labelling:,.1f} images/s, and {start} to start"
    return text


def _same_command() -> str:
    return mask_credentials(shlex.join(["hublabel", *sys.argv[1:]]))


def _tell(outcome: Outcome) -> None:
    from pipeline.show import print_failures, print_table

    console = plain_console()
    coverage = outcome.coverage
    if coverage.rows <= SMALL:
        print_table(console, outcome.record.output, coverage.rows)
    if not outcome.images:
        console.print("nothing to do" + (": every image has its row already" if coverage.covered else ""))
    labelled = coverage.rows - coverage.failed
    console.print(f"{coverage.rows:,} images: {labelled:,} labelled, {coverage.failed:,} failed")
    if coverage.covered:
        print_failures(console, outcome.record.output)
    else:
        console.print(f"{outcome.record.plan.rows - coverage.rows:,} images have no row yet: `hublabel run` goes on")
    if outcome.images:
        console.print(_rate(outcome))
