"""Columns over several inputs: one type for each, nulls where an input has none, clashes as errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import UsageError
from pipeline.extend import extend_plan
from pipeline.inputs import Reading
from pipeline.plan import make_plan
from tests.pipeline.planning import plan_rows, plan_table


def make(folder: Path, kind: str, values: Any) -> str:
    """One of each kind of table, with the column `a`."""
    path = folder / f"{len(list(folder.iterdir()))}.{kind}"
    uris = [f"{path.stem}-{row}.jpg" for row in range(len(values))]
    if kind == "csv":
        path.write_text("a,uri\n" + "".join(f"{value},{uri}\n" for value, uri in zip(values, uris, strict=True)))
    elif kind == "jsonl":
        rows = zip(values, uris, strict=True)
        path.write_text("\n".join(json.dumps({"uri": uri, "a": value}) for value, uri in rows))
    else:
        pq.write_table(pa.table({"uri": uris, "a": values}), path)
    return str(path)


def array(type: pa.DataType, *values: Any) -> pa.Array:
    return pa.array(values, type)


@pytest.mark.parametrize(
    ("inputs", "type", "found"),
    [
        ([("csv", ["1", "2"]), ("csv", ["x"])], pa.string(), ["1", "2", "x"]),
        ([("csv", ["1"]), ("csv", ["2.5", ""])], pa.float64(), [1.0, 2.5, None]),
        ([("csv", ["1", ""]), ("parquet", array(pa.int32(), 2))], pa.int64(), [1, None, 2]),
        ([("csv", ["1.5"]), ("jsonl", [2])], pa.float64(), [1.5, 2.0]),
        ([("csv", ["007", ""]), ("jsonl", ["8"])], pa.string(), ["007", "", "8"]),
        ([("csv", ["17"]), ("jsonl", ["8"])], pa.string(), ["17", "8"]),
        ([("csv", ["2024-01-02 03:04:05"]), ("parquet", array(pa.timestamp("ms"), 0))], pa.timestamp("ms"), None),
        ([("jsonl", [1]), ("jsonl", [1.5]), ("jsonl", [None])], pa.float64(), [1.0, 1.5, None]),
        ([("parquet", array(pa.int8(), 1)), ("parquet", array(pa.int32(), 2**31 - 1))], pa.int32(), [1, 2**31 - 1]),
        (
            [("parquet", array(pa.timestamp("ms"), 1)), ("parquet", array(pa.timestamp("us"), 1))],
            pa.timestamp("us"),
            None,
        ),
        (
            [("jsonl", [{"x": 1}]), ("parquet", array(pa.struct([("y", pa.string())]), {"y": "z"}))],
            pa.struct([("x", pa.int64()), ("y", pa.string())]),
            [{"x": 1, "y": None}, {"x": None, "y": "z"}],
        ),
        ([("jsonl", [None]), ("parquet", array(pa.list_(pa.int8()), [1]))], pa.list_(pa.int8()), [None, [1]]),
    ],
)
def test_one_type_for_all_inputs(
    tmp_path: Path, inputs: list[tuple[str, Any]], type: pa.DataType, found: list[Any] | None
) -> None:
    (tmp_path / "in").mkdir()
    paths = [make(tmp_path / "in", kind, values) for kind, values in inputs]
    for order in (paths, paths[::-1]):
        table, _ = plan_table(order, tmp_path / "out", "a")
        assert table.schema.field("a").type == type or pa.types.is_struct(type)
    table, _ = plan_table(paths, tmp_path / "out", "a")
    assert table.schema.field("a").type == type
    assert found is None or table["a"].to_pylist() == found


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ([("jsonl", [1]), ("jsonl", ["x"])], r"column 'a' is string in input\.path\[1\]: '.*', and int64 in .*\[0\].*"),
        ([("csv", ["x"]), ("jsonl", [1])], r"column 'a' has values of type string, which cannot all be int64"),
        ([("csv", ["1.5"]), ("parquet", array(pa.date32(), 1))], r"type string, which cannot all be date32"),
        ([("parquet", array(pa.bool_(), True)), ("jsonl", [1])], r"column 'a' is int64 in .*, and bool in .*one type"),
        ([("jsonl", [2**53 + 1]), ("jsonl", [0.5])], r"type int64, which cannot all be double as others are"),
        ([("parquet", array(pa.uint64(), 2**64 - 1)), ("jsonl", [-1])], r"type uint64, which cannot all be int64"),
    ],
)
def test_no_common_type_is_an_error(tmp_path: Path, inputs: list[tuple[str, Any]], message: str) -> None:
    (tmp_path / "in").mkdir()
    paths = [make(tmp_path / "in", kind, values) for kind, values in inputs]
    with pytest.raises(UsageError, match=rf"input\.columns: .*{message}"):
        plan_rows(paths, tmp_path / "out", "a")
    assert [path for path in tmp_path.rglob("*") if path.name.startswith("plan")] == []


def test_inputs_without_a_column_have_nulls(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/x.jpg").touch()
    (tmp_path / "list.txt").write_text("y.jpg\n")
    paths = [f"{tmp_path}/photos", make(tmp_path / "in", "csv", ["1"]), f"{tmp_path}/list.txt"]
    assert [row["a"] for row in plan_rows(paths, tmp_path / "out", "a")] == [None, 1, None]
    with pytest.raises(UsageError, match=r"input\.columns: no column 'b' in any of the 3 inputs"):
        plan_rows(paths, tmp_path / "out", "a", "b")
    with pytest.raises(UsageError, match=r"input\.columns: no column 'b' in input\.path: '.*photos'"):
        plan_rows(paths[0], tmp_path / "out", "b")


def test_columns_stand_in_the_order_of_the_config(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("c,uri,b,a\n3,x.jpg,2,1\n,,\n")
    table, _ = plan_table(tmp_path / "list.csv", tmp_path / "out", "b", "a", "c", on_bad_line="row")
    assert table.column_names == ["row", "uri", "b", "a", "c", "_hublabel_error"]


def test_limit_reads_no_further(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("uri,a\nx.jpg,1\ny.jpg,2\nz.jpg\n" * 3)
    reading = Reading("uri", ("a",))
    with pytest.raises(UsageError, match="line 4: it has 1 field"):
        make_plan(str(tmp_path / "list.csv"), tmp_path / "out", batch_size=1, reading=reading)
    (tmp_path / "good.jsonl").write_text('{"uri": "x.jpg"}\n' * 5)
    paths = [str(tmp_path / "good.jsonl"), str(tmp_path / "list.csv")]
    plan = make_plan(paths, tmp_path / "out", batch_size=1, limit=4, reading=reading)
    assert plan.rows == 4


def test_more_rows_keep_the_types_of_a_plan(tmp_path: Path) -> None:
    path, out = tmp_path / "list.jsonl", tmp_path / "out"
    path.write_text('{"uri": "a.jpg", "n": 1.5}')
    reading = Reading("uri", ("n",), "row")
    plan = make_plan(str(path), out, batch_size=1, shard_size=2, reading=reading)
    path.write_text('{"uri": "a.jpg", "n": 1.5}\n{"uri": "b.jpg", "n": 2}\nnope\n{"uri": "c.jpg"}')
    longer = extend_plan(plan, str(path), out, batch_size=1, shard_size=2, reading=reading)
    added = pq.read_table(out / longer.files[1].name)
    assert added.schema.field("n").type == pa.float64()
    assert added.drop_columns(["uri"]).to_pydict() == {
        "row": [1, 2, 3],
        "n": [2.0, None, None],
        "_hublabel_error": [None, f"line 3 of {path}: it is not JSON (Expecting value at column 1)", None],
    }
    assert extend_plan(longer, str(path), out, batch_size=1, shard_size=2, reading=reading) is longer
