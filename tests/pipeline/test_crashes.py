"""A native crash costs one image: the whole command, with a decoder that dies of a marked image."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipeline import supervise
from pipeline.config import load_config
from pipeline.console import plain_console
from tests.crashing import SEGFAULT
from tests.pictures import COLOURS, colour_of, picture_bytes


def test_an_image_that_kills_the_worker_is_a_failed_row(
    picture_folder: Path, colour_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.children.CHILD", "tests.crashing_child")
    (picture_folder / "003.png").write_bytes(picture_bytes(colour_of(3)) + SEGFAULT)
    outcome = supervise.run(load_config(colour_config), plain_console(stderr=True))
    assert outcome.coverage.covered
    rows = pq.read_table(tmp_path / "out" / "predictions").sort_by("row").to_pylist()
    assert [row["label"] for row in rows] == [None if n == 3 else COLOURS[n % 3] for n in range(10)]
    assert [row["error_type"] for row in rows if row["status"] == "failed"] == ["crashed"]
    assert json.loads((tmp_path / "out" / "report.json").read_text())["errors"] == {"decode/crashed": 1}
    assert not list((tmp_path / "out").glob("attempts/*/*"))
