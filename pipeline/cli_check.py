"""The command `check` on the command line. Parsing only, as in `cli`."""

from __future__ import annotations

import argparse
from functools import partial

from pipeline.cli_help import HelpFormatter, examples

EPILOG = examples(
    "hublabel check configs/quickstart.yaml",
    "hublabel check config.yaml --workers 20 --price 0.35",
    "hublabel check config.yaml --truth val/truth.csv",
    "hublabel check config.yaml --truth val/     # images in folders named n01440764, ... or for their label",
    then="Exit codes: 0 fine, 1 something would spoil a run (with --truth: the preprocessing is wrong), "
    "2 bad usage or config.",
)


def add_check(commands: argparse._SubParsersAction) -> None:
    """Add `hublabel check CONFIG`."""
    check = commands.add_parser(
        "check",
        help="try a config on a sample before a run, or measure which preprocessing is right",
        description="Label a sample, write nothing, and say what a run would be like: what is wrong with it, how many "
        "images there are, how many fail and why, how long all of them take. With --truth: measure on labelled images "
        "which preprocessing the model wants.",
        epilog=EPILOG,
        formatter_class=HelpFormatter,
    )
    check.add_argument("config", metavar="CONFIG", help="the YAML file of the run")
    check.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides",
        help="override a key of the config, such as input.path=photos/ (may be given several times)",
    )  # fmt: skip
    check.add_argument(
        "--images", type=_positive, metavar="N", help="at most N images (default: 256; with --truth 500)"
    )
    check.add_argument("--workers", type=_positive, default=1, metavar="N", help="tell the time on N such machines")
    check.add_argument("--price", type=_price, metavar="PRICE", help="of a machine an hour: tell the cost")
    check.add_argument(
        "--truth", metavar="FILE",
        help="images whose class is known: CSV, TSV, JSON lines or Parquet with the columns uri and label_index, label "
        "or wnid; images in folders named for their class; or `folders`, when the input's are in such",
    )  # fmt: skip
    check.add_argument("--column", metavar="NAME", help="the column of the truth that holds the class")
    check.add_argument("--json", action="store_true", help="print one JSON object")
    check.set_defaults(command=_check, refuse=check.error)


def _positive(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 on")
    return int(text)


def _price(text: str) -> float:
    try:
        price = float(text)
    except ValueError:
        price = -1.0
    if not 0 <= price < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no price, such as 0.35")
    return price


def _check(parsed: argparse.Namespace) -> int:
    if parsed.truth is None and parsed.column is not None:
        parsed.refuse("--column goes with --truth")
    if parsed.truth is not None and (parsed.workers > 1 or parsed.price is not None):
        parsed.refuse("--workers and --price tell of a run, and --truth measures preprocessing: give one or the other")
    from pipeline.check.guarded import guarded

    return guarded(partial(_sample if parsed.truth is None else _truth, parsed), parsed.arguments)


def _sample(parsed: argparse.Namespace) -> int:
    from pipeline.check.command import IMAGES, check_command

    images = parsed.images or IMAGES
    return check_command(parsed.config, parsed.overrides, images, parsed.workers, parsed.price, parsed.json)


def _truth(parsed: argparse.Namespace) -> int:
    from pipeline.check.truth_command import IMAGES as LABELLED
    from pipeline.check.truth_command import check_truth_command

    images = parsed.images or LABELLED
    return check_truth_command(parsed.config, parsed.overrides, parsed.truth, parsed.column, images, parsed.json)
