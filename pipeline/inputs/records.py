"""Blocks of whole CSV records: where a block may be cut, with the number of its first line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from pipeline.inputs.manifest import MAX_LINE_BYTES, checked_start

BLOCK_BYTES = 4 << 20
UNCLOSED = "a quote is opened and not closed"
TOO_LONG = f"it is longer than {MAX_LINE_BYTES >> 20} MiB"
LINE_END = re.compile(rb"\r\n|\r|\n")


@dataclass(frozen=True)
class Block:
    """Whole records, or one bad line.

    Attributes:
        data: UTF-8 text, more or less.
        line: number of its first line, from 1.
        bad: what is wrong with the line; empty for records.
    """

    data: bytes
    line: int
    bad: str = ""


def record_blocks(file: BinaryIO, name: str, delimiter: bytes) -> Iterator[Block]:
    """The file in blocks that end where a record does; a newline inside quotes ends none.

    A quote that is not closed within 16 MiB, or by the end of the file, takes only its own line with it.

    Raises:
        UsageError: the file is not UTF-8 text.
    """
    quoted = quoted_field(delimiter)
    rest, line, first, at_end = b"", 1, True, False
    while not at_end:
        data = file.read(BLOCK_BYTES)
        at_end = not data
        if first:
            data, first = checked_start(data, name, "one record a line"), False
        rest += data
        while rest:
            stop, is_open = _cut(rest, quoted, at_end)
            if stop:
                yield Block(rest[:stop], line)
                line += count_lines(rest[:stop])
                rest = rest[stop:]
            if not at_end and len(rest) <= MAX_LINE_BYTES:
                break
            if rest:
                head, rest = _first_line(rest, file)
                yield Block(head, line, bad=UNCLOSED if is_open else TOO_LONG)
                line += 1


def _first_line(data: bytes, file: BinaryIO) -> tuple[bytes, bytes]:
    """The first line of `data`, and what follows it; of a line that goes on in the file only the beginning."""
    if end := LINE_END.search(data):
        return data[: end.end()], data[end.end() :]
    while more := file.read(BLOCK_BYTES):
        if end := LINE_END.search(more):
            return data, more[end.end() :]
    return data, b""


def quoted_field(delimiter: bytes) -> re.Pattern[bytes]:
    """A field in quotes, where data or a field begins; its group is empty where the quote is not closed."""
    starts = rb"(?:\A|(?<=[\r\n" + re.escape(delimiter) + rb"]))"
    return re.compile(starts + rb'"[^"]*(?:""[^"]*)*("|\Z)')


def count_lines(data: bytes) -> int:
    """Line ends in `data`: LF, CRLF or CR."""
    count = data.count(b"\n")
    return count if b"\r" not in data else count + data.count(b"\r") - data.count(b"\r\n")


def _cut(data: bytes, quoted: re.Pattern[bytes], at_end: bool) -> tuple[int, bool]:
    """Bytes up to the end of the last whole record, and whether what follows has an open quote."""
    spans = [(match.start(), match.end(), match.group(1)) for match in quoted.finditer(data)] if b'"' in data else []
    is_open = bool(spans) and not spans[-1][2]
    if at_end and not is_open:
        return len(data), False
    end = spans[-1][0] if is_open else len(data)
    if is_open:
        spans.pop()
    while True:
        start = spans[-1][1] if spans else 0
        # CR at the very end may be half of CRLF
        newline = max(data.rfind(b"\n", start, end), data.rfind(b"\r", start, min(end, len(data) - 1)))
        if newline >= 0:
            return newline + 1 + (data[newline : newline + 2] == b"\r\n"), is_open
        if not spans:
            return 0, is_open
        end = spans.pop()[0]
