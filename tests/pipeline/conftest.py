"""The command in the tests' own process, ready to label ten pictures."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.pipeline.running import ChildInProcess, Hublabel, in_process


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch) -> type[ChildInProcess]:
    """Runs have their child in this process; counts them."""
    return in_process(monkeypatch)


@pytest.fixture
def hublabel(
    colour_config: Path,
    picture_folder: Path,
    tmp_path: Path,
    children: type[ChildInProcess],
    capsys: pytest.CaptureFixture[str],
) -> Hublabel:
    """Ten pictures, shards of four, batches of two."""
    return Hublabel(colour_config, tmp_path / "out", capsys)
