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
    report.add_argument("--file", metavar="FILE", help="where to write it (default: report.html in OUT)")
    _add_picture_options(report)
    report.set_defaults(command=_report)


def _add_picture_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--thumbnails", type=_count, metavar="N", help="at most N pictures (default: report.thumbnails of the config)"
    )
    parser.add_argument(
        "--remote-thumbnails", action="store_const", const=True,
        help="fetch pictures that are not on a local disk as well",
    )  # fmt: skip


def _page_overrides(parsed: argparse.Namespace) -> dict[str, int | bool]:
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

    return report_command(parsed.output, parsed.file, _page_overrides(parsed))


def add_evaluate(commands: argparse._SubParsersAction) -> None:
    """Add `hublabel evaluate OUT --truth FILE`."""
    evaluate = commands.add_parser(
        "evaluate",
        help="compare the labels of a run with the truth",
        description="Compare the labels of a run with the truth: accuracy with intervals, by class, confusions, "
        "calibration, what a score threshold would keep, the most confident mistakes.",
        epilog=examples(
            "hublabel evaluate out/ --truth truth.csv",
            "hublabel evaluate out/ --truth truth.csv --html evaluation.html",
            "hublabel evaluate out/ --truth folders        (images in folders named n01440764, ... or by label)",
            "hublabel evaluate out/ --column species       (a column that input.columns has carried)",
        ),
        formatter_class=HelpFormatter,
    )
    evaluate.add_argument("output", metavar="OUT", help="the output directory of a run")
    evaluate.add_argument(
        "--truth", metavar="FILE",
        help="CSV, TSV, JSON lines or Parquet with the columns uri and label_index, label or wnid; a folder, whose "
        "images are in folders named for their class; or `folders`: the images of the run are in such folders",
    )  # fmt: skip
    evaluate.add_argument(
        "--column", metavar="NAME",
        help="the column of the truth that holds the class; without --truth, of the output",
    )  # fmt: skip
    evaluate.add_argument("--json", action="store_true", help="print one JSON object")
    evaluate.add_argument("--html", metavar="FILE", help="write a page with plots and thumbnails as well")
    _add_picture_options(evaluate)
    evaluate.set_defaults(command=_evaluate)


def _evaluate(parsed: argparse.Namespace) -> int:
    from pipeline.evaluation.command import evaluate_command

    overrides = _page_overrides(parsed)
    return evaluate_command(parsed.output, parsed.truth, parsed.column, parsed.json, parsed.html, overrides)
