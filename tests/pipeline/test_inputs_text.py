"""Text files of URIs: every line that is not blank is a row."""

from __future__ import annotations

import os
import threading
from collections import Counter
from pathlib import Path
from urllib.parse import quote_from_bytes

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import UsageError
from pipeline.inputs import find_inputs, read_input
from transforms import manifest_lines


def read(path: Path | str) -> tuple[list[str], dict[str, int]]:
    """URIs and counts of what was left out."""
    left_out: Counter[str] = Counter()
    (source,) = find_inputs(str(path))
    return [uri for batch in read_input(source, left_out) for uri in batch.column("uri").to_pylist()], dict(left_out)


def read_text(folder: Path, content: bytes) -> tuple[list[str], dict[str, int]]:
    path = folder / "list.txt"
    path.write_bytes(content)
    return read(path)


def test_each_line_is_a_row_whatever_it_names(tmp_path: Path) -> None:
    content = "/abs/a.jpg\nb.jpg\n./c.jpg\n../d.jpg\n/abs/a.jpg\n# no comment\n sp ace \nfolder/\né.jpg"
    assert read_text(tmp_path, content.encode()) == (
        [
            "/abs/a.jpg",
            f"{tmp_path}/b.jpg",
            f"{tmp_path}/c.jpg",
            f"{tmp_path}/../d.jpg",
            "/abs/a.jpg",
            f"{tmp_path}/# no comment",
            f"{tmp_path}/ sp ace ",
            f"{tmp_path}/folder/",
            f"{tmp_path}/é.jpg",
        ],
        {},
    )


def test_other_schemes_stay_and_file_uris_become_paths(tmp_path: Path) -> None:
    content = (
        b"https://example.com/a%20b.jpg?x=1#y\ngs://bucket/a b.jpg\nfile:///d/a%20b.jpg\nFILE://localhost/d/%C3%A9#1.jpg\n"
        b"file:///d/caf%E9.jpg\nfile://host/a.jpg\nrel://not a scheme.jpg\na://\n1a://b\nx/http://y\n"
    )
    assert read_text(tmp_path, content)[0] == [
        "https://example.com/a%20b.jpg?x=1#y",
        "gs://bucket/a b.jpg",
        "/d/a b.jpg",
        "/d/é#1.jpg",
        "file:///d/caf%E9.jpg",
        "file://host/a.jpg",
        "rel://not a scheme.jpg",
        "a://",
        f"{tmp_path}/1a://b",
        f"{tmp_path}/x/http://y",
    ]


def test_bytes_that_are_no_utf8_survive(tmp_path: Path) -> None:
    content = b"\n/d/caf\xe9 1%.jpg\ncaf\xe9.jpg\nhttp://h/caf\xe9%20 .jpg\nfile:///d/\xe9%20.jpg\n/d/caf\xc3\xa9.jpg\n"
    assert read_text(tmp_path, content) == (
        [
            "file:///d/caf%E9%201%25.jpg",
            f"file://{tmp_path}/caf%E9.jpg",
            "http://h/caf%E9%20 .jpg",
            "file:///d/%E9%20.jpg",
            "/d/café.jpg",
        ],
        {"blank_line": 1},
    )


@pytest.mark.parametrize("content", [b"/a\r\n/b\r\n", b"/a\r\n/b", b"\xef\xbb\xbf/a\n/b\n", b"/a\r\n\r\n \t\r\n/b\r"])
def test_line_ends_byte_order_mark_and_blank_lines(tmp_path: Path, content: bytes) -> None:
    uris, left_out = read_text(tmp_path, content)
    assert uris == ["/a", "/b"]
    assert left_out == ({"blank_line": 2} if b" " in content else {})


def test_any_suffix_or_none_is_text(tmp_path: Path) -> None:
    for name in ("list", "list.lst", "list.files"):
        (tmp_path / name).write_text("/a\n")
        assert read(tmp_path / name)[0] == ["/a"]


def test_a_pipe_is_read_once_and_relative_to_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(b"a.jpg\n/b.jpg\n",))
    writer.start()
    assert read(tmp_path / "pipe")[0] == [f"{tmp_path}/here/a.jpg", "/b.jpg"]
    writer.join()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a.jpg\n".encode("utf-16"), "is UTF-16; save the list as UTF-8"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "is neither text with one URI a line nor named like an image"),
        (b"ok\n" * 7 + b"x" * (3 << 20), "line 8 is longer than 1 MiB"),
    ],
)
def test_what_is_no_text_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(UsageError) as error:
        read_text(tmp_path, content)
    assert str(error.value).startswith(f"input.path: '{tmp_path}/list.txt'")
    assert message in str(error.value)


def test_a_file_that_cannot_be_opened_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "list.txt").symlink_to(tmp_path / "gone.txt")
    with pytest.raises(UsageError, match=r"list\.txt' cannot be read: No such file or directory"):
        read(tmp_path / "list.txt")


def uri_by_the_book(line: bytes, folder: Path) -> str:
    """What docs/inputs.md says of one line without a scheme."""
    path = line if line.startswith(b"/") else os.fsencode(folder) + b"/" + line.removeprefix(b"./")
    try:
        return path.decode()
    except UnicodeDecodeError:
        return "file://" + quote_from_bytes(path)


a_line = st.lists(st.sampled_from([b"a", b"/", b".", b"#", b" ", b"\t", b"\r", "é".encode(), b"\xe9", b"%41"]))


@settings(max_examples=200, deadline=None)
@given(lines=st.lists(a_line.map(b"".join)), ends=st.sampled_from([b"\n", b"\r\n"]), block=st.integers(1, 40))
def test_rows_are_the_lines(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], ends: bytes, block: int
) -> None:
    folder = tmp_path_factory.getbasetemp()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manifest_lines, "BLOCK_BYTES", block)
        uris, left_out = read_text(folder, b"".join(line + ends for line in lines))
    stripped = [line.removesuffix(b"\r") if ends == b"\n" else line for line in lines]
    named = [line for line in stripped if line.strip()]
    assert uris == [uri_by_the_book(line, folder) for line in named]
    assert left_out.get("blank_line", 0) == len(lines) - len(named)
