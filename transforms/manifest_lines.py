"""Text files of URIs: lines, and what each line names. The launcher reads whole files so, workers parts of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, BinaryIO

from transforms.uris import resolve_uris, uri_of_line

if TYPE_CHECKING:
    import pyarrow as pa

UTF8_BOM = b"\xef\xbb\xbf"
BLOCK_BYTES = 1 << 20  # that are read at a time
MAX_LINE_BYTES = 1 << 20  # no less than a block: a line within one block is never too long


class LongLineError(ValueError):
    """A line is longer than `MAX_LINE_BYTES`.

    Attributes:
        lines: before it.
    """

    def __init__(self, lines: int) -> None:
        super().__init__(f"line {lines + 1} is longer than 1 MiB; a text file holds one URI a line")
        self.lines = lines


def blocks_of(file: BinaryIO) -> Iterator[bytes]:
    """The rest of a file, block by block."""
    while data := file.read(BLOCK_BYTES):
        yield data


def whole_lines(blocks: Iterable[bytes], length: int | None = None) -> Iterator[bytes]:
    """Text in pieces that end where a line ends, each without that last newline.

    Args:
        blocks: the text, from the beginning of a line on; none larger than `MAX_LINE_BYTES`.
        length: only the lines that begin within so many bytes, at least 1; None for all.

    Raises:
        LongLineError: one of these lines is too long, wherever in the blocks it stands.
    """
    rest, begins, lines = b"", 0, 0  # what is not given out yet, the byte where it begins, the lines before it
    for data in blocks:
        rest += data
        stop = -1 if length is None else rest.find(b"\n", max(0, length - 1 - begins))
        cut = stop if stop >= 0 else rest.rfind(b"\n")
        first = rest.find(b"\n") if cut >= 0 else len(rest)  # the others lie within one block
        if first > MAX_LINE_BYTES:
            raise LongLineError(lines)
        if cut >= 0:
            yield rest[:cut]
        if stop >= 0:
            return
        lines += rest.count(b"\n", 0, cut + 1)
        begins += cut + 1
        rest = rest[cut + 1 :]
    if rest:
        yield rest


def named_lines(text: bytes) -> tuple[pa.StringArray | list[bytes], int]:
    """The lines of a piece of `whole_lines` that are not blank, and how many are: of bytes where one is no UTF-8.

    Lines end with LF or CRLF. Nothing else is special: `#` is a character like any other, spaces belong to the name.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    text = text.replace(b"\r\n", b"\n").removesuffix(b"\r")
    try:
        array = pa.array([text], pa.binary()).cast(pa.string())
    except pa.ArrowInvalid:
        split = text.split(b"\n")
        named = [line for line in split if line.strip()]
        return named, len(split) - len(named)
    lines = pc.split_pattern(array, pattern="\n").flatten()
    is_blank = pc.equal(pc.binary_length(pc.ascii_trim_whitespace(lines)), 0)
    blanks = pc.sum(is_blank).as_py()
    return (lines.filter(pc.invert(is_blank)) if blanks else lines), blanks


def uris_of(lines: pa.StringArray | list[bytes], folder: bytes) -> pa.StringArray:
    """The URIs that `named_lines` name; relative paths are joined to `folder`."""
    import pyarrow as pa

    if isinstance(lines, list):
        return pa.array([uri_of_line(line, folder) for line in lines], pa.string())
    return resolve_uris(lines, folder)
