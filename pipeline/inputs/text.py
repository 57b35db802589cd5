"""Text files of URIs: every line that is not blank is a row, whatever it names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO

from pipeline.errors import UsageError
from pipeline.inputs.manifest import Manifest, checked_start
from pipeline.inputs.uris import resolve_uris, uri_of_line

if TYPE_CHECKING:
    import pyarrow as pa

BLOCK_BYTES = 1 << 20
MAX_LINE_BYTES = 1 << 20


def read_lines(manifest: Manifest, left_out: Counter[str]) -> Iterator[pa.StringArray]:
    """The URIs of a text file, in order, an array a block of about 1 MiB.

    Lines end with LF or CRLF; a UTF-8 byte order mark is dropped; blank lines are counted as `blank_line`. Nothing
    else is special: `#` is a character like any other and spaces belong to the name. Relative paths are joined to the
    file's folder (to the working directory when the file is a pipe).

    Args:
        left_out: counts of lines that are no rows.

    Raises:
        UsageError: the file cannot be read, holds NUL bytes at its start or is UTF-16, or a line exceeds 1 MiB.
    """
    with manifest.open() as (file, folder):
        for block in _whole_line_blocks(file, manifest.name):
            yield _uris_of_block(block, folder, left_out)


def _whole_line_blocks(file: BinaryIO, name: str) -> Iterator[bytes]:
    """Blocks that end where a line ends, without that last newline."""
    rest = b""
    lines = 0
    first = True
    while data := file.read(BLOCK_BYTES):
        if first:
            data = checked_start(data, name, "one URI a line")
            first = False
        head, newline, tail = data.rpartition(b"\n")
        if not newline:
            rest += tail
        else:
            yield _unix_lines(rest + head)
            lines += head.count(b"\n") + 1
            rest = tail
        if len(rest) > MAX_LINE_BYTES:
            raise UsageError(f"{name}: line {lines + 1} is longer than 1 MiB; a text file holds one URI a line")
    if rest:
        yield _unix_lines(rest)


def _unix_lines(block: bytes) -> bytes:
    return block.replace(b"\r\n", b"\n").removesuffix(b"\r")


def _uris_of_block(block: bytes, folder: bytes, left_out: Counter[str]) -> pa.StringArray:
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        text = pa.array([block], pa.binary()).cast(pa.string())
    except pa.ArrowInvalid:
        return _uris_line_by_line(block, folder, left_out)
    lines = pc.split_pattern(text, pattern="\n").flatten()
    is_blank = pc.equal(pc.binary_length(pc.ascii_trim_whitespace(lines)), 0)
    if blanks := pc.sum(is_blank).as_py():
        left_out["blank_line"] += blanks
        lines = lines.filter(pc.invert(is_blank))
    return resolve_uris(lines, folder)


def _uris_line_by_line(block: bytes, folder: bytes, left_out: Counter[str]) -> pa.StringArray:
    import pyarrow as pa

    lines = block.split(b"\n")
    named = [line for line in lines if line.strip()]
    if len(named) < len(lines):
        left_out["blank_line"] += len(lines) - len(named)
    return pa.array([uri_of_line(line, folder) for line in named], pa.string())
