"""The commands that look at results on the command line. Parsing only, as in `cli`."""

from __future__ import annotations

import argparse

from pipeline.cli_help import HelpFormatter, examples


def add_report(commands: argparse._SubParsersAction) -> None:
    """Add `hublabel report OUT`."""
    report = commands.add_parser(
        "report",
        help="write the report of a run, finished or not, as one HTML file",
        description="Write the report of a run, finished or not, as one HTML file: counts, examples, labels, scores, "
        "failures, rate, sizes, config. `hublabel run` does so when it is done.",
        epilog=examples(
            "hublabel report out/",
            "hublabel report out/ --remote-thumbnails --thumbnails 100",
            "hublabel report s3://bucket/out --file report.html",
        ),
        formatter_class=HelpFormatter,
    )
    report.add_argument("output", metavar="OUT", help="the output directory of a run")
    add_page_options(report, "report.html in OUT")
    report.set_defaults(command=_report)


def add_page_options(parser: argparse.ArgumentParser, default: str) -> None:
    """Where a page goes, and what pictures are on it."""
    parser.add_argument("--file", metavar="FILE", help=f"where to write it (default: {default})")
    parser.add_argument(
        "--thumbnails", type=_count, metavar="N", help="at most N pictures (default: report.thumbnails of the config)"
    )
    parser.add_argument(
        "--remote-thumbnails", action="store_const", const=True,
        help="fetch pictures that are not on a local disk as well",
    )  # fmt: skip


def page_overrides(parsed: argparse.Namespace) -> dict[str, int | bool]:
    """Keys of the config's `report` section that the options set."""
    given = {"thumbnails": parsed.thumbnails, "remote_thumbnails": parsed.remote_thumbnails}
    return {name: value for name, value in given.items() if value is not None}


def _count(text: str) -> int:
    count = int(text)
    if not 0 <= count <= 400:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number from 0 to 400")
    return count


def _report(parsed: argparse.Namespace) -> int:
    from pipeline.report_html import report_command

    return report_command(parsed.output, parsed.file, page_overrides(parsed))
