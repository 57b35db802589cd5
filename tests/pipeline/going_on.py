"""What every failure of a disk must come to."""

from __future__ import annotations

from pathlib import Path

from pipeline import cli
from tests.pipeline.running import Hublabel, Said, expected_row, fingerprints


def told_in_one_message(said: Said, message: str, code: int = 1) -> None:
    assert said.code == code
    assert "Traceback" not in said.err
    assert [line for line in said.err.splitlines() if line.startswith("hublabel: ")][1:] == [f"hublabel: {message}"]
    assert said.err.splitlines()[-1] == f"hublabel: {message}"


def goes_on(hublabel: Hublabel, photos: Path, kept: dict[str, tuple[int, int]]) -> None:
    """The same command finishes the output; the parts in `kept` are not touched."""
    rows = hublabel.labelled()
    assert rows == [expected_row(n, photos / f"{n:03d}.png", n) for n in range(10)]
    assert {name: fingerprints(hublabel.output)[name] for name in kept} == kept
    assert cli.main(["verify", str(hublabel.output)]) == 0
