"""The help texts: every command has examples, and they are right."""

from __future__ import annotations

import argparse
import contextlib
import re
import shlex

import pytest

from pipeline import cli


def test_every_command_has_examples_that_parse(capsys: pytest.CaptureFixture[str]) -> None:
    commands = next(action for action in cli._parser()._actions if isinstance(action, argparse._SubParsersAction))
    for name, command in commands.choices.items():
        text = command.format_help()
        found = re.findall(r"^  (hublabel (?!COMMAND).*?)(?: {3,}.*)?$", text, re.MULTILINE)
        assert found, f"the help of {name} has no examples"
        for example in found:
            words = shlex.split(example.removesuffix("\\").partition(" > ")[0])[1:]
            if example.endswith("\\"):  # goes on in the next line
                continue
            with contextlib.suppress(SystemExit):
                cli._parser().parse_args(words)
            assert "error:" not in capsys.readouterr().err, example
