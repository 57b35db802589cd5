"""The short form of `python -m benchmarks.mixed_manifest`: every kind of input, image and failure in one run."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from benchmarks.mixed_manifest import http_server, pictures, prepare, problems
from tests.object_store import ObjectStore
from tests.pipeline.running import ChildInProcess, Hublabel

ROWS = 1_000


def test_every_row_of_a_mixed_manifest_is_right(
    tmp_path: Path,
    object_store: ObjectStore,
    children: type[ChildInProcess],
    capsys: pytest.CaptureFixture[str],
) -> None:
    with http_server(pictures()) as address:
        config, expected = prepare(tmp_path / "mixed", address, ROWS)
        said = Hublabel(config, tmp_path / "mixed/out", capsys).run()
    assert said.code == 0, said.err
    assert problems(tmp_path / "mixed/out", expected) == []
    assert len(expected) == ROWS
    outcomes = Counter(row.outcome for row in expected)
    assert min(outcomes["ok"] - 700, outcomes["read/bad_line"] - 3, len(outcomes) - 12) > 0
