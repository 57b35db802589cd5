"""JSON lines: types, how they widen, and bad lines with their numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import UsageError
from pipeline.inputs import json_lines
from tests.pipeline.planning import COMPRESS, errors, plan_rows, plan_table


def write(folder: Path, content: bytes | str | list[Any], name: str = "list.jsonl") -> Path:
    if isinstance(content, list):
        content = "\n".join(map(json.dumps, content))
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize("compression", COMPRESS)
@pytest.mark.parametrize("name", ["list.jsonl", "list.NDJSON"])
def test_order_duplicates_and_relative_uris(tmp_path: Path, name: str, compression: str) -> None:
    content = b'\xef\xbb\xbf{"uri":"a.jpg","n":1}\r\n\r\n{"n":2, "uri":"/b.jpg"}\n{"uri":"/b.jpg","other":3}'
    path = write(tmp_path, COMPRESS[compression](content), name + compression)
    assert plan_rows(path, tmp_path / "out", "n") == [
        {"uri": "a.jpg", "n": 1},
        {"uri": "/b.jpg", "n": 2},
        {"uri": "/b.jpg", "n": None},
    ]
    assert plan_table(path, tmp_path / "out")[1].left_out == {"blank_line": 1}


@pytest.mark.parametrize("block", [20, 4 << 20])
@pytest.mark.parametrize(
    ("values", "type", "found"),
    [
        ([1, 2**62], pa.int64(), None),
        ([1, 2.5, None], pa.float64(), [1.0, 2.5, None]),
        ([None, True], pa.bool_(), None),
        (["2024-01-01", "x"], pa.string(), None),
        (["2024-01-01", "2024-01-02T10:00:00Z"], pa.string(), None),
        ([[], [1], [1.5], None], pa.list_(pa.float64()), [[], [1.0], [1.5], None]),
        (
            [{"x": 1}, {"x": None, "y": ["2024-01-01"]}],
            pa.struct([("x", pa.int64()), ("y", pa.list_(pa.string()))]),
            [{"x": 1, "y": None}, {"x": None, "y": ["2024-01-01"]}],
        ),
        ([None, None], pa.string(), None),
    ],
)
def test_types_widen_over_blocks(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    values: list[Any],
    type: pa.DataType,
    found: list[Any] | None,
    block: int,
) -> None:
    monkeypatch.setattr(json_lines, "BLOCK_BYTES", block)
    path = write(tmp_path, [{"uri": f"{row}.jpg", "a": value} for row, value in enumerate(values)])
    table, _ = plan_table(path, tmp_path / "out", "a")
    assert table.schema.field("a").type == type
    assert table["a"].to_pylist() == (found or values)


LINES = {
    2: ("nope", "it is not JSON (Expecting value at column 1)"),
    3: ('{"uri": "a.jpg"', "it is not JSON (Expecting ',' delimiter at column 16)"),
    5: ("[1]", "it is a list, not an object"),
    6: ('{"file": "a.jpg", "n": 1}', "it has no 'uri' (input.uri_column), only: file, n"),
    7: ('{"uri": null}', "'uri' is empty"),
    8: ('{"uri": " "}', "'uri' is empty"),
    9: ('{"uri": 7}', "'uri' is a number, not a text"),
    10: (b'{"uri": "caf\xe9.jpg"}', "it is not UTF-8"),
    11: ('{"uri": "x.jpg", "n": 1, "n": 2}', "JSON parse error: Column(/n) was specified twice"),
    12: ('{"uri": "a.jpg"} {"uri": "b.jpg"}', "it is not JSON (Extra data at column 18)"),
    13: ('{"uri": "' + "a" * 5000 + '"}', "it is longer than 16 MiB"),
    16: ("null", "it is null, not an object"),
    17: ("null]", "it is not JSON (Extra data at column 5)"),
    14: ("[" * 3000, "it is nested too deeply"),
}


@pytest.mark.parametrize("block", [30, 4 << 20])
def test_bad_lines_are_rows_with_their_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(json_lines, "BLOCK_BYTES", block)
    monkeypatch.setattr(json_lines, "MAX_LINE_BYTES", 4000)
    good = {1: b'{"uri": "1.jpg", "n": 1}', 4: b'{"uri": "4.jpg", "n": 4}', 15: b'{"uri": "15.jpg", "n": 15}'}
    raw = {number: text if isinstance(text, bytes) else text.encode() for number, (text, _) in LINES.items()}
    path = write(tmp_path, b"\n".join({**good, **raw}[number] for number in range(1, 18)))
    rows = plan_rows(path, tmp_path / "out", "n", on_bad_line="row")
    assert [row["uri"] for row in rows] == [
        f"{number}.jpg" if number in good else f"list.jsonl#line={number}" for number in range(1, 18)
    ]
    assert [row["n"] for row in rows] == [number if number in good else None for number in range(1, 18)]
    assert errors(path, tmp_path / "out") == {
        f"list.jsonl#line={number}": f"line {number} of list.jsonl: {reason}"
        for number, (_, reason) in sorted(LINES.items())
        if number != 11  # pyarrow looks only at what is carried
    }


@pytest.mark.parametrize("text", ["null", " null\n", "null]", '{"uri": "a.jpg"} null', '{"uri": "a.jpg"}\n\tnull'])
def test_null_in_place_of_an_object(tmp_path: Path, text: str) -> None:
    assert len(errors(write(tmp_path, text), tmp_path / "out")) == 1


def test_a_bad_line_ends_the_plan(tmp_path: Path) -> None:
    path = write(tmp_path, '{"uri": "a.jpg"}\n\n{"uri": ""}\n')
    with pytest.raises(UsageError, match=r"list\.jsonl': line 3: 'uri' is empty \(input\.on_bad_line"):
        plan_rows(path, tmp_path / "out")


def test_the_uri_column_is_nowhere(tmp_path: Path) -> None:
    path = write(tmp_path, [{"file": "a.jpg", "n": 1}, {"file": "b.jpg"}])
    with pytest.raises(UsageError, match=r"no column 'uri' \(input\.uri_column\); its columns are: file, n"):
        plan_rows(path, tmp_path / "out", on_bad_line="row")
    assert [row["uri"] for row in plan_rows(path, tmp_path / "out", uri_column="file")] == ["a.jpg", "b.jpg"]


def test_values_without_a_common_type(tmp_path: Path) -> None:
    path = write(tmp_path, [{"uri": "a.jpg", "n": 1}, {"uri": "b.jpg", "n": 2}, {"uri": "c.jpg", "n": "three"}])
    with pytest.raises(UsageError) as error:
        plan_rows(path, tmp_path / "out", "n", on_bad_line="row")
    assert str(error.value) == (
        f"input.columns: column 'n' is string in input.path: '{path}', line 3, and int64 before; give it one type"
    )
    assert len(plan_rows(path, tmp_path / "out")) == 3


def test_an_empty_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"list\.jsonl' holds no row \(left out: 1 blank lines\)"):
        plan_rows(write(tmp_path, "\n"), tmp_path / "out")


text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
row = st.fixed_dictionaries(
    {"uri": text.filter(lambda uri: bool(uri.strip()))},
    optional={
        "text": text | st.none(),
        "whole": st.integers(-(2**53), 2**53) | st.none(),
        "number": st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**53), 2**53) | st.none(),
        "flag": st.booleans() | st.none(),
        "list": st.lists(text | st.none()) | st.none(),
        "deep": st.fixed_dictionaries({}, optional={"x": st.integers(-9, 9), "y": st.lists(st.booleans())}),
    },
)
NAMES = ("text", "whole", "number", "flag", "list", "deep")


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(row, min_size=1), block=st.integers(1, 300), ascii=st.booleans())
def test_what_was_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]], block: int, ascii: bool
) -> None:
    folder = tmp_path_factory.mktemp("json")
    path = write(folder, "\n".join(json.dumps(row, ensure_ascii=ascii) for row in rows))
    columns = [name for name in NAMES if any(name in row for row in rows)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_lines, "BLOCK_BYTES", block)
        table, _ = plan_table(path, folder / "out", *columns)
    for name in columns:
        found = table[name].to_pylist()
        if name == "deep":
            found = [value and {key: item for key, item in value.items() if item is not None} for value in found]
            wanted = [row.get(name) for row in rows]
            assert [value or {} for value in found] == [value or {} for value in wanted]
        else:
            assert found == [row.get(name) for row in rows]
    assert len(table) == len(rows)
