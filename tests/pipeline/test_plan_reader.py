"""Reading single shards back, from several threads and more files than stay open."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline.plan import make_plan
from transforms import plan_reader
from transforms.plan_reader import OPEN_FILES, plan_file, read_shard
from transforms.storage import StorageError


def test_threads_read_more_files_than_stay_open(tmp_path: Path) -> None:
    files = OPEN_FILES + 3
    for number in range(files):
        root = tmp_path / str(number)
        (tmp_path / "list.txt").write_text("".join(f"/{number}/{row}.jpg\n" for row in range(30)))
        make_plan(str(tmp_path / "list.txt"), root, batch_size=1, shard_size=10)

    def rows(job: tuple[int, int]) -> list[tuple[int, str]]:
        number, row_group = job
        table = read_shard(plan_file(f"{tmp_path}/{number}/", 0), row_group)
        return list(zip(table["row"].to_pylist(), table["uri"].to_pylist(), strict=True))

    jobs = [(number, row_group) for row_group in (2, 0, 1) * 5 for number in range(files)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(rows, jobs))
    for (number, row_group), shard in zip(jobs, found, strict=True):
        first = 10 * row_group
        assert shard == [(row, f"/{number}/{row}.jpg") for row in range(first, first + 10)]
    assert len(plan_reader._files) <= OPEN_FILES


def test_another_plan_at_the_same_path_is_not_taken_for_the_first(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "list.txt").write_text(f"/{name}.jpg\n")
        make_plan(str(tmp_path / "list.txt"), tmp_path, batch_size=1)
        assert read_shard(plan_file(str(tmp_path), 0), 0)["uri"].to_pylist() == [f"/{name}.jpg"]


def test_what_is_not_there_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("/a.jpg\n")
    make_plan(str(tmp_path / "list.txt"), tmp_path, batch_size=1)
    for row_group in (1, -1):
        with pytest.raises(IndexError, match=f"has row groups 0 to 0, not {row_group}"):
            read_shard(plan_file(str(tmp_path), 0), row_group)
    gone = f"{tmp_path}/plan/plan-00001.parquet"
    with pytest.raises(StorageError, match=f"^{gone}: the plan cannot be read \\({gone}: it is no longer there\\)"):
        read_shard(plan_file(str(tmp_path), 1), 0)


@pytest.mark.parametrize("damage", ["truncated", "flipped"])
def test_a_damaged_plan_is_never_read_as_other_images(tmp_path: Path, damage: str) -> None:
    (tmp_path / "list.txt").write_text("/a.jpg\n/b.jpg\n")
    make_plan(str(tmp_path / "list.txt"), tmp_path, batch_size=1)
    path = Path(plan_file(str(tmp_path), 0))
    data = bytearray(path.read_bytes())
    data[data.index(b"/b.jpg") + 1] ^= 1  # so small a page is not compressed: it would be read as /c.jpg
    path.write_bytes(bytes(data) if damage == "flipped" else bytes(data[:-30]))
    with pytest.raises(StorageError, match=r"the plan cannot be read .*; restore it from a copy, or begin anew"):
        read_shard(str(path), 0)
