"""Parquet: types as they are, files and folders of them, and rows without a URI."""

from __future__ import annotations

import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import UsageError
from tests.pipeline.planning import errors, plan_rows, plan_table


def write(path: Path, columns: dict[str, Any], **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, **options)
    return path


ZONE = datetime.timezone(datetime.timedelta(hours=2))
TYPED = {
    "when": pa.array([datetime.datetime(2024, 2, 29, 1, 2, 3, 4, ZONE), None], pa.timestamp("us", "Europe/Berlin")),
    "moment": pa.array([1, None], pa.timestamp("ns")),
    "day": pa.array([datetime.date(2024, 2, 29), None]),
    "clock": pa.array([datetime.time(1, 2, 3), None], pa.time64("us")),
    "long": pa.array([datetime.timedelta(3), None], pa.duration("us")),
    "price": pa.array([Decimal("12345678901234567890.12"), None], pa.decimal128(38, 2)),
    "wide": pa.array([Decimal("1.5"), None], pa.decimal256(50, 1)),
    "small": pa.array([-128, None], pa.int8()),
    "big": pa.array([2**64 - 1, None], pa.uint64()),
    "half": pa.array([1.5, None], pa.float32()),
    "flag": pa.array([True, None]),
    "text": pa.array(["é\n", None], pa.large_string()),
    "raw": pa.array([b"\xff\0", None], pa.binary()),
    "fixed": pa.array([b"abcd", None], pa.binary(4)),
    "boxes": pa.array([[[1, 2], [], None], None], pa.list_(pa.list_(pa.int32()))),
    "tags": pa.array([[("a", 1)], None], pa.map_(pa.string(), pa.int64())),
    "deep": pa.array([{"x": 1, "y": ["z", None]}, None], pa.struct([("x", pa.int16()), ("y", pa.list_(pa.string()))])),
}


def test_types_and_values_are_preserved(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", {"uri": ["a.jpg", "b.jpg"], **TYPED, "unused": [1, 2]})
    table, _ = plan_table(path, tmp_path / "out", *TYPED)
    assert table.schema.names == ["row", "uri", *TYPED]
    assert table["uri"].to_pylist() == [f"{tmp_path}/a.jpg", f"{tmp_path}/b.jpg"]
    for name, column in TYPED.items():
        assert table.schema.field(name).type == column.type
        assert table[name].combine_chunks() == column


def test_what_is_only_storage_becomes_plain(tmp_path: Path) -> None:
    columns = {
        "uri": pa.array(["a.jpg", "b.jpg"]).dictionary_encode(),
        "split": pa.array(["train", None]).dictionary_encode(),
        "vector": pa.array([[1.0, 2.0], None], pa.list_(pa.float32(), 2)).slice(0, 1).take(pa.array([0, 0])),
        "nothing": pa.nulls(2),
    }
    path = write(tmp_path / "a.parquet", columns)
    table, _ = plan_table(path, tmp_path / "out", "split", "vector", "nothing")
    assert [field.type for field in table.schema][2:] == [pa.string(), pa.list_(pa.float32()), pa.string()]
    assert table["split"].to_pylist() == ["train", None]
    assert table["vector"].to_pylist() == [[1.0, 2.0], [1.0, 2.0]]


@pytest.mark.parametrize("type", [pa.string(), pa.large_string(), pa.binary(), pa.large_binary()])
def test_uris_of_any_text_type(tmp_path: Path, type: pa.DataType) -> None:
    path = write(tmp_path / "a.parquet", {"file": pa.array(["./a.jpg", "https://h/b"], type)})
    assert plan_rows(path, tmp_path / "out", uri_column="file") == [{"uri": "a.jpg"}, {"uri": "https://h/b"}]


def test_bytes_that_are_no_utf8(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", {"uri": pa.array([b"caf\xe9.jpg", b"b.jpg"])})
    table, _ = plan_table(path, tmp_path / "out")
    assert table["uri"].to_pylist() == [f"file://{tmp_path}/caf%E9.jpg", f"{tmp_path}/b.jpg"]


def test_row_groups_and_duplicates_keep_their_order(tmp_path: Path) -> None:
    names = [f"{number % 7}.jpg" for number in range(100)]
    path = write(tmp_path / "a.pq", {"uri": names, "n": list(range(100))}, row_group_size=9)
    assert plan_rows(path, tmp_path / "out", "n") == [{"uri": name, "n": n} for n, name in enumerate(names)]


def test_a_folder_of_files(tmp_path: Path) -> None:
    folder = tmp_path / "table"
    write(folder / "b.parquet", {"uri": ["b.jpg"], "n": pa.array([2], pa.int32())})
    write(folder / "a.parquet", {"uri": ["a.jpg"], "n": pa.array([1], pa.int64()), "m": ["x"]})
    write(folder / "sub/c.parquet", {"uri": ["c.jpg"]})
    write(folder / "_delta/d.parquet", {"uri": ["d.jpg"]})
    (folder / "_SUCCESS").touch()
    rows = plan_rows(folder, tmp_path / "out", "n", "m")
    assert rows == [
        {"uri": "table/a.jpg", "n": 1, "m": "x"},
        {"uri": "table/b.jpg", "n": 2, "m": None},
        {"uri": "table/c.jpg", "n": None, "m": None},
    ]


def test_key_value_folders_are_columns(tmp_path: Path) -> None:
    folder = tmp_path / "table"
    for year, split in (("2023", "train"), ("2024", "a%20b"), ("__HIVE_DEFAULT_PARTITION__", "test")):
        write(folder / f"year={year}/split={split}/x.parquet", {"uri": [f"{year[:4]}.jpg"]})
    assert plan_rows(folder, tmp_path / "out", "year", "split") == [
        {"uri": "table/2023.jpg", "year": 2023, "split": "train"},
        {"uri": "table/2024.jpg", "year": 2024, "split": "a b"},
        {"uri": "table/__HI.jpg", "year": None, "split": "test"},
    ]


def test_a_folder_with_images_is_one_of_images(tmp_path: Path) -> None:
    write(tmp_path / "photos/metadata.parquet", {"uri": ["b.jpg"]})
    (tmp_path / "photos/a.jpg").touch()
    assert plan_rows(tmp_path / "photos", tmp_path / "out") == [{"uri": "photos/a.jpg"}]


def test_rows_without_a_uri(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", {"uri": ["a.jpg", None, " ", "b.jpg"], "n": [1, 2, 3, 4]}, row_group_size=1)
    assert errors(path, tmp_path / "out") == {
        "a.parquet#row=1": "row 1 of a.parquet: column 'uri' is null",
        "a.parquet#row=2": "row 2 of a.parquet: column 'uri' is empty",
    }
    with pytest.raises(UsageError, match=r"a\.parquet': row 1: column 'uri' is null \(input\.on_bad_line"):
        plan_rows(path, tmp_path / "out")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", {"uri": [1, 2], "file": ["a.jpg", "b.jpg"]})
    with pytest.raises(UsageError, match=r"a\.parquet': column 'uri' is int64, not text"):
        plan_rows(path, tmp_path / "out")
    with pytest.raises(UsageError, match=r"no column 'name' \(input\.uri_column\); its columns are: uri, file"):
        plan_rows(path, tmp_path / "out", uri_column="name")
    with pytest.raises(UsageError, match=r"input\.columns: no column 'x' in input\.path: '.*a\.parquet'"):
        plan_rows(path, tmp_path / "out", "x", uri_column="file")
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(UsageError, match=r"a\.parquet' cannot be read as Parquet: .*magic bytes"):
        plan_rows(path, tmp_path / "out")
    path.write_bytes(b"")
    with pytest.raises(UsageError, match=r"a\.parquet' cannot be read as Parquet: "):
        plan_rows(path, tmp_path / "out")


def test_a_page_that_is_damaged_ends_the_plan(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", {"uri": [f"{n}.jpg" for n in range(1000)]}, compression="zstd")
    data = bytearray(path.read_bytes())
    data[200:300] = bytes(100)
    path.write_bytes(data)
    with pytest.raises(UsageError, match=r"a\.parquet' cannot be read as Parquet: "):
        plan_rows(path, tmp_path / "out")
