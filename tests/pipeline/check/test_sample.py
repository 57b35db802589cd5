"""The sample of an input: spread, seeded, counted, within its time."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.check import sample as sampling
from pipeline.check.sample import Sample, spread_sample
from pipeline.errors import UsageError
from pipeline.inputs import Reading, find_inputs
from tests.pictures import picture_bytes


def numbers(found: Sample) -> list[int]:
    return [int(Path(row.uri).stem) for row in found.rows]


def sample_of(path: object, images: int = 5, reading: Reading | None = None, **more: object) -> Sample:
    paths = [str(one) for one in path] if isinstance(path, list) else str(path)
    return spread_sample(find_inputs(paths), images, reading or Reading(), **more)  # type: ignore[arg-type]


def lines(count: int, first: int = 0) -> str:
    return "".join(f"/p/{number:06d}.jpg\n" for number in range(first, first + count))


def test_a_folder_is_counted_and_each_image_may_be_drawn(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    for number in range(10):
        (tmp_path / f"{number:02d}.png").write_bytes(picture_bytes((1, 2, 3)))
    found = sample_of(tmp_path, 4)
    assert (found.images, found.counted, found.left_out) == (10, "exact", {"unknown_suffix": 1})
    assert numbers(found) == sorted(numbers(found))
    assert numbers(found) == numbers(sample_of(tmp_path, 4))  # the same each time
    assert numbers(sample_of(tmp_path, 99)) == list(range(10))
    assert [row.position for row in found.rows] == [0, 1, 2, 3]


def test_a_sample_is_not_the_head(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(lines(10_000))
    drawn = numbers(sample_of(tmp_path / "list.txt", 400))
    quarters = [sum(1 for number in drawn if number // 2500 == quarter) for quarter in range(4)]
    assert len(set(drawn)) == 400
    assert all(70 < count < 130 for count in quarters), quarters


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "LARGE", 10_000)
    monkeypatch.setattr(sampling, "PIECE_BYTES", 340)  # 20 lines


@pytest.mark.parametrize("suffix", ["txt", "csv", "jsonl"])
def test_of_a_large_list_pieces_are_read(tmp_path: Path, small_pieces: None, suffix: str) -> None:
    uris = lines(100_000).split()
    if suffix == "csv":
        uris = ["n,uri", *(f"{number},{uri}" for number, uri in enumerate(uris))]
    elif suffix == "jsonl":
        uris = [f'{{"uri": "{uri}"}}' for uri in uris]
    (tmp_path / f"list.{suffix}").write_text("\n".join(uris) + "\n")
    found = sample_of(tmp_path / f"list.{suffix}", 64)
    assert found.counted == "about"
    assert found.images == pytest.approx(100_000, rel=0.02)
    assert all(0 <= number < 100_000 for number in numbers(found))  # no line that was cut
    assert [row.error_stage for row in found.rows] == [None] * 64
    assert {number // 25_000 for number in numbers(found)} == {0, 1, 2, 3}


def test_bad_lines_of_a_large_list_have_no_number(tmp_path: Path, small_pieces: None) -> None:
    (tmp_path / "list.csv").write_text("n,uri\n" + "x,y,z\n" * 5_000)
    [row] = sample_of(tmp_path / "list.csv", 1).rows
    assert (row.uri, row.error_type) == (f"{tmp_path}/list.csv", "bad_line")
    assert row.error_message == f"a line of {tmp_path}/list.csv: it has 3 fields, and the first line has 2"


def test_a_bad_line_of_a_small_list_ends_the_check_as_it_would_the_run(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("n,uri\n1,a\n2\n")
    with pytest.raises(UsageError, match="line 3: it has 1 field"):
        sample_of(tmp_path / "list.csv")
    [good, bad] = sample_of(tmp_path / "list.csv", reading=Reading(on_bad_line="row")).rows
    assert (good.error_type, bad.error_type) == (None, "bad_line")
    assert bad.uri == f"{tmp_path}/list.csv#line=3"


def test_of_a_parquet_file_some_row_groups_are_read_and_all_rows_are_counted(tmp_path: Path) -> None:
    table = pa.table({"uri": lines(4_000).split()})
    pq.write_table(table, tmp_path / "list.parquet", row_group_size=100)
    found = sample_of(tmp_path / "list.parquet", 50)
    assert (found.images, found.counted) == (4_000, "exact")
    groups = {number // 100 for number in numbers(found)}
    assert 2 <= len(groups) <= 8
    assert max(groups) > 20


def test_rows_count_by_what_they_stand_for(tmp_path: Path, small_pieces: None) -> None:
    """A row of a file that is read in part stands for many, one of a small file for itself."""
    (tmp_path / "large.txt").write_text(lines(100_000))
    (tmp_path / "small.txt").write_text(lines(500, first=100_000))
    drawn = numbers(sample_of([tmp_path / "large.txt", tmp_path / "small.txt"], 200))
    assert sum(1 for number in drawn if number >= 100_000) < 10  # of rows that were read they are a quarter


def test_the_time_is_kept_and_said(tmp_path: Path) -> None:
    for name in "ab":
        folder = tmp_path / name
        folder.mkdir()
        for number in range(3):
            (folder / f"{number}.txt").write_text(lines(10, first=ord(name) * 1000 + 10 * number))
    now = iter(range(1000))
    found = sample_of([tmp_path / "a" / "*.txt", tmp_path / "b" / "*.txt"], 100, seconds=4.5, clock=lambda: next(now))
    assert found.counted == "at least"
    assert {number // 10_000 for number in numbers(found)} == {9}  # both inputs had their share
    assert {number // 1000 for number in numbers(found)} == {97, 98}


def test_files_that_were_not_reached_are_estimated(tmp_path: Path) -> None:
    for number in range(40):
        pq.write_table(pa.table({"uri": lines(10, first=10 * number).split()}), tmp_path / f"{number:02d}.parquet")
    now = iter([0.0] * 8 + [9.0] * 8)  # looked at for each file and each batch
    found = sample_of(tmp_path / "*.parquet", 100, seconds=5, clock=lambda: next(now))
    assert (found.images, found.counted, len(found.rows)) == (400, "about", 40)
    files = {number // 10 for number in numbers(found)}
    assert len(files) == 4
    assert max(files) > 20  # not the first ones


def test_the_limit_is_the_head(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(lines(20_000))
    found = sample_of(tmp_path / "list.txt", 5, limit=10)
    assert (found.images, found.counted) == (10, "exact")
    assert max(numbers(found)) < 10
    few = sample_of([tmp_path / "list.txt", tmp_path / "list.txt"], 5, limit=30_000)
    assert (few.images, few.counted) == (30_000, "exact")


def test_an_input_without_images_is_an_error_as_for_a_run(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("\n\n")
    with pytest.raises(UsageError, match=r"input.path: '.*notes.txt' holds no image \(left out: 2 blank line\)"):
        sample_of(tmp_path / "notes.txt")


def test_a_column_that_is_nowhere_is_an_error_as_for_a_run(tmp_path: Path) -> None:
    (tmp_path / "list.jsonl").write_text('{"uri": "a"}\n')
    with pytest.raises(UsageError, match=r"input.columns: no column 'wnid' in input.path"):
        sample_of(tmp_path / "list.jsonl", reading=Reading(columns=("wnid",)))
