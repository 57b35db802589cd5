"""The patterns' model, pictures and config, and the command in this process."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline import cli
from pipeline.check.guarded import DEATHS
from tests.pipeline.check import patterns
from tests.pipeline.running import Said


@pytest.fixture(scope="session")
def pattern_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return patterns.save_model(tmp_path_factory.mktemp("models") / "patterns")


@pytest.fixture(scope="session")
def truth(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The truth of the patterns' pictures, which lie beside it."""
    return patterns.write_pictures(tmp_path_factory.mktemp("patterns") / "pictures")


@pytest.fixture
def config(tmp_path: Path, pattern_model: Path, truth: Path) -> Path:
    """A config that is right for the patterns' model."""
    path = tmp_path / "patterns.yaml"
    path.write_text(
        f"input: {{path: {truth.parent}}}\nmodel: {{handle: {pattern_model}}}\nimage:{patterns.RIGHT}"
        f"output: {{path: {tmp_path}/out}}\n"
    )
    return path


@pytest.fixture
def check(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Said]:  # fmt: skip
    """`hublabel check CONFIG ARGUMENTS...`, in this process and with lines that are long enough."""
    monkeypatch.setenv("COLUMNS", "400")
    monkeypatch.setenv(DEATHS, "0")

    def run(*arguments: str) -> Said:
        capsys.readouterr()
        code = cli.main(["check", str(config), *arguments])
        captured = capsys.readouterr()
        return Said(code, captured.out, captured.err)

    return run


@pytest.fixture
def checked(check: Callable[..., Said]) -> Callable[..., tuple[int, dict[str, Any]]]:
    """The exit code and the JSON of such a command."""

    def run(*arguments: str) -> tuple[int, dict[str, Any]]:
        said = check(*arguments, "--json")
        return said.code, json.loads(said.out)

    return run
