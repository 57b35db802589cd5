"""Whole runs from tables: what is carried to the output, and what becomes of lines that cannot be read."""

from __future__ import annotations

import datetime
import io
import json
import tarfile
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.pipeline.running import Hublabel, expected_row, parts_of


def with_carried(row: dict[str, Any], **carried: Any) -> dict[str, Any]:
    """The columns of `row` with the carried ones where they stand in the output."""
    return {"row": row["row"], "uri": row["uri"], **carried, **row}


def output_schema(hublabel: Hublabel) -> pa.Schema:
    (schema,) = {pq.read_schema(part).remove_metadata() for part in parts_of(hublabel.output)}
    return schema


def test_mixed_inputs_carry_their_columns(hublabel: Hublabel, picture_folder: Path, tmp_path: Path) -> None:
    taken = datetime.datetime(2024, 2, 29, 12, 30, tzinfo=datetime.timezone.utc)
    table = pa.table(
        {
            "uri": ["photos/003.png", f"{picture_folder}/004.png"],
            "id": pa.array([2**40, None], pa.int64()),
            "price": pa.array([Decimal("1.20"), Decimal("-0.05")], pa.decimal128(9, 2)),
            "taken": pa.array([taken, None], pa.timestamp("us", "UTC")),
            "boxes": [[[1, 2], []], None],
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    (tmp_path / "b.csv").write_text('id,caption,uri\n7,"two\nlines",photos/001.png\n,"say ""hi""",photos/001.png\n')
    (tmp_path / "c.jsonl").write_text(json.dumps({"uri": "photos/005.png", "id": 1, "boxes": [[3]]}))
    inputs = f"[{tmp_path}/a.parquet, {tmp_path}/b.csv, {picture_folder}/000.png, {tmp_path}/c.jsonl]"
    columns = "input.columns=[id, caption, price, taken, boxes]"
    rows = hublabel.labelled("--set", f"input.path={inputs}", "--set", columns)
    carried = [
        {"id": 2**40, "caption": None, "price": Decimal("1.20"), "taken": taken, "boxes": [[1, 2], []]},
        {"id": None, "caption": None, "price": Decimal("-0.05"), "taken": None, "boxes": None},
        {"id": 7, "caption": "two\nlines", "price": None, "taken": None, "boxes": None},
        {"id": None, "caption": 'say "hi"', "price": None, "taken": None, "boxes": None},
        {"id": None, "caption": None, "price": None, "taken": None, "boxes": None},
        {"id": 1, "caption": None, "price": None, "taken": None, "boxes": [[3]]},
    ]
    numbers = [3, 4, 1, 1, 0, 5]
    assert rows == [
        with_carried(expected_row(row, picture_folder / f"{number:03d}.png", number), **values)
        for row, (number, values) in enumerate(zip(numbers, carried, strict=True))
    ]
    schema = output_schema(hublabel)
    assert schema.names[:8] == ["row", "uri", "id", "caption", "price", "taken", "boxes", "status"]
    assert [schema.field(name).type for name in ("id", "caption", "price", "taken", "boxes")] == [
        pa.int64(), pa.string(), pa.decimal128(9, 2), pa.timestamp("us", "UTC"), pa.list_(pa.list_(pa.int64())),
    ]  # fmt: skip


LINES = 'uri,id\nphotos/000.png,1\nphotos/001.png\nphotos/002.png,3\n,4\n"photos/003.png,5\nphotos/004.png,6\n'


def test_bad_lines_end_the_command_before_anything_runs(hublabel: Hublabel, tmp_path: Path, children: Any) -> None:
    (tmp_path / "list.csv").write_text(LINES)
    said = hublabel.run("--set", f"input.path={tmp_path}/list.csv")
    assert said.code == 2
    assert f"'{tmp_path}/list.csv': line 3: it has 1 field, and the first line has 2 (input.on_bad_line" in said.err
    assert children.started == 0
    assert not list(hublabel.output.rglob("*.parquet"))


def test_bad_lines_become_failed_rows_on_request(hublabel: Hublabel, picture_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text(LINES)
    arguments = ["--set", f"input.path={tmp_path}/list.csv", "--set", "input.columns=[id]"]
    rows = hublabel.labelled(*arguments, "--set", "input.on_bad_line=row")
    good = {0: (0, 1), 2: (2, 3), 5: (4, 6)}
    for row, (number, id) in good.items():
        assert rows[row] == with_carried(expected_row(row, picture_folder / f"{number:03d}.png", number), id=id)
    bad = {
        1: (3, "it has 1 field, and the first line has 2"),
        3: (5, "column 'uri' is empty"),
        4: (6, "a quote is opened and not closed"),
    }
    for row, (line, reason) in bad.items():
        values = {name: value for name, value in rows[row].items() if value is not None}
        assert values == {
            "row": row,
            "uri": f"{tmp_path}/list.csv#line={line}",
            "status": "failed",
            "error_stage": "read",
            "error_type": "bad_line",
            "error_message": f"line {line} of {tmp_path}/list.csv: {reason}",
        }
    assert len(rows) == 6
    assert hublabel.report()["errors"] == {"read/bad_line": 3}


def test_extend_keeps_the_types_of_carried_columns(hublabel: Hublabel, picture_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    arguments = ["--set", f"input.path={path}", "--set", "input.columns=[id]", "--set", "input.on_bad_line=row"]
    path.write_text("id,uri\n1,photos/000.png\n")
    first = hublabel.labelled(*arguments)
    path.write_text("id,uri\n1,photos/000.png\n2,photos/001.png\n,photos/002.png\n3\n")
    rows = hublabel.labelled(*arguments, "--extend")
    assert rows[:1] == first
    assert [(row["id"], row["error_type"]) for row in rows] == [(1, None), (2, None), (None, None), (None, "bad_line")]
    assert output_schema(hublabel).field("id").type == pa.int64()
    path.write_text("id,uri\nx4,photos/004.png\n")
    said = hublabel.run(*arguments, "--extend")
    assert said.code == 2
    assert "column 'id' has values of type string, which cannot all be int64 as others are" in said.err
    assert hublabel.rows() == rows


def test_failed_rows_of_tables_can_be_retried(hublabel: Hublabel, picture_folder: Path, tmp_path: Path) -> None:
    from pipeline import cli

    (tmp_path / "list.jsonl").write_text(
        '{"uri": "photos/000.png", "a": [1]}\n{"uri": "photos/late.png", "a": [2]}\nnope\n'
    )
    hublabel.labelled(
        *("--set", f"input.path={tmp_path}/list.jsonl", "--set", "input.columns=[a]"),
        *("--set", "input.on_bad_line=row"),
    )
    before = hublabel.rows()
    (picture_folder / "late.png").write_bytes((picture_folder / "006.png").read_bytes())
    assert cli.main(["retry", str(hublabel.output)]) == 0
    rows = hublabel.rows()
    assert [rows[0], rows[2]] == [before[0], before[2]]
    assert rows[1] == with_carried(expected_row(1, picture_folder / "late.png", 6), a=[2])


@pytest.mark.parametrize("name", ["list.txt.gz", "list.csv.zst"])
def test_a_compressed_list(hublabel: Hublabel, picture_folder: Path, tmp_path: Path, name: str) -> None:
    text = "uri\nphotos/007.png\n" if "csv" in name else "photos/007.png\n"
    with pa.output_stream(str(tmp_path / name), compression="gzip" if name.endswith("gz") else "zstd") as file:
        file.write(text.encode())
    rows = hublabel.labelled("--set", f"input.path={tmp_path}/{name}")
    assert rows == [expected_row(0, picture_folder / "007.png", 7)]


def test_members_of_a_tar_are_labelled_and_verified(
    hublabel: Hublabel, picture_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from pipeline import cli

    with tarfile.open(tmp_path / "s.tar", "w") as tar:
        for number in range(6):
            tar.add(picture_folder / f"{number:03d}.png", f"{number:03d}.png")
            tar.addfile(*_member(f"{number:03d}.cls", b"%d" % (number * 10)))
            tar.addfile(*_member(f"{number:03d}.json", b'{"n": %d}' % number))
        tar.addfile(*_member("bad.png", b"no picture"))
    rows = hublabel.labelled("--set", f"input.path={tmp_path}/s.tar", "--set", "input.columns=[json, cls]")
    for number in range(6):
        expected = expected_row(number, picture_folder / f"{number:03d}.png", number)
        expected["uri"] = f"{tmp_path}/s.tar#{number:03d}.png"
        assert rows[number] == with_carried(expected, json=f'{{"n": {number}}}', cls=number * 10)
    assert (rows[6]["uri"], rows[6]["error_type"]) == (f"{tmp_path}/s.tar#bad.png", "unsupported_format")
    capsys.readouterr()
    assert cli.main(["verify", str(hublabel.output)]) == 0, capsys.readouterr()


def _member(name: str, data: bytes) -> tuple[tarfile.TarInfo, io.BytesIO]:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    return member, io.BytesIO(data)
