"""The command line: parsing only; each command's work is in a module of its own."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from pipeline.cli_check import add_check
from pipeline.cli_help import HelpFormatter, examples
from pipeline.cli_models import add_export, add_inspect, add_quantize
from pipeline.cli_results import add_evaluate, add_report
from pipeline.errors import HublabelError
from transforms.masking import mask_credentials
from transforms.parts import DamagedPartError
from transforms.storage import explain

EPILOG = examples(
    "hublabel run configs/quickstart.yaml",
    "hublabel COMMAND --help",
    then="Exit codes: 0 done, 1 failed, 2 bad usage or config, 3 too many failed images, 130 and 143 stopped.",
)


def command() -> NoReturn:
    """The command `hublabel`: as `main`, and the process ends.

    At once: native libraries' threads may still be at work, and one that needs Python while it is taken down ends the
    process by a signal.
    """
    code = main()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError) as error:  # ValueError: closed, since the reader of our output has gone
        code = code or 1
        if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
            with suppress(OSError):
                print(f"hublabel: {explain(error)}", file=sys.stderr, flush=True)
    os._exit(code)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that `arguments` (the process's own unless given) name; returns the exit code."""
    parsed = _parser().parse_args(arguments)
    parsed.arguments = sys.argv[1:] if arguments is None else arguments
    try:
        return parsed.command(parsed)
    except HublabelError as error:
        return _failed(parsed, str(error), error.exit_code)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of our output has gone
        sys.stderr.close()
        return 1
    except DamagedPartError as error:
        return _failed(parsed, str(error), HublabelError.exit_code)
    except OSError as error:  # a disk or an object store refused, or gave no answer
        return _failed(parsed, explain(error), HublabelError.exit_code)


def _failed(parsed: argparse.Namespace, message: str, exit_code: int) -> int:
    print(f"hublabel: {mask_credentials(message)}", file=sys.stderr)
    if getattr(parsed, "form", None) == "json":
        from pipeline.console import voice

        voice("json").say(message, "error", message=message, exit_code=exit_code)
    return exit_code


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        super().error(mask_credentials(message))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="hublabel",
        description="Label image datasets of any size with TensorFlow Hub models on Apache Beam.",
        epilog=EPILOG,
        formatter_class=HelpFormatter,
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_init(commands)
    add_check(commands)
    _add_run(commands)
    _add_retry(commands)
    _add_show(commands)
    add_report(commands)
    add_evaluate(commands)
    _add_verify(commands)
    add_inspect(commands)
    add_export(commands)
    add_quantize(commands)
    _add_schema(commands)
    return parser


def _add_init(commands: argparse._SubParsersAction) -> None:
    init = commands.add_parser(
        "init",
        help="write a config with every key and what it means",
        description="Write a config with every key: those that are given, and the others as comments.",
        epilog=examples(
            "hublabel init cats.yaml --input cats/ --model models/efficientnet-lite0 --inspect",
            "hublabel init - --input gs://bucket/photos/ --model models/mine --labels classes.txt --set batch.size=64",
        ),
        formatter_class=HelpFormatter,
    )
    init.add_argument("config", metavar="CONFIG", help="the YAML file to write; - prints it")
    init.add_argument(
        "--input", action="append", required=True, metavar="PATH", dest="inputs",
        help="input.path (may be given several times)",
    )  # fmt: skip
    init.add_argument("--model", required=True, metavar="HANDLE", help="model.handle")
    init.add_argument("--output", metavar="DIR", help="output.path (default: out/ and the name of the config)")
    init.add_argument("--labels", metavar="FILE", help="model.labels")
    init.add_argument(
        "--inspect", action="store_true", help="load the model, and take from it what it tells, as `inspect` does"
    )
    init.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides",
        help="any other key, such as image.geometry=pad (may be given several times)",
    )  # fmt: skip
    init.add_argument("--force", action="store_true", help="replace a file that is there")
    init.set_defaults(command=_init)


def _init(parsed: argparse.Namespace) -> int:
    from pipeline.init import init_command

    output = parsed.output or f"out/{'run' if parsed.config == '-' else Path(parsed.config).stem}"
    overrides = [f"model.handle={parsed.model}", f"output.path={output}", *parsed.overrides]
    return init_command(parsed.config, parsed.inputs, overrides, parsed.labels, parsed.inspect, parsed.force)


def _add_run(commands: argparse._SubParsersAction) -> None:
    run = commands.add_parser(
        "run",
        help="label the images of a config, or go on with a run that was stopped",
        description="Label the images of a config, or go on with a run that was stopped: "
        "the same command again takes up what is left.",
        epilog=examples(
            "hublabel run configs/quickstart.yaml",
            "hublabel run configs/quickstart.yaml --set input.path=~/Pictures --set output.path=out/pictures",
            "hublabel run cats.yaml --limit 100 --json > events.jsonl",
        ),
        formatter_class=HelpFormatter,
    )
    run.add_argument("config", metavar="CONFIG", help="the YAML file of the run")
    run.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides",
        help="override a key of the config, such as input.path=photos/ (may be given several times)",
    )  # fmt: skip
    run.add_argument("--limit", type=int, metavar="N", help="label only the first N images (input.limit)")
    run.add_argument(
        "--extend", action="store_true",
        help="take up images that the input has got since the run was planned, and only them",
    )  # fmt: skip
    run.add_argument(
        "--dry-run", action="store_true",
        help="write the job for Dataflow to this machine, without credentials, instead of submitting it",
    )  # fmt: skip
    _add_forms(run)
    run.set_defaults(command=_run)


def _run(parsed: argparse.Namespace) -> int:
    from pipeline.run import run_command

    overrides = list(parsed.overrides)
    if parsed.limit is not None:
        overrides.append(f"input.limit={parsed.limit}")
    if parsed.dry_run:
        from pipeline.dry_run import dry_run_command

        return dry_run_command(parsed.config, overrides, parsed.form)
    return run_command(parsed.config, overrides, parsed.extend, parsed.form)


def _add_forms(command: argparse.ArgumentParser) -> None:
    forms = command.add_mutually_exclusive_group()
    forms.add_argument(
        "--quiet", action="store_const", const="quiet", dest="form", help="say nothing but warnings and errors"
    )  # fmt: skip
    forms.add_argument(
        "--json", action="store_const", const="json", dest="form",
        help="print events for machines, one JSON object a line",
    )  # fmt: skip


def _add_retry(commands: argparse._SubParsersAction) -> None:
    retry = commands.add_parser(
        "retry",
        help="label the failed images of a run again",
        description="Label the failed images of a run again; the rows of the others are carried over unchanged.",
        epilog=examples("hublabel retry out/", "hublabel retry out/ --type timeout --type io_error"),
        formatter_class=HelpFormatter,
    )
    retry.add_argument("output", metavar="OUT", help="the output directory of a run")
    retry.add_argument(
        "--stage", action="append", default=[], choices=["read", "decode", "model"],
        help="only failures of this stage (may be given several times)",
    )  # fmt: skip
    retry.add_argument(
        "--type", action="append", default=[], metavar="TYPE", dest="types",
        help="only failures of this error_type, such as timeout (may be given several times)",
    )  # fmt: skip
    _add_forms(retry)
    retry.set_defaults(command=_retry)


def _retry(parsed: argparse.Namespace) -> int:
    from pipeline.retry import retry_command

    return retry_command(parsed.output, parsed.stage, parsed.types, parsed.form)


def _add_verify(commands: argparse._SubParsersAction) -> None:
    verify = commands.add_parser(
        "verify",
        help="check that an output has every image of its plan exactly once, whole",
        description="Check an output, finished or not, against its plan: every part is read in full, and its rows and "
        "URIs are compared. Nothing is changed. The exit code is 0 only when all is there, else 1.",
        epilog=examples("hublabel verify out/", "hublabel verify out/ --images 100"),
        formatter_class=HelpFormatter,
    )
    verify.add_argument("output", metavar="OUT", help="the output directory of a run")
    verify.add_argument(
        "--images", type=_count, default=0, metavar="N",
        help="also read N labelled images again, picked at random, and compare their bytes with sha256",
    )  # fmt: skip
    verify.add_argument("--seed", type=int, default=0, help="picks other images (default: 0)")
    verify.set_defaults(command=_verify)


def _count(text: str) -> int:
    count = int(text)
    if count < 0:
        raise ValueError
    return count


def _verify(parsed: argparse.Namespace) -> int:
    from pipeline.verify import verify_command

    return verify_command(parsed.output, parsed.images, parsed.seed)


def _add_show(commands: argparse._SubParsersAction) -> None:
    show = commands.add_parser(
        "show",
        help="print predictions as a table, CSV or JSON lines, or ask them in SQL",
        description="Print predictions as a table, CSV or JSON lines, or ask them in SQL (DuckDB).",
        epilog=examples(
            "hublabel show out/",
            "hublabel show out/ --failed --csv > failed.csv",
            "hublabel show out/ --label espresso --rows 5",
            'hublabel show out/ --query "SELECT label, count(*) AS n FROM predictions GROUP BY label ORDER BY n DESC"',
        ),
        formatter_class=HelpFormatter,
    )
    show.add_argument("output", metavar="OUT", help="the output directory of a run")
    show.add_argument("--rows", type=int, metavar="N", help="at most N rows (default: 20 in a table, else all)")
    show.add_argument("--failed", action="store_true", help="failed images only")
    show.add_argument("--label", metavar="LABEL", help="images with this label only")
    show.add_argument("--query", metavar="SQL", help="SQL over the view `predictions` instead")
    forms = show.add_mutually_exclusive_group()
    forms.add_argument("--csv", action="store_const", const="csv", dest="form", help="print CSV")
    forms.add_argument("--jsonl", action="store_const", const="jsonl", dest="form", help="print JSON lines")
    show.set_defaults(command=_show, form="table")


def _show(parsed: argparse.Namespace) -> int:
    from pipeline.show import show_command

    return show_command(parsed.output, parsed.rows, parsed.failed, parsed.label, parsed.query, parsed.form)


def _add_schema(commands: argparse._SubParsersAction) -> None:
    schema = commands.add_parser(
        "schema",
        help="print the JSON Schema of configs, for editors",
        description="Print the JSON Schema of configs. "
        "Editors that know it complete and check a YAML whose first line is "
        "`# yaml-language-server: $schema=schema.json`.",
        epilog=examples("hublabel schema > schema.json"),
        formatter_class=HelpFormatter,
    )
    schema.set_defaults(command=_schema)


def _schema(parsed: argparse.Namespace) -> int:  # noqa: ARG001
    from pipeline.schema import schema_text

    sys.stdout.write(schema_text())
    return 0


if __name__ == "__main__":
    command()
