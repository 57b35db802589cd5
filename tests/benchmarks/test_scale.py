"""The check of millions of rows, on a handful."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks import scale
from benchmarks.measured import Cost
from benchmarks.scale import Scale, check, scale_table, uri_of

IMAGES = 10
FOLDER = Path("/images")


@pytest.fixture(autouse=True)
def _few_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scale, "FILES", 4)


def rows() -> list[dict[str, Any]]:
    """What a run leaves: four files, each of which is there two or three times."""
    return [
        {"row": row, "uri": uri_of(FOLDER, row), "status": "ok", "label_index": row % 4, "sha256": str(row % 4)}
        for row in range(IMAGES)
    ]


def written(folder: Path, found: list[dict[str, Any]]) -> Path:
    (folder / "predictions" / "00000").mkdir(parents=True)
    for number in range(0, len(found), 3):
        part = folder / "predictions" / "00000" / f"part-{number:05d}.parquet"
        pq.write_table(pa.Table.from_pylist(found[number : number + 3]), part)
    return folder


def test_rows_as_they_should_be(tmp_path: Path) -> None:
    check(written(tmp_path, rows()), FOLDER, IMAGES)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda found: found.pop(), "rows: 9 instead of 10"),
        (lambda found: found.append(found[0]), "rows: 11 instead of 10"),
        (lambda found: found.__setitem__(1, found[0]), "different rows: 9 instead of 10"),
        (lambda found: found[9].update(row=10), "last row: 10 instead of 9"),
        (lambda found: found[3].update(status="failed"), "failed rows: 1 instead of 0"),
        (lambda found: found[3].update(uri=found[2]["uri"]), "rows with another row's URI: 1 instead of 0"),
        (lambda found: found[5].update(label_index=7), "1 files have several labels, such as number 1"),
        (lambda found: found[6].update(sha256="7"), "1 files have several labels, such as number 2"),
    ],
)
def test_rows_that_are_wrong(tmp_path: Path, change: Callable[[list[dict[str, Any]]], object], said: str) -> None:
    found = rows()
    change(found)
    with pytest.raises(RuntimeError, match=f"^{said}$"):
        check(written(tmp_path, found), FOLDER, IMAGES)


def test_the_table_has_a_column_for_each_number_of_images() -> None:
    cost = Cost(seconds=100, cpu_seconds=50, first=4, rate=2000, largest_bytes=800 * 10**6, tree_bytes=10**9)
    found = [
        Scale(images, images // 1000, cost, cost, cost, 1.5, images, images, images, 9) for images in (10**5, 10**6)
    ]
    lines = scale_table(found).splitlines()
    assert lines[0] == "|  | 100,000 images | 1,000,000 images |"
    assert lines[2] == "| shards, and so parts | 100 | 1,000 |"
    assert "| ... processor time an image | 0.50 ms | 0.05 ms |" in lines
