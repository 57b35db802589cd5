"""CSV and TSV: quotes, line ends, bad lines with their numbers, and what text columns are taken for."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import UsageError
from pipeline.inputs import records
from tests.pipeline.planning import COMPRESS, errors, plan_rows, plan_table


def write(folder: Path, content: bytes | str, name: str = "list.csv") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


CONTENT = 'id,uri,caption\n1,a.jpg,"two\nlines, ""quoted"""\n2,/abs/b.jpg,\n2,/abs/b.jpg,x\n3,"https://h/c,d.jpg",é\n'
ROWS = [
    {"uri": "a.jpg", "caption": 'two\nlines, "quoted"', "id": 1},
    {"uri": "/abs/b.jpg", "caption": "", "id": 2},
    {"uri": "/abs/b.jpg", "caption": "x", "id": 2},
    {"uri": "https://h/c,d.jpg", "caption": "é", "id": 3},
]


@pytest.mark.parametrize("compression", COMPRESS)
@pytest.mark.parametrize("name", ["list.csv", "LIST.CSV"])
def test_order_duplicates_and_quoted_fields(tmp_path: Path, name: str, compression: str) -> None:
    path = write(tmp_path, COMPRESS[compression](CONTENT.encode()), name + compression)
    assert plan_rows(path, tmp_path / "out", "caption", "id") == ROWS


def test_tsv(tmp_path: Path) -> None:
    path = write(tmp_path, 'caption\turi\n"a\tb"\tx,y.jpg\nc "d"\tz.jpg\n', "list.tsv")
    assert plan_rows(path, tmp_path / "out", "caption") == [
        {"uri": "x,y.jpg", "caption": "a\tb"},
        {"uri": "z.jpg", "caption": 'c "d"'},
    ]


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbfuri,id\na.jpg,1\nb.jpg,2\n",
        b"uri,id\r\na.jpg,1\r\nb.jpg,2\r\n",
        b"uri,id\ra.jpg,1\rb.jpg,2",
        b"\n\nuri,id\n\na.jpg,1\n\r\nb.jpg,2",
        b'"uri","id"\n"a.jpg","1"\n"b.jpg",2',
    ],
)
def test_line_ends_byte_order_mark_and_blank_lines(tmp_path: Path, content: bytes) -> None:
    path = write(tmp_path, content)
    assert plan_rows(path, tmp_path / "out", "id") == [{"uri": "a.jpg", "id": 1}, {"uri": "b.jpg", "id": 2}]
    blanks = {"blank_line": 4} if content.startswith(b"\n") else {}
    assert plan_table(path, tmp_path / "out")[1].left_out == blanks


def test_the_uri_column_can_have_any_name_and_be_carried_itself(tmp_path: Path) -> None:
    path = write(tmp_path, "file,uri\n./a.jpg,no\n../b.jpg,no\n")
    rows = plan_rows(path, tmp_path / "out", "file", uri_column="file")
    assert [row["file"] for row in rows] == ["./a.jpg", "../b.jpg"]
    assert [row["uri"] for row in rows] == ["a.jpg", "../b.jpg"]


def test_uris_and_fields_that_are_no_utf8(tmp_path: Path) -> None:
    path = write(tmp_path, b"uri,id\ncaf\xe9.jpg,1\nb.jpg,caf\xe9\n")
    assert plan_rows(path, tmp_path / "out")[0] == {"uri": f"file://{tmp_path}/caf%E9.jpg".replace(f"{tmp_path}/", "")}
    with pytest.raises(UsageError, match=r"list\.csv': line 3: column 'id' is not UTF-8"):
        plan_rows(path, tmp_path / "out", "id")


BAD_LINES = """\
id,uri,caption
1,a.jpg,"a
b
c"
2,b.jpg
3,,x
4, ,x

5,c.jpg,x,y
6,"d.jpg,x
7,e.jpg,"x"y
"""
REASONS = {
    5: "it has 2 fields, and the first line has 3",
    6: "column 'uri' is empty",
    7: "column 'uri' is empty",
    9: "it has 4 fields, and the first line has 3",
    10: "it has 2 fields, and the first line has 3 (a quote goes on to line 11)",
}


@pytest.mark.parametrize("block", [1, 7, 4 << 20])
@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
def test_bad_lines_are_rows_with_their_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends: str, block: int
) -> None:
    monkeypatch.setattr(records, "BLOCK_BYTES", block)
    path = write(tmp_path, BAD_LINES.replace("\n", ends))
    rows = plan_rows(path, tmp_path / "out", "id", "caption", on_bad_line="row")
    assert [row["uri"] for row in rows] == ["a.jpg", *(f"list.csv#line={line}" for line in REASONS), "e.jpg"]
    assert rows[0]["caption"] == ends.join("abc")
    assert rows[-1] == {"uri": "e.jpg", "id": 7, "caption": "xy", "_hublabel_error": None}
    assert [row["_hublabel_error"] for row in rows[1:-1]] == [
        f"line {line} of list.csv: {reason}" for line, reason in REASONS.items()
    ]
    assert all(row["id"] is row["caption"] is None for row in rows[1:-1])
    assert plan_table(path, tmp_path / "out", on_bad_line="row")[1].left_out == {"blank_line": 1}


@pytest.mark.parametrize("line", [5, 6, 7, 9])
def test_a_bad_line_ends_the_plan(tmp_path: Path, line: int) -> None:
    lines = BAD_LINES.splitlines()
    good = [text for number, text in enumerate(lines, 1) if number not in REASONS]
    path = write(tmp_path, "\n".join([*good, lines[line - 1]]))
    with pytest.raises(UsageError) as error:
        plan_rows(path, tmp_path / "out")
    assert str(error.value) == (
        f"input.path: '{path}': line {len(good) + 1}: {REASONS[line]} "
        "(input.on_bad_line: row goes on, with a failed row for it)"
    )
    assert not list((tmp_path / "out").rglob("*"))


def test_a_quote_that_is_not_closed_takes_only_its_own_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "MAX_LINE_BYTES", 300)
    monkeypatch.setattr(records, "BLOCK_BYTES", 100)
    lines = [f"{number}.jpg,{'x' * 10}" for number in range(200)]
    lines[50] = '"50.jpg,x'
    lines[150] = "150.jpg," + "y" * 1000
    rows = plan_rows(write(tmp_path, "uri,a\n" + "\n".join(lines)), tmp_path / "out", on_bad_line="row")
    bad = {50: "a quote is opened and not closed", 150: "it is longer than 16 MiB"}
    assert [row["uri"] for row in rows] == [
        f"list.csv#line={number + 2}" if number in bad else f"{number}.jpg" for number in range(200)
    ]
    assert {number: rows[number]["_hublabel_error"].partition(": ")[2] for number in bad} == bad


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty; its first line must name the columns"),
        ("\n\n", "is empty; its first line must name the columns"),
        ("uri,id\n", "holds no row; input.path takes a folder"),
        ("uri;id\na.jpg;1\n", "no column 'uri' (input.uri_column); its columns are: uri;id"),
        ("URI,id\na.jpg,1\n", "no column 'uri' (input.uri_column); its columns are: URI, id"),
        ("uri,id,uri\na.jpg,1,b.jpg\n", "it has two columns 'uri'"),
        ("uri,a\na.jpg,1\n".encode("utf-16"), "is UTF-16; save the list as UTF-8"),
        (b"PK\x03\x04\0\0", "is neither text with one record a line nor named like an image"),
    ],
)
def test_files_that_are_no_tables(tmp_path: Path, content: bytes | str, message: str) -> None:
    with pytest.raises(UsageError) as error:
        plan_rows(write(tmp_path, content), tmp_path / "out")
    assert message in str(error.value)
    assert str(error.value).startswith(f"input.path: '{tmp_path}/list.csv'")


def test_a_column_that_is_not_there(tmp_path: Path) -> None:
    path = write(tmp_path, "uri,a\nx.jpg,1\n")
    with pytest.raises(UsageError, match=r"input\.columns: no column 'b' in input\.path: '.*list\.csv'"):
        plan_rows(path, tmp_path / "out", "a", "b")


@pytest.mark.parametrize(("name", "cut"), [("list.csv.gz", 40), ("list.csv.zst", 20), ("list.txt.gz", 30)])
def test_a_compressed_file_that_is_cut_short(tmp_path: Path, name: str, cut: int) -> None:
    data = COMPRESS[name[-3:] if name.endswith("gz") else ".zst"](CONTENT.encode())
    with pytest.raises(UsageError, match=rf"{name}' cannot be read: Truncated"):
        plan_rows(write(tmp_path, data[:cut], name), tmp_path / "out")


def test_several_gzip_members_are_one_file(tmp_path: Path) -> None:
    data = COMPRESS[".gz"](b"uri\na.jpg\n") + COMPRESS[".gz"](b"b.jpg\n")
    assert plan_rows(write(tmp_path, data, "l.csv.gz"), tmp_path / "out") == [{"uri": "a.jpg"}, {"uri": "b.jpg"}]


@pytest.mark.parametrize(
    ("values", "type", "found"),
    [
        (["1", "-20", ""], pa.int64(), [1, -20, None]),
        (["1", "2.5", "1e-3"], pa.float64(), [1.0, 2.5, 0.001]),
        (["true", "False", ""], pa.bool_(), [True, False, None]),
        (["007", "8"], pa.string(), ["007", "8"]),
        (["1", "x"], pa.string(), ["1", "x"]),
        (["+1", "1"], pa.string(), ["+1", "1"]),
        (["1", " 2"], pa.string(), ["1", " 2"]),
        (["1234567890123456789", "1"], pa.string(), ["1234567890123456789", "1"]),
        (["123456789012345678"], pa.int64(), [123456789012345678]),
        (["nan", "1.5"], pa.string(), ["nan", "1.5"]),
        (["2024-01-01"], pa.string(), ["2024-01-01"]),
        (["", ""], pa.string(), ["", ""]),
    ],
)
def test_what_a_text_column_is_taken_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, values: list[str], type: pa.DataType, found: list[object]
) -> None:
    monkeypatch.setattr(records, "BLOCK_BYTES", 8)
    path = write(tmp_path, "uri,a\n" + "".join(f"{row}.jpg,{value}\n" for row, value in enumerate(values)))
    table, _ = plan_table(path, tmp_path / "out", "a")
    assert table.schema.field("a").type == type
    assert table["a"].to_pylist() == found


# an x first, so that it looks like no number
field = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")).map(lambda text: f"x{text}")


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.tuples(field, field), min_size=1),
    block=st.integers(1, 60),
    dialect=st.sampled_from(["excel", "excel-tab"]),
    quoting=st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]),
)
def test_what_was_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]], block: int, dialect: str, quoting: int
) -> None:
    folder = tmp_path_factory.mktemp("csv")
    text = io.StringIO(newline="")
    csv.writer(text, dialect, quoting=quoting).writerows([("a", "name"), *rows])
    path = write(folder, text.getvalue(), "list.tsv" if dialect == "excel-tab" else "list.csv")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(records, "BLOCK_BYTES", block)
        table, _ = plan_table(path, folder / "out", "a", "name", uri_column="name")
    assert list(zip(table["a"].to_pylist(), table["name"].to_pylist(), strict=True)) == rows


def test_a_record_of_several_lines_is_one_bad_row(tmp_path: Path) -> None:
    path = write(tmp_path, 'uri,a\nx.jpg,"one\ntwo",more\ny.jpg,two\n')
    assert errors(path, tmp_path / "out") == {
        "list.csv#line=2": "line 2 of list.csv: it has 3 fields, and the first line has 2 (a quote goes on to line 3)"
    }
    assert plan_rows(path, tmp_path / "out", "a", on_bad_line="row")[1]["a"] == "two"


def test_the_errors_name_the_file_of_a_glob(tmp_path: Path) -> None:
    write(tmp_path, "uri\na.jpg\n", "1.csv")
    write(tmp_path, "uri,b\nx\n", "2.csv")
    assert errors(f"{tmp_path}/*.csv", tmp_path / "out") == {
        "2.csv#line=2": "line 2 of 2.csv: it has 1 field, and the first line has 2"
    }
    with pytest.raises(UsageError, match=r"input\.path: '.*/\*\.csv': '.*/2\.csv': line 2: it has 1 field"):
        plan_rows(f"{tmp_path}/*.csv", tmp_path / "out")
