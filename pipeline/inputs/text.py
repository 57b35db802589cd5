"""Text files of URIs: every line that is not blank is a row, whatever it names."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO

from pipeline.errors import UsageError
from pipeline.inputs.uris import SCHEME, uri_of_line

if TYPE_CHECKING:
    import pyarrow as pa

BLOCK_BYTES = 1 << 20
MAX_LINE_BYTES = 1 << 20
UTF8_BOM = b"\xef\xbb\xbf"
UTF16_BOMS = (b"\xff\xfe", b"\xfe\xff")


def read_lines(path: bytes, name: str, left_out: Counter[str]) -> Iterator[pa.StringArray]:
    """The URIs of a text file, in order, an array a block of about 1 MiB.

    Lines end with LF or CRLF; a UTF-8 byte order mark is dropped; blank lines are counted as `blank_line`. Nothing
    else is special: `#` is a character like any other and spaces belong to the name. Relative paths are joined to the
    file's folder (to the working directory when the file is a pipe).

    Args:
        path: absolute local path.
        name: what error messages call the file.
        left_out: counts of lines that are no rows.

    Raises:
        UsageError: the file cannot be read, holds NUL bytes at its start or is UTF-16, or a line exceeds 1 MiB.
    """
    try:
        with open(path, "rb") as file:
            is_regular = stat.S_ISREG(os.fstat(file.fileno()).st_mode)
            folder = os.path.dirname(path) if is_regular else os.getcwdb()
            for block in _whole_line_blocks(file, name):
                yield _uris_of_block(block, folder.rstrip(b"/"), left_out)
    except OSError as error:
        raise UsageError(f"{name} cannot be read: {error.strerror}") from error


def _whole_line_blocks(file: BinaryIO, name: str) -> Iterator[bytes]:
    """Blocks that end where a line ends, without that last newline."""
    rest = b""
    lines = 0
    first = True
    while data := file.read(BLOCK_BYTES):
        if first:
            data = _checked_start(data, name)
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


def _checked_start(data: bytes, name: str) -> bytes:
    if data.startswith(UTF16_BOMS):
        raise UsageError(f"{name} is UTF-16; save the list as UTF-8")
    if b"\0" in data[:4096]:
        raise UsageError(f"{name} is neither text with one URI a line nor named like an image (.jpg, .png, ...)")
    return data.removeprefix(UTF8_BOM)


def _uris_of_block(block: bytes, folder: bytes, left_out: Counter[str]) -> pa.StringArray:
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        text = pa.array([block], pa.binary()).cast(pa.string())
        prefix = folder.decode("utf-8") + "/"
    except (pa.ArrowInvalid, UnicodeDecodeError):
        return _uris_line_by_line(block, folder, left_out)
    lines = pc.split_pattern(text, pattern="\n").flatten()
    is_blank = pc.equal(pc.binary_length(pc.ascii_trim_whitespace(lines)), 0)
    if blanks := pc.sum(is_blank).as_py():
        left_out["blank_line"] += blanks
        lines = lines.filter(pc.invert(is_blank))
    if b"://" in block:
        return _uris_of_mixed_lines(lines, folder, prefix)
    return _joined(lines, prefix)


def _joined(lines: pa.StringArray, prefix: str) -> pa.StringArray:
    import pyarrow.compute as pc

    is_absolute = pc.starts_with(lines, pattern="/")
    if pc.all(is_absolute).as_py() is not False:
        return lines
    relative = pc.replace_substring_regex(lines, pattern=r"^\./", replacement="")
    return pc.if_else(is_absolute, lines, pc.binary_join_element_wise(prefix, relative, ""))


def _uris_of_mixed_lines(lines: pa.StringArray, folder: bytes, prefix: str) -> pa.StringArray:
    import pyarrow as pa
    import pyarrow.compute as pc

    has_scheme = pc.match_substring_regex(lines, pattern="^" + SCHEME.pattern)
    is_file_uri = pc.match_substring_regex(lines, pattern="^file://", ignore_case=True)
    uris = pc.if_else(has_scheme, lines, _joined(lines, prefix))
    if not pc.any(is_file_uri).as_py():
        return uris
    paths = [uri_of_line(line.encode(), folder) for line in lines.filter(is_file_uri).to_pylist()]
    return pc.replace_with_mask(uris, is_file_uri, pa.array(paths, pa.string()))


def _uris_line_by_line(block: bytes, folder: bytes, left_out: Counter[str]) -> pa.StringArray:
    import pyarrow as pa

    lines = block.split(b"\n")
    named = [line for line in lines if line.strip()]
    if len(named) < len(lines):
        left_out["blank_line"] += len(lines) - len(named)
    return pa.array([uri_of_line(line, folder) for line in named], pa.string())
