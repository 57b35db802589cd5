"""Text in pieces of whole lines, however the file is read."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms import manifest_lines
from transforms.manifest_lines import MAX_LINE_BYTES, LongLineError, blocks_of, whole_lines


def blocks(text: bytes, size: int) -> list[bytes]:
    return [text[at : at + size] for at in range(0, len(text), size)]


def by_the_book(text: bytes, length: int | None) -> list[bytes]:
    """The lines that begin within `length` bytes."""
    found, begins = [], 0
    for line in text.splitlines(keepends=True):
        if length is None or begins < length:
            found.append(line.removesuffix(b"\n"))
        begins += len(line)
    return found


a_text = st.lists(st.sampled_from([b"a", b"bc", b"\n", b"\n\n"]), max_size=30).map(b"".join)


@given(text=a_text, size=st.integers(1, 9), length=st.one_of(st.none(), st.integers(1, 40)))
def test_the_lines_that_begin_within_a_length(text: bytes, size: int, length: int | None) -> None:
    found = [line for piece in whole_lines(blocks(text, size), length) for line in piece.split(b"\n")]
    assert found == by_the_book(text, length)


@pytest.mark.parametrize("before", [0, 1, 1000, MAX_LINE_BYTES - 1, MAX_LINE_BYTES])
@pytest.mark.parametrize("end", [b"", b"\n", b"\nc\n"])
def test_a_line_may_have_a_mebibyte_wherever_it_begins(before: int, end: bytes) -> None:
    """What is too long in one place is too long in any: plans must not depend on how a file is read."""
    lead = b"a" * (before - 1) + b"\n" if before else b""
    file = io.BytesIO(lead + b"b" * MAX_LINE_BYTES + end)
    assert b"\n".join(whole_lines(blocks_of(file))) == file.getvalue().removesuffix(b"\n")
    with pytest.raises(LongLineError) as caught:
        list(whole_lines(blocks_of(io.BytesIO(lead + b"b" * (MAX_LINE_BYTES + 1) + end))))
    assert caught.value.lines == bool(before)


def test_no_more_is_read_than_the_lines_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest_lines, "BLOCK_BYTES", 4)
    file = io.BytesIO(b"aa\nbbbb\nccccccccccccccc\n")
    assert list(whole_lines(blocks_of(file), 3)) == [b"aa"]
    assert file.tell() == 4
